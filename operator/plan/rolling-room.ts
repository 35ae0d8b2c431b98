/**
 * Where chains of the next revision find room: planned as if they were alone, on the memory that the others leave and
 * under numbers that the others do not bear.
 */
import { present } from "../../core/assert.ts";
import { type Effort, type NotWanted, decide } from "./decide.ts";
import { approvalOf } from "./digests.ts";
import { priceOf } from "./estimate.ts";
import { bytesOn } from "./footprint.ts";
import { rankName } from "./names.ts";
import { formKey, imageTagOf, modelOf, standingPlanOf } from "./revision.ts";
import type { Limits } from "./rollout.ts";
import { type Standing, keysOf, routesOf, segmentKey } from "./routes.ts";
import { isSound, priceCeiling } from "./soundness.ts";
import { touchedBy } from "./touched.ts";
import { proposalWords } from "./words/approval.ts";
import type { Assignment, Known, ModelSpec, NodeFacts, Placement, Plan, Refused, Rolls, Route, Side } from "./types.ts";

export type Doing = {
  readonly effort: Effort;
  /** Plans a world in which all ranks are to be of one revision. */
  readonly ordinary: (world: Known) => Plan;
};

/** A walk from the chains of `outgoing` to those of `target`. */
export type Walk = Doing & {
  readonly world: Known;
  readonly rolls: Rolls;
  readonly wish: string;
  readonly target: Side;
  readonly outgoing: readonly Side[];
  readonly refused: Refused | undefined;
};

export const NOTHING: Standing = { assignments: [], routes: [] };

export const EMPTY: Placement = { ...NOTHING, leftOut: [], estimate: { millisecondsPerToken: 0, bottleneck: "" } };

/** Whether the walk is to another plan of one revision: the chains on both sides are alike. */
export const isMove = ({ target, outgoing }: Pick<Walk, "target" | "outgoing">): boolean =>
  outgoing.length > 0 && outgoing.every(({ plan }) => plan.revision === target.plan.revision);

/** A plan is left for a better one by choice: whatever may be missing for a revision, for that one chain serves on. */
export function limitsOf({ rolls: { limits }, world, ...sides }: Walk): Limits {
  const missingCountMax = Math.max(0, world.model.replicas - 1);
  return isMove(sides) ? { ...limits, maxUnavailable: Math.min(limits.maxUnavailable, missingCountMax) } : limits;
}

/** The chains of the next revision that there are, with what a lost node forces on them. */
export function mended(walk: Walk): Placement {
  const { target, effort, world } = walk;
  const count = Math.min(routesOf(target.plan).length, world.model.replicas);
  if (count === 0) return EMPTY;
  const { basis: _, ...plan } = target.plan;
  const wanted = decide(alone(walk, modelOf(world.model, target), count, []), plan, effort);
  if (!("code" in wanted)) return wanted.placement;
  return { ...EMPTY, ...plan, routes: routesOf(plan) };
}

/** With one chain more of the next revision, once these old ones are gone; touches none that there is. */
export function oneMore(walk: Walk, without: readonly number[]): Placement | NotWanted {
  const { target, effort, world } = walk;
  const { basis: _, ...plan } = target.plan;
  const known = routesOf(plan);
  let refusal: NotWanted = { code: "NotEnoughRoom", detail: "no room beside the chains that there are" };
  for (const model of modelsToGrow(walk)) {
    const sub = together(walk, alone(walk, model, known.length + 1, without), without);
    const wanted = decide(sub, known.length === 0 ? undefined : plan, effort);
    if ("code" in wanted) refusal = wanted;
    else if (
      routesOf(wanted.placement).length === known.length + 1 &&
      touchedBy(world, plan, wanted.placement).length === 0
    )
      return wanted.placement;
  }
  return refusal;
}

/** The model of the next revision; where the planner may choose the slots, first with as many as there were. */
function modelsToGrow({ world, target, outgoing, refused }: Walk): readonly ModelSpec[] {
  if (routesOf(target.plan).length > 0 || refused !== undefined || isMove({ target, outgoing }))
    return [modelOf(world.model, target)];
  const { model } = world;
  const before = outgoing.at(-1)?.plan.slotCount;
  if (model.slotsByPlanner !== true || before === undefined) return [model];
  const { slotsByPlanner: _, ...fixed } = model;
  return [{ ...fixed, slotCount: before }, model];
}

export function modelToGrow(walk: Walk, { slotCount }: Placement): ModelSpec {
  const [first] = modelsToGrow(walk);
  const { slotsByPlanner: _, ...model } = present(first, "there is a model");
  return slotCount === undefined ? model : { ...model, slotCount };
}

export function revisionOfNext(walk: Walk, model: ModelSpec): string {
  const { target, rolls, outgoing } = walk;
  if (routesOf(target.plan).length > 0 || isMove(walk)) return target.plan.revision;
  const { revision: _, ...plain } = model;
  const imageTag = imageTagOf(rolls.image, outgoing);
  return formKey(imageTag === undefined ? plain : { ...plain, imageTag }, target.facts);
}

/** The world as the next revision's chains find it: less memory, some numbers taken, and wishes of all chains in proportion. */
export function alone(walk: Walk, model: ModelSpec, replicas: number, without: readonly number[]): Known {
  const { world, outgoing, target } = walk;
  const { surviveProviders = 0 } = model.placement;
  const survive = Math.max(0, surviveProviders - (world.model.replicas - replicas));
  const held = heldBeside(walk, without);
  const nodes = world.nodes.map(
    (node): NodeFacts => ({ ...node, freeBytes: node.freeBytes - bytesOn(node.name, held) }),
  );
  const numbers = outgoing.flatMap(({ plan }) => [
    ...plan.assignments.map(({ chain }) => chain),
    ...routesOf(plan).map(({ chain }) => chain),
  ]);
  return {
    ...world,
    model: { ...model, replicas, spares: 0, placement: { ...model.placement, surviveProviders: survive } },
    facts: target.facts,
    nodes,
    reservedChains: [...new Set(numbers)],
  };
}

/** Ranks that take memory beside the next revision's: of old chains, and what is yet to end. */
const heldBeside = (walk: Walk, without: readonly number[]): readonly Assignment[] => [
  ...oldBeside(walk, without),
  ...straysBeside(walk),
];

const oldBeside = ({ outgoing }: Walk, without: readonly number[]): readonly Assignment[] =>
  outgoing.flatMap(
    (side) =>
      onRoutes(
        routesOf(side.plan).filter(({ chain }) => !without.includes(chain)),
        side,
      ).assignments,
  );

/** Ranks that no chain has any more, until they have ended. */
export function straysBeside({ world, outgoing, target }: Walk): readonly Assignment[] {
  const { model } = world;
  const known = new Set(
    [target, ...outgoing].flatMap(({ plan }) => plan.assignments.map((each) => rankName(model, each))),
  );
  const strays = world.ranks.filter(({ name, phase }) => !known.has(name) && phase !== "Lost");
  return strays.map(({ assignment }) => assignment);
}

/** Paid for are the nodes of both revisions, each once: what more may be spent is what old chains leave of the ceiling. */
function together(walk: Walk, world: Known, without: readonly number[]): Known {
  return { ...world, ...billedTogether(world.model, world.nodes, oldBeside(walk, without)) };
}

/** A price ceiling less what nodes cost that others hold, which come for nothing then. Without a ceiling, all as it is. */
export function billedTogether(
  model: ModelSpec,
  nodes: readonly NodeFacts[],
  others: readonly Assignment[],
): { readonly model: ModelSpec; readonly nodes: readonly NodeFacts[] } {
  const ceiling = priceCeiling(model);
  if (ceiling === undefined) return { model, nodes };
  const spent = priceOf({ nodes: new Map(nodes.map((node) => [node.name, node])) }, others);
  const pricePerHourMax = ceiling > spent ? ceiling - spent : 0n;
  const { objective } = model;
  const held = new Set(others.map(({ node }) => node));
  return {
    model: {
      ...model,
      ...(objective?.kind === "Latency" ? { objective: { kind: "Latency" } } : {}),
      placement: { ...model.placement, pricePerHourMax },
    },
    nodes: nodes.map((node) => (held.has(node.name) ? { ...node, pricePerHour: 0n } : node)),
  };
}

/** The ranks on these routes, and no spares. */
export function onRoutes(routes: readonly Route[], { plan }: Pick<Side, "plan">): Standing {
  const used = new Set(routes.flatMap(keysOf));
  return { assignments: plan.assignments.filter((each) => used.has(segmentKey(each))), routes };
}

export type Awaited = { readonly words: string; readonly proposal: NonNullable<Plan["proposal"]> };

/** `planPolicy: Manual`: each chain of the next revision is let through by itself. What may be made, or what is waited for. */
export function consented(walk: Walk, placement: Placement): Placement | Awaited {
  const { world, target } = walk;
  if (world.model.planPolicy !== "Manual") return placement;
  const model = modelToGrow(walk, placement);
  const revision = revisionOfNext(walk, model);
  const { proposed } = world;
  const count = routesOf(placement).length;
  // What a person looks at stays what it is for as long as it could be carried out.
  const stays =
    proposed !== undefined &&
    proposed.revision === revision &&
    routesOf(proposed).length === count &&
    isSound(together(walk, alone(walk, model, count, []), []), proposed);
  const approval = approvalOf(stays ? proposed : standingPlanOf(revision, placement, model));
  const shown = stays ? { ...placement, ...proposed, routes: routesOf(proposed) } : placement;
  if (world.approved === approval) return shown;
  const proposal = { revision, placement: shown, approval };
  return { words: proposalWords(model, target.plan.assignments, proposal), proposal };
}
