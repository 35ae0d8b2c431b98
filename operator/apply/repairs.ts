/**
 * Repairs, as they are told in status and metrics: a rank on a route was ready and is not, for no reason of the
 * operator's, until every chain of the plan serves again. What is remembered lies in the objects' status, so an operator
 * that takes over goes on counting. Pure.
 */
import type { ShardedModelStatus } from "../../core/gen/crds/shardedmodel.ts";
import type { ShardPlan } from "../../core/gen/crds/shardplan.ts";
import { rankName } from "../plan/names.ts";
import { routesOf, sparesIn } from "../plan/routes.ts";
import type { Assignment, Plan, RankState, World } from "../plan/types.ts";

export type Repairs = NonNullable<ShardedModelStatus["repairs"]>;
type Repair = NonNullable<Repairs["last"]>;
export type Cause = Repair["cause"];
export type Loss = Pick<Repair, "rank" | "node" | "cause">;

/** A repair that is over. */
export type Repaired = { readonly cause: Cause; readonly seconds: number };

/** What is looked at: the plan's status as it was last written, and names of ranks that the operator itself took away. */
export type Before = {
  readonly reported: Pick<ShardPlan, "status"> | undefined;
  readonly takenAway: ReadonlySet<string>;
};

/** The first rank on a route of the plan in force, or of a chain on its way out, that was ready when last reported and is lost now. */
export function lossIn(
  { model, nodes, ranks, previous, rolls }: World,
  { reported, takenAway }: Before,
): Loss | undefined {
  const wasReady = new Set((reported?.status?.rankStates ?? []).flatMap(({ name, ready }) => (ready ? [name] : [])));
  if (previous === undefined || wasReady.size === 0) return undefined;
  const byName = new Map(ranks.map((rank) => [rank.name, rank]));
  const known = new Set(nodes.map(({ name }) => name));
  const spares = new Set(sparesIn(previous));
  const outgoing = (rolls?.outgoing ?? []).flatMap(({ plan }) => plan.assignments);
  for (const assignment of [...previous.assignments, ...outgoing]) {
    const rank = rankName(model, assignment);
    if (spares.has(assignment) || !wasReady.has(rank) || takenAway.has(rank)) continue;
    const cause = causeOf(assignment, byName.get(rank), known);
    if (cause !== undefined) return { rank, node: assignment.node, cause };
  }
  return undefined;
}

function causeOf({ node }: Assignment, rank: RankState | undefined, known: ReadonlySet<string>): Cause | undefined {
  if (!known.has(node) || rank?.phase === "Lost") return "NodeGone";
  switch (rank?.phase) {
    case "Ready":
      return undefined;
    case "Failed":
      return "RankFailed";
    case "Starting":
      return "RankRestarted";
    default:
      return "RankDeleted";
  }
}

/** What the status says next, and the repair that is over now, if one is. At most one is counted at a time. */
export function repairsAfter(
  before: Repairs | undefined,
  loss: Loss | undefined,
  plan: Pick<Plan, "placement" | "readyChainCount" | "rolled">,
  nowMs: number,
  replicaCount = Number.POSITIVE_INFINITY,
): { readonly repairs?: Repairs; readonly over?: Repaired } {
  const last = before?.last;
  const isUnderWay = last !== undefined && last.secondsToServe === undefined;
  if (loss !== undefined && !isUnderWay)
    return {
      repairs: { count: (before?.count ?? 0) + 1, last: { ...loss, startedAt: new Date(nowMs).toISOString() } },
    };
  if (before === undefined) return {};
  const serves = plan.placement !== undefined && plan.readyChainCount >= Math.min(chainCountOf(plan), replicaCount);
  if (!isUnderWay || loss !== undefined || !serves) return { repairs: before };
  const seconds = Math.max(0, nowMs - Date.parse(last.startedAt)) / 1000;
  const secondsToServe = Math.round(10 * seconds) / 10;
  return { repairs: { ...before, last: { ...last, secondsToServe } }, over: { cause: last.cause, seconds } };
}

/** Chains that are to serve: of a rollout those that are proven, and those before that do not drain. */
function chainCountOf({ placement, rolled }: Pick<Plan, "placement" | "rolled">): number {
  const plans = [placement ?? { assignments: [] }, ...(rolled?.outgoing ?? []).map(({ plan }) => plan)];
  const idle = new Set([...(rolled?.unproven ?? []), ...(rolled?.draining ?? [])]);
  return plans.flatMap(routesOf).filter(({ chain }) => !idle.has(chain)).length;
}

/** What the operator took away itself, which is no loss; and what is told of each model. */
export class RepairBook {
  readonly #takenAway = new Map<string, Set<string>>(); // by model: ranks that were not made anew yet

  /** What is lost already was not taken away by us. */
  takenAway({ model, ranks, nodes }: World, name: string): void {
    const rank = ranks.find((each) => each.name === name);
    const isOffered = nodes.some((node) => node.name === rank?.assignment.node);
    if (!isOffered || rank?.phase === "Lost" || rank?.phase === "Failed") return;
    const key = `${model.namespace}/${model.name}`;
    this.#takenAway.set(key, (this.#takenAway.get(key) ?? new Set()).add(name));
  }

  made(model: string, rank: string): void {
    this.#takenAway.get(model)?.delete(rank);
  }

  forget(model: string): void {
    this.#takenAway.delete(model);
  }

  look(
    world: World,
    plan: Plan,
    before: ShardedModelStatus | undefined,
    reported: Before["reported"],
    nowMs: number,
  ): ReturnType<typeof repairsIn> {
    const { namespace, name, replicas } = world.model;
    const takenAway = this.#takenAway.get(`${namespace}/${name}`) ?? new Set();
    return repairsIn(repairsAfter(before?.repairs, lossIn(world, { reported, takenAway }), plan, nowMs, replicas));
  }
}

/** As fields of the status: none where there was never a repair. */
const repairsIn = ({ repairs, over }: ReturnType<typeof repairsAfter>) => ({
  repairs: repairs === undefined ? {} : { repairs },
  over,
});
