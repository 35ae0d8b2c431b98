import { expect } from "chai";
import type { ShardedModel, ShardedModelStatus } from "../../core/gen/crds/shardedmodel.ts";
import { StoppedClock } from "../clock.ts";
import type { KubeClient } from "../kube/client.ts";
import type { EventRecorder } from "../kube/events.ts";
import { aModel, aNode, aWorld, roomForLayers } from "../plan/builders.ts";
import { plan } from "../plan/plan.ts";
import { inForce } from "../plan/standing-world.ts";
import type { Known } from "../plan/types.ts";
import type { Observed } from "./cluster.ts";
import { Reports } from "./reports.ts";

const fresh = aWorld(
  ["a", "b"].map((name) => aNode(name, { freeBytes: roomForLayers(14) })),
  aModel(),
);
const standing = inForce(fresh, plan(fresh));
const starting: Known = { ...standing, ranks: standing.ranks.map((rank) => ({ ...rank, phase: "Starting" })) };
const failing: Known = { ...fresh, nodes: [] };

describe("what is said of a new model", () => {
  /** When each of these looks, a second apart, has said something; and what it said of being ready. */
  async function said(world: Known, { isRush, seconds }: { readonly isRush: boolean; readonly seconds: number }) {
    const clock = new StoppedClock();
    const told: string[] = [];
    let object = { metadata: { name: "tiny", namespace: "default", resourceVersion: "1" } } as ShardedModel;
    const client = {
      apply: async (_: unknown, written: { readonly status: ShardedModelStatus }) => {
        const ready = written.status.conditions?.find(({ type }) => type === "Ready");
        told.push(`${clock.monotonicMs() / 1000} s: ${ready?.reason}`);
        object = { ...object, ...written, metadata: object.metadata };
        return object;
      },
    };
    const reports = new Reports({
      ...{ clock, client: client as unknown as KubeClient, isRush: () => isRush },
      events: { record: () => undefined } as unknown as EventRecorder,
    });
    for (let second = 0; second <= seconds; second += 1) {
      const observed = { world, object, read: [] } as unknown as Observed;
      await reports.reportModel(observed, plan(world), () => ({ fields: {}, onTold: () => undefined }));
      clock.advance(1_000);
    }
    return told;
  }

  it("comes at once where nothing else is to do, and only once", async () =>
    expect(await said(starting, { isRush: false, seconds: 12 })).to.deep.equal(["0 s: RanksStarting"]));

  it("comes ten seconds later in a rush while all goes well", async () =>
    expect(await said(starting, { isRush: true, seconds: 12 })).to.deep.equal(["10 s: RanksStarting"]));

  it("comes at once in a rush where something is wrong", async () => {
    const [first = "", ...others] = await said(failing, { isRush: true, seconds: 3 });
    expect(first).to.match(/^0 s/);
    expect(others).to.deep.equal([]);
  });
});
