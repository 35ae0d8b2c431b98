/** What a ShardedModel's status says of a plan. */
import type { ShardedModelStatus } from "../../core/gen/crds/shardedmodel.ts";
import { progressTogether } from "../../core/read-progress.ts";
import { formatCredits } from "../../core/units.ts";
import { type NewCondition, withTimes } from "../kube/conditions.ts";
import type { Placement, Plan, World } from "../plan/types.ts";
import { routesOf } from "../plan/routes.ts";
import { MODEL_LABEL } from "./labels.ts";

type StoredType = NonNullable<ShardedModelStatus["conditions"]>[number]["type"];

/** `before`: the status as it stands; `nowMs`: since 1970, for conditions that turn. */
export function modelStatus(
  world: World,
  plan: Plan,
  before: ShardedModelStatus | undefined,
  nowMs: number,
): ShardedModelStatus {
  const { model } = world;
  const said = [...plan.conditions, ...progressOf(plan.conditions)];
  const conditions = withTimes(before?.conditions, said, model.generation, nowMs);
  return {
    observedGeneration: model.generation,
    readyReplicas: plan.readyChainCount,
    chains: `${plan.readyChainCount}/${model.replicas}`,
    selector: `${MODEL_LABEL}=${model.name}`,
    ...placementStatus(world, plan.placement, before),
    ...(plan.asleep === undefined ? {} : { replicas: 0 }),
    ...progressStatus(world),
    ...rolloutStatus(plan, before, nowMs),
    conditions: conditions.map((condition) => ({ ...condition, type: conditionType(condition.type) })),
  };
}

/** Of a model whose chains are not all as the spec asks; `since` stays for as long as the phase does. */
function rolloutStatus(
  { rolled, placement }: Plan,
  before: ShardedModelStatus | undefined,
  nowMs: number,
): Pick<ShardedModelStatus, "rollout"> {
  const known = before?.rollout;
  const status = rolled?.status;
  if (status === undefined) return placement === undefined && known !== undefined ? { rollout: known } : {};
  const { phase, from, to, updatedCount: chainsUpdated } = status;
  const isSame = known?.phase === phase && known.from === from && known.to === to;
  return { rollout: { phase, from, to, chainsUpdated, since: isSame ? known.since : new Date(nowMs).toISOString() } };
}

/** Of the ranks that are reading now; nothing where none is, so that a model at rest has nothing to be written. */
function progressStatus({ ranks }: World): Pick<ShardedModelStatus, "progress"> {
  const progress = progressTogether(ranks.flatMap((rank) => (rank.phase === "Starting" ? (rank.progress ?? []) : [])));
  if (progress === undefined) return {};
  const percent = Math.floor((100 * progress.doneBytes) / Math.max(1, progress.totalBytes));
  return { progress: { ...progress, percent: `${percent}%` } };
}

const TYPES = ["Planned", "WeightsReady", "UpToDate", "Reconciling", "Stalled"] as const;

function conditionType(type: string): StoredType {
  return TYPES.find((each) => each === type) ?? "Ready";
}

/**
 * What kstatus reads, and with it Argo CD, Flux and others who know nothing of our conditions: Reconciling while something
 * comes by waiting, Stalled where a person has to do something. Neither where all is as the spec asks, as kstatus wants it.
 */
function progressOf(conditions: Plan["conditions"]): readonly NewCondition[] {
  const failing = conditions.filter(({ type, status }) => status === "False" && type !== "WeightsReady");
  const stuck = failing.find(({ reason }) => STALLS.has(reason));
  const type = stuck === undefined ? "Reconciling" : "Stalled";
  const told = stuck ?? failing[0];
  return told === undefined ? [] : [{ type, status: "True", reason: told.reason, message: told.message }];
}

/** Nothing but another spec, another source or somebody's consent changes these. */
const STALLS: ReadonlySet<string> = new Set([
  "AwaitsApproval",
  "DigestMismatch",
  "MalformedConfig",
  "MalformedManifest",
  "MissingManifest",
  "NoRoomToRoll",
  "RolledBack",
  "UnknownModelType",
  "UnsupportedOption",
  "WrongRoot",
]);

/** Whether a condition that turned deserves a warning: it will not come right by waiting. */
export const isTrouble = (type: string, value: string, reason: string): boolean =>
  reason === "BrakeHolds" ||
  reason === "DrainBlocked" ||
  (value === "False" && (type === "Planned" || TROUBLES.has(reason)));

/**
 * Whether an event tells of a condition that turned. That a model is planned its plan's own event has said; how far ranks
 * are, and that nothing is ready at first, is for the status alone. `wasThere`: the condition, before it turned.
 */
export const isHappening = ({ type, status, reason }: NewCondition, wasThere: boolean): boolean =>
  isTrouble(type, status, reason) || MOVES.has(reason) || (type === "Ready" && (status === "True" || wasThere));

const MOVES: ReadonlySet<string> = new Set(["Moving", "BetterPlanWaits"]);

const TROUBLES: ReadonlySet<string> = new Set(["ProbeFailed", "NoRoomToRoll", "RollingBack", "RolledBack"]);

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
