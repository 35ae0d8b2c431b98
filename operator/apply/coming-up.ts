/**
 * Which changes of a rank's pod may wait for others of its chain. A chain serves once all of its ranks are ready, and its
 * model is looked at every few seconds until then: that a pod was made, or is ready before the others, leads to nothing
 * but a figure in a status. Of a thousand models every such look delays another model.
 */
import type { KubeObject } from "../kube/objects.ts";
import type { Change } from "../kube/reflector.ts";
import { CHAIN_LABEL } from "./labels.ts";
import { asPlan } from "./observe.ts";
import { podHasEnded, podIsReady } from "./rank-state.ts";

/** `plan`: the model's, as far as it is known; `pods`: the model's, the changed one among them. */
export function comesUpWithOthers(change: Change, plan: KubeObject | undefined, pods: readonly KubeObject[]): boolean {
  const { object } = change;
  if (change.type === "deleted" || podHasEnded(object)) return false;
  if (!podIsReady(object)) return change.type === "added"; // why one does not come up is said at once
  if (change.type === "changed" && podIsReady(change.before)) return false;
  const chain = chainOf(object);
  const count = rankCount(plan, chain);
  return pods.filter((pod) => chainOf(pod) === chain && podIsReady(pod)).length < count;
}

const chainOf = ({ metadata }: KubeObject): string | undefined => metadata.labels?.[CHAIN_LABEL];

/** Ranks at home in the chain; none of one that the plan does not know. */
function rankCount(plan: KubeObject | undefined, chain: string | undefined): number {
  const segments = plan && asPlan(plan).spec.chains.find(({ index }) => String(index) === chain)?.segments;
  return (segments ?? []).reduce((sum, { ranks }) => sum + ranks.length, 0);
}
