/** What a ShardedModel's status says of a plan. */
import type { ShardedModelStatus } from "../../core/gen/crds/shardedmodel.ts";
import { progressTogether } from "../../core/read-progress.ts";
import { formatCredits } from "../../core/units.ts";
import { withTimes } from "../kube/conditions.ts";
import type { Placement, Plan, World } from "../plan/types.ts";
import { routesOf } from "../plan/routes.ts";
import { MODEL_LABEL } from "./labels.ts";

/** `before`: the status as it stands; `nowMs`: since 1970, for conditions that turn. */
export function modelStatus(
  world: World,
  plan: Plan,
  before: ShardedModelStatus | undefined,
  nowMs: number,
): ShardedModelStatus {
  const { model } = world;
  const conditions = withTimes(before?.conditions, plan.conditions, model.generation, nowMs);
  return {
    observedGeneration: model.generation,
    readyReplicas: plan.readyChainCount,
    chains: `${plan.readyChainCount}/${model.replicas}`,
    selector: `${MODEL_LABEL}=${model.name}`,
    ...placementStatus(world, plan.placement, before),
    ...(plan.asleep === undefined ? {} : { replicas: 0 }),
    ...progressStatus(world),
    conditions: conditions.map((condition) => ({ ...condition, type: conditionType(condition.type) })),
  };
}

/** Of the ranks that are reading now; nothing where none is, so that a model at rest has nothing to be written. */
function progressStatus({ ranks }: World): Pick<ShardedModelStatus, "progress"> {
  const progress = progressTogether(ranks.flatMap((rank) => (rank.phase === "Starting" ? (rank.progress ?? []) : [])));
  if (progress === undefined) return {};
  const percent = Math.floor((100 * progress.doneBytes) / Math.max(1, progress.totalBytes));
  return { progress: { ...progress, percent: `${percent}%` } };
}

function conditionType(type: string): "Planned" | "WeightsReady" | "Ready" {
  return type === "Planned" || type === "WeightsReady" ? type : "Ready";
}

/** Whether a condition that turned deserves a warning: it will not come right by waiting. */
export const isTrouble = (type: string, value: string, reason: string): boolean =>
  reason === "BrakeHolds" || (value === "False" && (type === "Planned" || reason === "ProbeFailed"));

/** What the status says about the plan in force; where none can be made, what it said before stays. */
function placementStatus(
  { model, facts }: World,
  placement: Placement | undefined,
  before: ShardedModelStatus | undefined,
): Partial<ShardedModelStatus> {
  if (placement === undefined || "code" in facts) {
    const { replicas = 0, root, plan, providerCount, estimate } = before ?? {};
    return {
      replicas,
      ...(root === undefined ? {} : { root }),
      ...(plan === undefined ? {} : { plan }),
      ...(providerCount === undefined ? {} : { providerCount }),
      ...(estimate === undefined ? {} : { estimate }),
    };
  }
  const { assignments, estimate } = placement;
  const chainCount = routesOf(placement).length;
  const { millisecondsPerToken, bottleneck, tokensPerSecond, pricePerHour, isEstimated } = estimate;
  return {
    replicas: chainCount,
    root: facts.root,
    plan: model.name,
    providerCount: new Set(assignments.map(({ provider }) => provider)).size,
    ...(millisecondsPerToken > 0
      ? {
          estimate: {
            tokensPerSecond: (tokensPerSecond ?? (1000 * chainCount) / millisecondsPerToken).toFixed(1),
            millisecondsPerToken: millisecondsPerToken.toFixed(1),
            bottleneck,
            ...(pricePerHour === undefined ? {} : { pricePerHour: formatCredits(pricePerHour) }),
            ...(isEstimated === undefined ? {} : { estimated: isEstimated }),
          },
        }
      : {}),
  };
}
