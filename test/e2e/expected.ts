/** What the demo's steps expect of ranks, pods and logs, in one place each. */
import { expect } from "chai";
import type { Pod } from "../cluster/kube-types.ts";
import type { Golden } from "../golden/demo-goldens.ts";
import { until } from "../until.ts";
import type { ModelWatch, RankPod } from "./model-watch.ts";
import { type Loaded, loadedText } from "./rollouts.ts";
import type { Timeline } from "./timeline.ts";

/** The end of a log, or why there is none: a container that never started has not written one. */
export function lastLines(log: () => string | undefined): string {
  try {
    return (log() ?? "").split("\n").slice(-40).join("\n");
  } catch (error) {
    return String(error);
  }
}

/** Every other rank is the very same pod; in the victim's place is another one of the same name, on `node`. */
export function expectOnlyReplaced(
  before: readonly RankPod[],
  now: readonly RankPod[],
  victim: RankPod,
  node: string,
): void {
  const others = (ranks: readonly RankPod[]) => ranks.filter(({ name }) => name !== victim.name);
  expect(others(now)).to.deep.equal(others(before));
  const successor = now.find(({ name }) => name === victim.name);
  expect(successor).to.include({ node, restartCount: 0 });
  expect(successor?.uid).not.to.equal(victim.uid);
}

export const holdsToken = ({ spec }: Pod): boolean =>
  (spec.volumes ?? []).some(({ projected }) => projected?.sources?.some((source) => source.serviceAccountToken));

export const first = (goldens: readonly Golden[]): Golden => {
  const [golden] = goldens;
  if (golden === undefined) throw new Error("test/golden/demo/goldens.json holds no chat");
  return golden;
};

export const longest = (goldens: readonly Golden[]): Golden =>
  goldens.reduce((most, golden) => (golden.answer.length > most.answer.length ? golden : most), first(goldens));

/** No question failed, Ready stayed as it was, and one chain is left: the very same where it `stays`, else another. */
export async function expectUnharmed(
  { watch, timeline }: { readonly watch: ModelWatch; readonly timeline: Timeline },
  what: string,
  stays: boolean,
  work: () => Promise<Loaded>,
): Promise<void> {
  const before = await watch.ranks();
  const mark = watch.mark;
  const loaded = await timeline.phase(what, work);
  timeline.note(loadedText(loaded));
  expect(loaded.failures).to.deep.equal([]);
  expect(loaded.answeredCount).to.be.greaterThan(0);
  await until("one chain to be left", async () => (await watch.ranks()).length === before.length);
  expect(watch.mark, "Ready stayed as it was").to.equal(mark);
  const uids = new Set(before.map(({ uid }) => uid));
  const keptCount = (await watch.ranks()).filter(({ uid }) => uids.has(uid)).length;
  expect(keptCount, "ranks that stayed").to.equal(stays ? before.length : 0);
}
