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
 * did is not written down, so where only some served nothing is taken over; but while a revision is rolled out, the plan
 * says of which chains nothing has been seen yet (`unproven`).
 */
export function inheritedProbes(
  model: ModelSpec,
  [previous, ...outgoing]: readonly StandingPlan[],
  status: ShardedModelStatus | undefined,
  pods: readonly KubeObject[],
  unproven: readonly number[] | undefined,
): readonly KnownProbe[] {
  if (previous === undefined) return [];
  const ready = status?.conditions?.some((condition) => condition.type === "Ready" && condition.status === "True");
  if (ready !== true) return [];
  if (unproven === undefined && (status?.readyReplicas ?? 0) < routesOf(previous).length) return [];
  return [previous, ...outgoing].flatMap((plan) =>
    routesOf(plan)
      .filter(({ chain }) => unproven?.includes(chain) !== true)
      .map(({ chain }) => {
        const instance = chainInstance(model, plan, pods, chain);
        return { chain, passed: true, detail: "", hearsay: true, instance };
      }),
  );
}
