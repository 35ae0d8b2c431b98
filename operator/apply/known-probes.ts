/** What is known of chains that somebody sent a token through: by us, or by the operator before. */
import type { ShardedModelStatus } from "../../core/gen/crds/shardedmodel.ts";
import type { KubeObject } from "../kube/objects.ts";
import { routesOf } from "../plan/routes.ts";
import type { ModelSpec, Probe, StandingPlan } from "../plan/types.ts";
import { chainInstance } from "./observe.ts";

/** `instance`: the processes that it speaks of. */
export type KnownProbe = Probe & { readonly instance: string };

/**
 * What this operator takes over from the one before: where all chains served, they do, whoever leads. Which of several
 * did is not written down, so where only some served nothing is taken over.
 */
export function inheritedProbes(
  model: ModelSpec,
  previous: StandingPlan | undefined,
  status: ShardedModelStatus | undefined,
  pods: readonly KubeObject[],
): readonly KnownProbe[] {
  if (previous === undefined) return [];
  const chains = routesOf(previous).map(({ chain }) => chain);
  const ready = status?.conditions?.some((condition) => condition.type === "Ready" && condition.status === "True");
  if (ready !== true || (status?.readyReplicas ?? 0) < chains.length) return [];
  return chains.map((chain) => ({
    chain,
    passed: true,
    detail: "",
    hearsay: true,
    instance: chainInstance(model, previous, pods, chain),
  }));
}
