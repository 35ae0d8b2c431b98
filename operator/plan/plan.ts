/**
 * What should change, and what we say about it, given everything we saw. Sticky: the plan in force is kept wherever no
 * rule forbids it, so that losing one rank moves one rank. Nothing is evicted because somebody did not answer; only a
 * rank that ended, or whose node is gone, is replaced.
 */
import { withBrake } from "./brake.ts";
import { hasPassed, readiness, weightsReady } from "./conditions.ts";
import { type Effort, type NotWanted, type Wanted, decide } from "./decide.ts";
import { approvalOf } from "./digests.ts";
import { gated, gently, parted, withLeaving } from "./leaving.ts";
import { plannedModel } from "./model-spec.ts";
import { rankName } from "./names.ts";
import { ranksDue, readyChains } from "./ranks-due.ts";
import { revisionOf, standingPlanOf } from "./revision.ts";
import { planRolling } from "./rolling.ts";
import { ranksOn, routesOf, segmentsOf } from "./routes.ts";
import { sleepOf, sleeping } from "./sleep.ts";
import { isSound, overfullNode } from "./soundness.ts";
import { proposalWords } from "./words/approval.ts";
import { plannedSentence } from "./words/plan-words.ts";
import { refusalWords } from "./words/remedies.ts";
import type { Condition, Known, Placement, Plan, Route, StandingPlan, Stuck, World } from "./types.ts";

export const plan = (world: World, effort: Effort = {}): Plan => withBrake(world, unbraked(world, effort));

function unbraked(world: World, effort: Effort): Plan {
  const { model: asked, facts, previous } = world;
  const asleep = sleepOf(world);
  if (asleep !== undefined && previous !== undefined) return sleeping(world, previous, asleep);
  if ("code" in facts) return standing(world, "", facts.code, facts.detail);
  if (asked.digest !== undefined && asked.digest !== facts.root) {
    const detail = `spec.model.digest is ${asked.digest}, and the source holds ${facts.root}: correct the digest or the source`;
    return standing(world, "", "DigestMismatch", detail);
  }
  const known: Known = { ...world, facts };
  const { rolls } = world;
  if (rolls === undefined) return planned(known, effort);
  return planRolling(known, rolls, { effort, ordinary: (one) => planned(one, effort) });
}

const planned = (world: Known, effort: Effort): Plan => plannedApart(parted(world), effort);

/** With ranks of one revision only: those of another are deleted and made anew. */
function plannedApart(world: Known, effort: Effort): Plan {
  const { model: asked, facts, previous } = world;
  // What the planner chose stays chosen: other slots would be other ranks.
  const model = asked.slotsByPlanner === true ? plannedModel(asked, previous ?? {}) : asked;
  const known: Known = { ...world, model, facts };
  const revision = revisionOf(model, facts);
  const inForce = previous?.revision === revision && mayWake(known, previous) ? previous : undefined;
  if (inForce === undefined && asked.revision !== undefined) {
    const { revision: _, ...afresh } = asked; // nothing of it stands, so it need not be called so
    return plannedApart({ ...world, model: afresh }, effort);
  }
  const wanted = decide(inForce === undefined ? { ...known, model: asked } : known, inForce, effort);
  if ("code" in wanted) return standing(world, revision, wanted.code, wayOut(known, wanted, effort));
  if (asked.planPolicy === "Manual") return approved(known, inForce, wanted);
  return asWanted(known, wanted);
}

function asWanted(world: Known, { placement, why, stuck, better }: Wanted): Plan {
  const plan = carriedOut(world, placement, `${why}${plannedSentence(placement)}`, stuck);
  return better === undefined ? plan : { ...plan, better };
}

/** While a model sleeps its memory is others'; where they hold it now, it is placed afresh. */
function mayWake({ nodes }: Known, { asleep, assignments }: StandingPlan): boolean {
  const byName = new Map(nodes.map((node) => [node.name, node]));
  const here = assignments.filter(({ node }) => byName.has(node)); // what was on others moves alone
  return asleep === undefined || overfullNode(byName, here) === undefined;
}

/** Why nothing fits, and the smallest changes that would make it fit. */
const wayOut = (world: Known, refusal: NotWanted, { remedyPlanCountMax }: Effort): string =>
  refusalWords(world, refusal, remedyPlanCountMax === undefined ? {} : { planCountMax: remedyPlanCountMax });

/** What is to be done and said so that this placement is so. */
function carriedOut(world: Known, wanted: Placement, message: string, stuck: readonly Stuck[] = []): Plan {
  const { ranks, facts, previous } = world;
  const model = plannedModel(world.model, wanted);
  const revision = revisionOf(model, facts);
  // Ranks of another revision are deleted: with none of them anything goes on.
  const isSame = previous?.revision === revision;
  const gentle = isSame ? gently(world, wanted) : undefined;
  const { placement, leaving, trial } =
    gentle === undefined
      ? { placement: wanted, leaving: undefined, trial: [] }
      : gated(world, gentle.placement, gentle.leaving);
  const { assignments } = placement;
  const all = withLeaving(placement, leaving, trial);
  const changes = ranksDue(model, revision, all, ranks);
  const ready = readyChains(model, revision, placement, ranks);
  const beside = readyChains(model, revision, all, ranks);
  const isIn = (routes: readonly Route[] | undefined) => (chain: number) =>
    routes?.some((route) => route.chain === chain) === true;
  const leavingReady = beside.filter(isIn(leaving?.routes));
  const isPassed = (chain: number) => hasPassed(world, chain);
  const serving = [...ready.filter(isPassed), ...leavingReady.filter(isPassed)].slice(0, routesOf(placement).length);
  const seen = world.probes.filter(({ passed, hearsay }) => passed && !hearsay).map(({ chain }) => chain);
  const probes = [...ready, ...beside.filter(isIn(trial))]
    .filter((chain) => !seen.includes(chain))
    .map((chain) => ({ do: "probe", chain }) as const);
  return {
    revision,
    placement,
    ...(leaving === undefined || leaving.routes.length === 0 ? {} : { leaving }),
    ...(trial.length === 0 ? {} : { trial }),
    actions: [...changes, ...probes],
    conditions: [
      { type: "Planned", status: "True", ...plannedWords(message, stuck) },
      weightsReady(model, assignments, ranks),
      readiness({ ...world, model }, ready, serving),
    ],
    readyChainCount: serving.length,
    ...(stuck.length === 0 ? {} : { stuck }),
  };
}

function plannedWords(message: string, stuck: readonly Stuck[]): Pick<Condition, "reason" | "message"> {
  if (stuck.length === 0) return { reason: "Placed", message };
  const words = stuck.map(({ node, why }) => `node ${node} is drained and keeps what it holds: ${why}`);
  return { reason: "DrainBlocked", message: [...words, message].join("; ") };
}

/** `planPolicy: Manual`: what would move anything waits until a person has let that very plan through. */
function approved(world: Known, inForce: StandingPlan | undefined, wanted: Wanted): Plan {
  const { model, facts } = world;
  const revision = revisionOf(plannedModel(model, wanted.placement), facts);
  const fresh = standingPlanOf(revision, wanted.placement, model);
  if (inForce !== undefined && approvalOf(fresh) === approvalOf(inForce)) return asWanted(world, wanted);
  // What a person looks at stays what it is for as long as it could be carried out.
  const { proposed } = world;
  const stays = proposed !== undefined && proposed.revision === revision && isSound(world, proposed);
  const approval = approvalOf(stays ? proposed : fresh);
  const placement = stays ? asPlacement(wanted.placement, proposed, wanted.placement.basis) : wanted.placement;
  if (world.approved === approval) return carriedOut(world, placement, plannedSentence(placement));
  const proposal = { revision, placement, approval };
  const waits = proposalWords(model, inForce?.assignments ?? [], proposal, wanted.why);
  if (inForce === undefined) return { ...standing(world, revision, "AwaitsApproval", waits), proposal };
  const kept = carriedOut(world, asPlacement(wanted.placement, inForce, inForce.basis), waits);
  return {
    ...kept,
    // The ranks of nodes that are gone have nowhere to be made until somebody says where.
    actions: kept.actions.filter(
      (action) => action.do !== "create-rank" || world.nodes.some(({ name }) => name === action.assignment.node),
    ),
    conditions: kept.conditions.map((condition) =>
      condition.type === "Planned" ? { ...condition, reason: "AwaitsApproval" } : condition,
    ),
    proposal,
  };
}

/** The ranks and routes of a plan that was written down, with what is said of the nodes now. */
function asPlacement({ leftOut, estimate }: Placement, plan: StandingPlan, basis: string | undefined): Placement {
  const { assignments, slotCount } = plan;
  const routes = routesOf(plan);
  const held = new Set(assignments.map(({ node }) => node));
  return {
    assignments,
    routes,
    leftOut: leftOut.filter(({ node }) => !held.has(node)),
    estimate: routes.length === 0 ? estimate : { ...estimate, ...figuresIn(plan) },
    ...(slotCount === undefined ? {} : { slotCount }),
    ...(basis === undefined ? {} : { basis }),
  };
}

/** What a plan's own routes say of it. */
function figuresIn(plan: StandingPlan): Pick<Placement["estimate"], "millisecondsPerToken" | "tokensPerSecond"> {
  const routes = routesOf(plan);
  return {
    millisecondsPerToken: Math.max(...routes.map(({ millisecondsPerToken }) => millisecondsPerToken)),
    tokensPerSecond: routes.reduce((sum, { tokensPerSecond }) => sum + tokensPerSecond, 0),
  };
}

/** Nothing can be planned: what runs goes on running, and the conditions say why. */
function standing(world: World, revision: string, code: string, detail: string): Plan {
  const serving = servingNow(world);
  const planned: Condition = { type: "Planned", status: "False", reason: code, message: detail };
  return {
    revision,
    placement: undefined,
    actions: [],
    conditions: [
      planned,
      { type: "WeightsReady", status: "Unknown", reason: "NotPlanned", message: "nothing is planned" },
      serving.length > 0
        ? { type: "Ready", status: "True", reason: "Serving", message: "the plan in force still serves" }
        : { type: "Ready", status: "False", reason: code, message: detail },
    ],
    readyChainCount: serving.length,
  };
}

/** Chains of the plan in force whose ranks are all ready and that a probe has gone through. */
function servingNow(world: World): readonly number[] {
  const { ranks, previous, model } = world;
  const routed = previous ?? { assignments: ranks.map(({ assignment }) => assignment) };
  const ready = new Set(ranks.filter(({ phase }) => phase === "Ready").map(({ name }) => name));
  const groups = segmentsOf(routed.assignments);
  return routesOf(routed)
    .filter((route) => hasPassed(world, route.chain))
    .filter((route) =>
      ranksOn(route, groups).every(
        (group) => group.length > 0 && group.every((rank) => ready.has(rankName(model, rank))),
      ),
    )
    .map(({ chain }) => chain);
}
