import type { Context } from "mocha";
import { requireOrSkip, whyNoProcessKubelet } from "../requirement.ts";
import { type Stage, setStage } from "./stage.ts";
import { tellWhatIsKnown } from "./telling.ts";
import type { Timeline } from "./timeline.ts";

/**
 * Hooks of a suite: sets the stage and hands it to `onSet`; at the end awaits `beforeEnd`, tells what the cluster knows
 * where a test failed, takes the stage down and prints the timeline.
 */
export function onStage(timeline: Timeline, onSet: (stage: Stage) => void, beforeEnd: () => Promise<void>): void {
  let stage: Stage | undefined;
  before(async function (this: Context) {
    requireOrSkip(this, whyNoProcessKubelet());
    this.timeout(1_500_000); // the first time the control plane is built
    stage = await timeline.phase("control plane, machines, node agents", setStage);
    onSet(stage);
  });
  after(async function (this: Context) {
    await beforeEnd();
    const hasFailed = this.test?.parent?.tests.some(({ state }) => state === "failed");
    if (stage !== undefined && hasFailed) {
      const { controlPlane } = stage;
      await tellWhatIsKnown((...args) => controlPlane.kubectl(args), stage);
    }
    await stage?.controlPlane.stop();
    console.log(`\n${timeline.text()}\n`);
  });
}
