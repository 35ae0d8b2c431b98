/**
 * Which placement is wanted now. The plan in force is kept wherever no rule forbids it: shards of lost nodes move alone,
 * missing chains are added beside the others, and a better plan is looked for only when something has changed that it
 * would follow from, and taken only if it gains more than the moving costs.
 */
import { basisOf } from "./digests.ts";
import { type Estimated, estimated, gainOf } from "./estimate.ts";
import { eligible, paceOf } from "./holders.ts";
import { leftOutOf } from "./left-out.ts";
import { plannedModel } from "./model-spec.ts";
import { missingChains, withChains } from "./more-chains.ts";
import { SPARE_CHAIN_FIRST } from "./names.ts";
import { type Known, type PlaceOptions, place } from "./place.ts";
import { repaired } from "./repair.ts";
import { type Routed, type Standing, isWhole, keysOf, routesOf, segmentKey, segmentsOf, sparesIn } from "./routes.ts";
import { type Grounds, groundsOf } from "./sites.ts";
import { type Judged, brokenWishes } from "./soundness.ts";
import { withSpares } from "./spares.ts";
import type { NodeFacts, Placement, StandingPlan } from "./types.ts";

/**
 * A plan is left for a better one only where that gains more than this share of what the model wants. Every rank that
 * moves loads its weights anew and its sessions begin again from their tokens: a tenth more is not worth that.
 */
export const GAIN_MIN = 0.5;

export type Wanted = { readonly placement: Placement; readonly why: string };
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
  const wanted = inForce === undefined ? afresh(world, "", drafting) : goingOn(steady, inForce, basis, drafting);
  if ("code" in wanted) return wanted;
  return finished({ ...world, model: plannedModel(world.model, wanted.placement) }, wanted, basis);
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

/** Every node has its use, so none would be left for spares: the plan does without the slowest that will do as one. */
function withRoomForSpares(world: Known, placed: Placement, effort: Effort): Placement {
  const lackOf = (placement: Placement): number => {
    const grounds = groundsNow({ ...world, model: plannedModel(world.model, placement) });
    return withSpares(grounds, { ...placement, routes: routesOf(placement) }).lackCount;
  };
  let best = placed;
  let lack = lackOf(placed);
  let kept = new Set<string>();
  for (let round = 0; lack > 0 && round < (world.model.spares ?? 0); round++) {
    const used = nodesHeld(best);
    const inTurn = eligible(world.model, world.nodes)
      .nodes.filter(({ name }) => used.has(name))
      .sort((a, b) => paceOf(a) - paceOf(b) || (a.name < b.name ? -1 : 1));
    const found = inTurn.slice(0, SPARE_TRIAL_COUNT_MAX).flatMap(({ name }) => {
      const without = new Set([...kept, name]);
      const trial = place({ ...world, nodes: world.nodes.filter((node) => !without.has(node.name)) }, effort);
      return trial.ok && lackOf(trial.value) < lack ? [{ without, placement: trial.value }] : [];
    })[0];
    if (found === undefined) break;
    best = found.placement;
    kept = found.without;
    lack = lackOf(best);
  }
  return best;
}

function goingOn(world: Known, inForce: StandingPlan, basis: string, effort: Effort): Wanted | NotWanted {
  const judged: Judged = { ...world, nodes: new Map(world.nodes.map((node) => [node.name, node])) };
  const kept = keptOf(world, inForce);
  const fixed = repaired(world, judged, kept);
  if (fixed === undefined)
    return (
      anew(world, kept, "a node is gone and no single node can take its shard; ", effort) ?? afresh(world, "", effort)
    );
  const missing = missingChains(world.model, fixed.routes);
  const whole = missing.length === 0 ? fixed : withChains(world, fixed, missing, effort);
  const broken = whole === undefined ? ["more chains are asked for"] : brokenWishes(judged, whole);
  if (whole === undefined || broken.length > 0) {
    const why = whole === undefined ? "" : `${broken[0]}; `;
    return anew(world, fixed, why, effort) ?? afresh(world, why, effort);
  }
  const moved = fixed.moved.length === 0 ? "" : `moved ${fixed.moved.join(", ")}; `;
  const stays: Wanted = { placement: asPlacement(whole, inForce.slotCount), why: moved };
  // Repairs come first: what is better is looked for once everything stands again.
  if (moved !== "" || missing.length > 0 || inForce.basis === undefined || inForce.basis === basis) return stays;
  return better(world, whole, effort) ?? stays;
}

/** The routes that are still asked for, as far as they were whole, with the ranks on them and the spares. */
function keptOf({ model, facts }: Known, inForce: StandingPlan): Standing {
  const groups = segmentsOf(inForce.assignments);
  const routes = routesOf(inForce).filter(
    (route) => route.chain < model.replicas && isWhole(route, groups, facts.config.layerCount),
  );
  const spares = new Set(sparesIn(inForce).filter(({ chain }) => chain >= SPARE_CHAIN_FIRST));
  const used = new Set(routes.flatMap(keysOf));
  const assignments = inForce.assignments.filter((each) => used.has(segmentKey(each)) || spares.has(each));
  return { assignments, routes };
}

/** Placed again around what stands; undefined where that cannot be. */
function anew(world: Known, standing: Standing, why: string, effort: Effort): Wanted | undefined {
  const { slotsByPlanner: _, ...model } = world.model;
  const placed = place(
    { ...world, model },
    {
      ...effort,
      standing: { ...withoutSpares(standing), gainMin: GAIN_MIN },
    },
  );
  return placed.ok ? { placement: { ...placed.value, slotCount: model.slotCount }, why } : undefined;
}

/** A plan that gains enough to be worth the moving, or undefined. */
function better(world: Known, whole: Standing, effort: Effort): Wanted | undefined {
  const found = anew(world, whole, "", effort);
  if (found === undefined) return undefined;
  const grounds = groundsNow(world);
  const gain = gainOf(
    world.model.objective,
    estimated(grounds, withoutSpares(whole)),
    estimated(grounds, found.placement),
  );
  if (gain <= GAIN_MIN) return undefined;
  const share = Number.isFinite(gain) ? `gains ${Math.round(100 * gain)} %` : "keeps a bound that the last one did not";
  return { ...found, why: `a better plan ${share}; ` };
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
function finished(world: Known, { placement, why }: Wanted, basis: string): Wanted {
  const { model, facts, nodes } = world;
  if (model.replicas === 0) return { placement: { ...placement, basis }, why };
  const { leftOut } = eligible(model, nodes);
  const out = new Set(leftOut.map(({ node }) => node));
  const held = nodesHeld(placement);
  // Nodes that only do not answer hold what they hold: figures speak of them as if they did.
  const all = nodes.filter(({ name }) => held.has(name) || !out.has(name)).sort((a, b) => (a.name < b.name ? -1 : 1));
  const grounds = groundsOf(model, facts, all);
  const { spared, lackCount } = withSpares(grounds, {
    assignments: placement.assignments,
    routes: routesOf(placement),
  });
  const figures: Estimated = estimated(grounds, spared);
  const lack = lackCount === 0 ? "" : `${lackCount} of ${model.spares} spares find no room; `;
  const used = nodesHeld(spared);
  const unused = [...leftOut, ...leftOutOf(grounds, { ...spared, ...figures })].filter(({ node }) => !used.has(node));
  return { placement: { ...placement, ...spared, ...figures, basis, leftOut: unused }, why: `${why}${lack}` };
}

const nodesHeld = ({ assignments }: Routed): ReadonlySet<string> => new Set(assignments.map(({ node }) => node));
