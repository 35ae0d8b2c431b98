/**
 * Which placement is wanted now. The plan in force is kept wherever no rule forbids it: shards of lost nodes move alone,
 * missing chains are added beside the others, and a better plan is looked for only when something has changed that it
 * would follow from, and only named if it gains more than the moving costs: moving.ts says whether and how it is moved to.
 */
import { GAIN_MIN_PERCENT, basisOf } from "./digests.ts";
import { type Estimated, estimated, gainOf } from "./estimate.ts";
import { banOf, eligible, paceOf } from "./holders.ts";
import { leftOutOf } from "./left-out.ts";
import { plannedModel } from "./model-spec.ts";
import { chainsApart, missingChains, withChains } from "./more-chains.ts";
import { SPARE_CHAIN_FIRST, rankName } from "./names.ts";
import { type PlaceOptions, place } from "./place.ts";
import { readyChains } from "./ranks-due.ts";
import { repaired } from "./repair.ts";
import { type Routed, type Standing, isWhole, keysOf, routesOf, segmentKey, segmentsOf, sparesIn } from "./routes.ts";
import { type Grounds, groundsOf } from "./sites.ts";
import { type Judged, brokenWishes } from "./soundness.ts";
import { withSpares } from "./spares.ts";
import { stuckOn } from "./stuck.ts";
import { isSameShard, touchedBy } from "./touched.ts";
import type { Assignment, Known, LeftOut, ModelSpec, NodeFacts, Placement, StandingPlan, Stuck } from "./types.ts";

/** The basis of a plan that was forced: whether there is a better one has not been looked for yet. */
const UNSEEN = "unseen";

export type Wanted = {
  readonly placement: Placement;
  readonly why: string;
  readonly isForced?: true;
  readonly better?: Placement; // worth moving to, where that pauses nothing
  readonly stuck?: readonly Stuck[];
};
/** How long to search, where a search is needed. */
export type Effort = Pick<PlaceOptions, "evaluationCount" | "isDraft"> & {
  readonly remedyPlanCountMax?: number; // plans that are tried for a way out where nothing fits; 0: none is said
};
export type NotWanted = { readonly code: string; readonly detail: string };

/** `inForce`: the plan that ranks were made by, if they still serve this model in this form. */
export function decide(world: Known, inForce: StandingPlan | undefined, effort: Effort = {}): Wanted | NotWanted {
  const steady = inForce === undefined ? world : { ...world, nodes: asHeld(world.nodes, inForce) };
  const basis = basisOf(steady);
  const drafting = { ...effort, isDraft: true } as const; // reasons are found for the plan that is taken, see finished
  const wanted = inForce === undefined ? afresh(world, "", drafting) : goingOn(world, inForce, basis, drafting);
  if ("code" in wanted) return wanted;
  const known = { ...world, model: plannedModel(world.model, wanted.placement) };
  const done = finished(known, wanted, wanted.isForced === true ? (inForce?.basis ?? UNSEEN) : basis, effort);
  return wanted.better === undefined ? done : { ...done, better: wanted.better };
}

/** A node that holds a part and only does not answer goes on holding it: what runs there may serve on. */
function asHeld(nodes: readonly NodeFacts[], inForce: StandingPlan): readonly NodeFacts[] {
  const held = nodesHeld(inForce);
  return nodes.map((node) => (held.has(node.name) && !node.ready ? { ...node, ready: true } : node));
}

function afresh(world: Known, why: string, effort: Effort): Wanted | NotWanted {
  const placed = place(world, effort);
  if (!placed.ok) return { code: placed.code, detail: `${why}${placed.detail}` };
  return { placement: withRoomForSpares(world, placed.value, effort), why };
}

/** Nodes that are tried as places for spares, slowest first: each is a search. */
const SPARE_TRIAL_COUNT_MAX = 4;

/** Spares that find no room beside the placement. */
function lackOf(world: Known, placement: Placement): number {
  const grounds = groundsNow({ ...world, model: plannedModel(world.model, placement) });
  return withSpares(grounds, { ...placement, routes: routesOf(placement) }, world.reservedChains).lackCount;
}

/** Every node has its use, so none would be left for spares: the plan does without the slowest that will do as one. */
function withRoomForSpares(world: Known, placed: Placement, effort: Effort): Placement {
  let best = placed;
  let lack = lackOf(world, placed);
  let kept = new Set<string>();
  for (let round = 0; lack > 0 && round < (world.model.spares ?? 0); round++) {
    const used = nodesHeld(best);
    const inTurn = eligible(world.model, world.nodes)
      .nodes.filter(({ name }) => used.has(name))
      .sort((a, b) => paceOf(a) - paceOf(b) || (a.name < b.name ? -1 : 1));
    const found = inTurn.slice(0, SPARE_TRIAL_COUNT_MAX).flatMap(({ name }) => {
      const without = new Set([...kept, name]);
      const trial = place({ ...world, nodes: world.nodes.filter((node) => !without.has(node.name)) }, effort);
      return trial.ok && lackOf(world, trial.value) < lack ? [{ without, placement: trial.value }] : [];
    })[0];
    if (found === undefined) break;
    best = found.placement;
    kept = found.without;
    lack = lackOf(world, best);
  }
  return best;
}

/**
 * As little as the rules force: single shards, else the chains that they belonged to, else whatever it takes. Better
 * plans come after, once everything stands.
 */
function goingOn(world: Known, inForce: StandingPlan, basis: string, effort: Effort): Wanted | NotWanted {
  const gone = new Map([...bannedNodes(world, inForce), ...drainedNodes(world, inForce)]);
  const nodes = asHeld(world.nodes, inForce).filter(({ name }) => !gone.has(name));
  const judged: Judged = { ...world, nodes: new Map(nodes.map((node) => [node.name, node])) };
  const steady = { ...world, nodes };
  const why = [...gone.values()].map((ban) => `node ${ban.node}: ${ban.why}; `).join("");
  const kept = keptOf(world, inForce);
  // What is made anew goes to nodes that answer.
  const fixed = repaired(world, judged, kept);
  if (fixed === undefined) return forced(around(steady, world, judged, kept, why, effort));
  const missing = missingChains(world, fixed.routes);
  const whole = missing.length === 0 ? fixed : withChains(world, fixed, missing, effort);
  const broken = whole === undefined ? ["more chains are asked for"] : brokenWishes(judged, whole);
  if (whole === undefined || broken.length > 0) {
    const reason = whole === undefined ? why : `${why}${broken[0]}; `;
    return forced(anew(steady, world, fixed, reason, effort) ?? afresh(world, reason, effort));
  }
  const moved = fixed.moved.length === 0 ? "" : `moved ${fixed.moved.join(", ")}; `;
  const known = asPlacement(whole, inForce.slotCount);
  const declined = inForce.better?.whyNot === undefined ? {} : { better: inForce.better };
  const stays: Wanted = { placement: { ...known, ...declined }, why: `${why}${moved}` };
  if (moved !== "" || missing.length > 0) return forced(stays);
  if (inForce.basis === undefined || inForce.basis === basis) return stays;
  if (!isSettled(world, inForce)) return forced(stays);
  const found = better(steady, world, whole, effort);
  if (found === undefined) return { ...stays, placement: known };
  return isServedByRanks(world, inForce) ? { ...stays, better: found.placement } : found;
}

/** Whether moving ranks where they stand would cost requests; a world without a memory for chains moves them so. */
const isServedByRanks = ({ model, ranks, rolls }: Known, inForce: StandingPlan): boolean =>
  rolls !== undefined && readyChains(model, inForce.revision, inForce, ranks).length > 0;

/** Nodes that hold a part and must not any more, with why. */
function bannedNodes({ model, nodes }: Known, inForce: StandingPlan): ReadonlyMap<string, LeftOut> {
  const held = nodesHeld(inForce);
  const bans = nodes.flatMap((node) => (held.has(node.name) ? (banOf(model, node) ?? []) : []));
  return new Map(bans.sort((a, b) => (a.node < b.node ? -1 : 1)).map((ban) => [ban.node, ban]));
}

/** Nodes that are to be drained and that nothing of this plan needs any more: what they held was evicted, or is loaded elsewhere. */
function drainedNodes({ model, nodes, ranks }: Known, inForce: StandingPlan): ReadonlyMap<string, LeftOut> {
  const byName = new Map(ranks.map((rank) => [rank.name, rank]));
  const spares = new Set(sparesIn(inForce));
  const isReady = (each: Assignment) => {
    const rank = byName.get(rankName(model, each));
    return rank?.phase === "Ready" && isSameShard(rank.assignment, each);
  };
  const isEvicted = (each: Assignment) =>
    ["Missing", "Leaving"].includes(byName.get(rankName(model, each))?.phase ?? "Missing");
  const hasCopy = ({ layers, node }: Assignment) =>
    [...spares].some(
      (spare) =>
        spare.layers.start === layers.start && spare.layers.end === layers.end && spare.node !== node && isReady(spare),
    );
  const left = nodes.flatMap(({ name, leaving, leavingWhy }): readonly LeftOut[] => {
    const own = inForce.assignments.filter(({ node }) => node === name);
    if (leaving === undefined || own.length === 0) return [];
    if (own.every(isEvicted)) return [{ node: name, code: leaving, why: "what it held was evicted" }];
    if (leaving === "Drained" && own.every((each) => spares.has(each) || hasCopy(each)))
      return [
        { node: name, code: leaving, why: `${leavingWhy ?? "it is drained"}, and what it held is loaded elsewhere` },
      ];
    return [];
  });
  return new Map(left.map((each) => [each.node, each]));
}

const forced = (wanted: Wanted | NotWanted): Wanted | NotWanted =>
  "code" in wanted ? wanted : { ...wanted, isForced: true };

/** Whether all ranks are ready, or have failed for reasons of their own; a world without ranks is one on paper. */
function isSettled({ ranks, model, nodes, held, leaving }: Known, { assignments, asleep }: StandingPlan): boolean {
  if (asleep !== undefined) return false; // it wakes: where its caches are
  if (leaving !== undefined || held !== undefined || nodes.some(({ leaving }) => leaving === "Drained")) return false; // first things first
  if (ranks.length === 0) return true;
  const phases = new Map(ranks.map(({ name, phase }) => [name, phase]));
  return assignments.every((each) => ["Ready", "Failed"].includes(phases.get(rankName(model, each)) ?? "Missing"));
}

/**
 * A shard of a node that is gone finds no single place. What stands is mended, or the chains that ran through the node
 * are placed again beside the others: the better of the two, as long as it touches no rank of another chain.
 */
function around(
  steady: Known,
  world: Known,
  judged: Judged,
  kept: Standing,
  reason: string,
  effort: Effort,
): Wanted | NotWanted {
  const why = `${reason}a node is gone and no single node can take its shard; `;
  const mended = anew(steady, world, kept, why, effort);
  const apart = chainsApart(world, judged, kept, effort);
  const beside: Wanted | undefined = apart && { placement: asPlacement(apart, world.model.slotCount), why };
  const within = mended !== undefined && isWithinItsChains(world, judged, kept, mended.placement) ? mended : undefined;
  if (within === undefined || beside === undefined) return within ?? beside ?? mended ?? afresh(world, why, effort);
  return gainBy(steady, within.placement, beside.placement) > 0 ? beside : within;
}

/** How much better the second is, by the yardstick of what the model wants. */
function gainBy(world: Known, before: Routed, after: Routed): number {
  const grounds = groundsNow(world);
  return gainOf(world.model.objective, estimated(grounds, before), estimated(grounds, after));
}

/** Whether all that is touched belongs to chains through nodes that are gone. */
function isWithinItsChains(world: Known, judged: Judged, kept: Standing, after: Routed): boolean {
  const groups = segmentsOf(kept.assignments);
  const isLost = (key: string) => (groups.get(key) ?? []).some(({ node }) => !judged.nodes.has(node));
  const own = new Set(kept.routes.map(keysOf).flatMap((keys) => (keys.some(isLost) ? keys : [])));
  return touchedBy(world, withoutSpares(kept), after).every((each) => own.has(segmentKey(each)));
}

/** The routes that are still asked for, as far as they were whole, with the ranks on them and the spares. */
function keptOf({ model, facts }: Known, inForce: StandingPlan): Standing {
  const groups = segmentsOf(inForce.assignments);
  const routes = routesOf(inForce)
    .filter((route) => isWhole(route, groups, facts.config.layerCount))
    .slice(0, model.replicas);
  const spares = new Set(sparesIn(inForce).filter(({ chain }) => chain >= SPARE_CHAIN_FIRST));
  const used = new Set(routes.flatMap(keysOf));
  const assignments = inForce.assignments.filter((each) => used.has(segmentKey(each)) || spares.has(each));
  return { assignments, routes };
}

/**
 * Placed again around what stands, with as few moves as can be; undefined where that cannot be. `steady`: with nodes that
 * only do not answer taking part, since they hold what they hold; nothing new goes there.
 */
function anew(
  steady: Known,
  world: Known,
  standing: Standing,
  why: string,
  effort: Effort,
  gainMin = Number.POSITIVE_INFINITY,
): Wanted | undefined {
  const { slotsByPlanner: _, ...model } = world.model;
  const own = withoutSpares(standing);
  const options = { ...effort, standing: { ...own, gainMin } };
  const silent = new Set(world.nodes.flatMap(({ name, ready }) => (ready ? [] : [name])));
  const trust = (routed: Routed) =>
    routed.assignments.every((each) => !silent.has(each.node) || own.assignments.some((old) => isSameRank(old, each)));
  for (const known of [steady, world]) {
    const placed = place({ ...known, model }, options);
    if (placed.ok && trust(placed.value)) return { placement: { ...placed.value, slotCount: model.slotCount }, why };
  }
  return undefined;
}

const isSameRank = (a: Assignment, b: Assignment): boolean => segmentKey(a) === segmentKey(b) && isSameShard(a, b);

/** A plan that gains enough to be worth the moving, or undefined. Spares are asked for, too: their nodes are not taken. */
function better(steady: Known, world: Known, whole: Standing, effort: Effort): Wanted | undefined {
  const reserved = nodesOfSparesAlone(whole, world.model.spares ?? 0);
  const less = (known: Known) => ({ ...known, nodes: known.nodes.filter(({ name }) => !reserved.has(name)) });
  const found = anew(less(steady), less(world), whole, "", effort, gainMinOf(world.model));
  if (found === undefined) return undefined;
  const { gain, isWorthIt } = worthOf(steady, whole, found.placement);
  if (!isWorthIt) return undefined;
  const share = Number.isFinite(gain) ? `gains ${Math.round(100 * gain)} %` : "keeps a bound that the last one did not";
  return { ...found, why: `a better plan ${share}; ` };
}

const gainMinOf = ({ gainMinPercent }: ModelSpec): number => (gainMinPercent ?? GAIN_MIN_PERCENT) / 100;

/** What it gains to leave one plan for another, as a share of what the model wants, and whether that is worth loading for. */
export function worthOf(
  world: Known,
  before: Standing,
  after: Placement,
): { readonly gain: number; readonly isWorthIt: boolean } {
  const gain = gainBy(world, withoutSpares(before), after);
  const isEnough = gain > gainMinOf(world.model);
  return { gain, isWorthIt: isEnough && lackOf(world, after) <= lackOf(world, asPlacement(before, undefined)) };
}

function nodesOfSparesAlone(standing: Standing, spareCount: number): ReadonlySet<string> {
  const serving = nodesHeld(withoutSpares(standing));
  const spares = sparesIn(standing).slice(0, spareCount);
  return new Set(spares.flatMap(({ node }) => (serving.has(node) ? [] : [node])));
}

const withoutSpares = (standing: Standing): Standing => {
  const spares = new Set(sparesIn(standing));
  return { ...standing, assignments: standing.assignments.filter((each) => !spares.has(each)) };
};

const asPlacement = ({ assignments, routes }: Standing, slotCount: number | undefined): Placement => ({
  assignments,
  routes,
  leftOut: [],
  estimate: { millisecondsPerToken: 0, bottleneck: "" },
  ...(slotCount === undefined ? {} : { slotCount }),
});

const groundsNow = (world: Known): Grounds =>
  groundsOf(world.model, world.facts, eligible(world.model, world.nodes).nodes);

/** Spares, figures, and why others are left out: the same for every plan, kept or new. */
function finished(world: Known, { placement, why }: Wanted, basis: string, effort: Effort): Wanted {
  const { model, facts, nodes } = world;
  if (model.replicas === 0) return { placement: { ...placement, basis }, why };
  const { leftOut } = eligible(model, nodes);
  const out = new Set(leftOut.map(({ node }) => node));
  const held = nodesHeld(placement);
  // Nodes that only do not answer hold what they hold: figures speak of them as if they did.
  const all = nodes.filter(({ name }) => held.has(name) || !out.has(name)).sort((a, b) => (a.name < b.name ? -1 : 1));
  const grounds = groundsOf(model, facts, all);
  const standing = { assignments: placement.assignments, routes: routesOf(placement) };
  const { spared, lackCount, stuck } = withSpares(grounds, standing, world.reservedChains);
  const figures: Estimated = estimated(grounds, spared);
  const lack = lackCount === 0 ? "" : `${lackCount} of ${model.spares} spares find no room; `;
  const used = nodesHeld(spared);
  const left = stuckOn(world, spared, stuck, effort);
  const blocked = left.length === 0 ? {} : { stuck: left };
  const unused = [...leftOut, ...leftOutOf(grounds, { ...spared, ...figures })].filter(({ node }) => !used.has(node));
  return {
    placement: { ...placement, ...spared, ...figures, basis, leftOut: unused },
    why: `${why}${lack}`,
    ...blocked,
  };
}

const nodesHeld = ({ assignments }: Routed): ReadonlySet<string> => new Set(assignments.map(({ node }) => node));
