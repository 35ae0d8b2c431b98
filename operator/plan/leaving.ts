/**
 * Chains that go while they serve: of a node that is drained, of fewer replicas, of a better plan. They take no new
 * session and stay until those that run on them have ended, or have had their time; only then do the ranks go that no
 * other chain needs. What they hold meanwhile nobody else is given.
 */
import { hasPassed } from "./conditions.ts";
import { bytesOn } from "./footprint.ts";
import { banOf } from "./holders.ts";
import { rankName } from "./names.ts";
import { type Standing, keysOf, ranksOn, routesOf, segmentKey, segmentsOf } from "./routes.ts";
import { isSameShard } from "./touched.ts";
import type { Assignment, Draining, Known, Placement, Route, StandingPlan } from "./types.ts";

const NOTHING: Standing = { assignments: [], routes: [] };
const DRAIN_SECONDS = 300;

/**
 * The world of the plan in force less what leaves, which is given apart and whose memory is taken; and less routes on
 * trial, which are planned anew each time: their ranks are of other routes, or stand by.
 */
export function parted(given: Known): Known {
  const world = withoutTrial(given);
  const { previous, draining = [], model } = world;
  if (previous === undefined || draining.length === 0) return world;
  const marked = new Map(draining.map((each) => [each.chain, each]));
  const routes = routesOf(previous);
  const open = routes.filter(({ chain }) => !marked.has(chain));
  const closed = routes.filter((route) => isGoingOn(world, previous, route, marked.get(route.chain)));
  // Asked for again before it has gone: it is as good as a new one, and there already.
  const back = closed
    .filter((route) => mayStay(world, previous, route))
    .slice(0, Math.max(0, model.replicas - open.length));
  const standing = [...open, ...back].sort((a, b) => a.chain - b.chain);
  const known = new Set(routes.flatMap(keysOf));
  const stays = new Set(standing.flatMap(keysOf));
  const leaving = leavingOf(
    previous.assignments.filter((each) => !stays.has(segmentKey(each))),
    closed.filter((route) => !back.includes(route)),
  );
  const assignments = previous.assignments.filter(
    (each) => stays.has(segmentKey(each)) || !known.has(segmentKey(each)),
  );
  return {
    ...world,
    previous: { ...previous, assignments, routes: standing },
    nodes: world.nodes.map((node) => ({
      ...node,
      freeBytes: node.freeBytes - bytesOn(node.name, leaving.assignments),
    })),
    reservedChains: [
      ...(world.reservedChains ?? []),
      ...new Set([...leaving.routes, ...leaving.assignments].map(({ chain }) => chain)),
    ],
    leaving,
  };
}

function withoutTrial(world: Known): Known {
  const { previous, unproven = [] } = world;
  if (previous === undefined || unproven.length === 0) return world;
  const routes = routesOf(previous).filter(({ chain }) => !unproven.includes(chain));
  return { ...world, previous: { ...previous, routes } };
}

/** The routes, with those of the ranks that are on them. */
function leavingOf(ranks: readonly Assignment[], routes: readonly Route[]): Standing {
  const used = new Set(routes.flatMap(keysOf));
  return { assignments: ranks.filter((each) => used.has(segmentKey(each))), routes };
}

/** Whether a chain that drains does so still. */
const isGoingOn = (world: Known, plan: StandingPlan, route: Route, mark: Draining | undefined): boolean =>
  mark !== undefined && !mark.isQuiet && mark.seconds < drainSecondsOf(world) && isServing(world, plan, route);

const drainSecondsOf = ({ model }: Known): number => model.update?.drainSeconds ?? DRAIN_SECONDS;

const ranksOf = (plan: StandingPlan, route: Route): readonly Assignment[] =>
  ranksOn(route, segmentsOf(plan.assignments)).flat();

function isServing({ model, ranks }: Known, plan: StandingPlan, route: Route): boolean {
  const byName = new Map(ranks.map((rank) => [rank.name, rank]));
  const groups = ranksOn(route, segmentsOf(plan.assignments));
  if (groups.some(({ length }) => length === 0)) return false;
  return groups.flat().every((each) => {
    const rank = byName.get(rankName(model, each));
    return rank?.phase === "Ready" && rank.revision === plan.revision && isSameShard(rank.assignment, each);
  });
}

/** Whether all of its nodes may go on holding what they hold. */
const mayStay = ({ model, nodes }: Known, plan: StandingPlan, route: Route, isDrainedFine = false): boolean =>
  ranksOf(plan, route).every((each) => {
    const node = nodes.find(({ name }) => name === each.node);
    return node !== undefined && banOf(model, node) === undefined && (isDrainedFine || node.leaving !== "Drained");
  });

/**
 * The placement with chains of the plan in force that it gives up left to drain beside it, as far as their ranks serve
 * and are in nobody's way. A chain that takes another path meanwhile takes another number: sessions run on by the old.
 * `world`: as {@link parted} gave it.
 */
export function gently(
  world: Known,
  placement: Placement,
): { readonly placement: Placement; readonly leaving: Standing } {
  const { previous, leaving = NOTHING, draining } = world;
  const wanted = routesOf(placement);
  const same = (a: Route, b: Route) => a.chain === b.chain && keysOf(a).join() === keysOf(b).join();
  const given = previous === undefined || draining === undefined ? [] : routesOf(previous);
  const byKey = segmentsOf(placement.assignments);
  const isKept = (route: Route) =>
    wanted.some((each) => same(each, route)) &&
    previous !== undefined &&
    ranksOf(previous, route).every((each) =>
      byKey.get(segmentKey(each))?.some((now) => now.rank === each.rank && isSameShard(now, each)),
    );
  const going = given.filter(
    (route) =>
      previous !== undefined &&
      drainSecondsOf(world) > 0 &&
      !isKept(route) &&
      isServing(world, previous, route) &&
      mayStay(world, previous, route, true),
  );
  const taken = new Map(placement.assignments.map((each) => [rankName(world.model, each), each]));
  const isFree = (each: Assignment) => {
    const now = taken.get(rankName(world.model, each));
    return now === undefined || isSameShard(now, each);
  };
  let left: Standing = only(leaving.assignments, leaving.routes, isFree, taken, world);
  for (const route of going) {
    const ranks = previous === undefined ? [] : ranksOf(previous, route);
    const next = only([...left.assignments, ...ranks], [...left.routes, route], isFree, taken, world);
    if (ranks.every(isFree) && fits(world, placement, next, leaving)) left = next;
  }
  return { placement: renumbered(placement, wanted, left.routes), leaving: left };
}

/** Those routes all ranks of which are free to stay; the ranks are those that the placement does not have. */
function only(
  ranks: readonly Assignment[],
  routes: readonly Route[],
  isFree: (each: Assignment) => boolean,
  taken: ReadonlyMap<string, Assignment>,
  { model }: Known,
): Standing {
  const blocked = new Set(ranks.filter((each) => !isFree(each)).map(segmentKey));
  const free = routes.filter((route) => !keysOf(route).some((key) => blocked.has(key)));
  const own = new Map(ranks.map((each) => [rankName(model, each), each]));
  return leavingOf(
    [...own].flatMap(([name, each]) => (taken.has(name) ? [] : [each])),
    free,
  );
}

/** What drained before has its memory already; see {@link parted}. */
function fits({ nodes }: Known, placement: Placement, next: Standing, before: Standing): boolean {
  const fresh = next.assignments.filter((each) => !before.assignments.includes(each));
  return nodes.every(
    ({ name, freeBytes }) =>
      !fresh.some(({ node }) => node === name) || bytesOn(name, [...placement.assignments, ...fresh]) <= freeBytes,
  );
}

export type Gate = {
  readonly placement: Placement;
  readonly leaving: Standing;
  readonly trial: readonly Route[];
};

/**
 * Routes that would take the place of others are tried first: until a request has gone through as many as that, those
 * others stay open. `leaving` and `placement`: as {@link gently} gave them.
 */
export function gated(world: Known, placement: Placement, leaving: Standing): Gate {
  const { previous, draining } = world;
  const asIs = { placement, leaving, trial: [] };
  if (previous === undefined || draining === undefined) return asIs;
  const closed = new Set(draining.map(({ chain }) => chain));
  const before = new Map(routesOf(previous).map((route) => [keysOf(route).join(), route]));
  const fresh = routesOf(placement).filter(
    (route) => before.get(keysOf(route).join())?.chain !== route.chain && !hasPassed(world, route.chain),
  );
  const open = leaving.routes.filter(({ chain }) => !closed.has(chain)).slice(0, fresh.length);
  if (open.length === 0) return asIs;
  const trial = fresh.slice(0, open.length);
  const stays = new Set(open.flatMap(keysOf));
  const held = leaving.assignments.filter((each) => stays.has(segmentKey(each)));
  return {
    trial,
    placement: {
      ...placement,
      assignments: [...placement.assignments, ...held],
      routes: [...routesOf(placement).filter((route) => !trial.includes(route)), ...open].sort(
        (a, b) => a.chain - b.chain,
      ),
    },
    leaving: {
      assignments: leaving.assignments.filter((each) => !held.includes(each)),
      routes: leaving.routes.filter((route) => !open.includes(route)),
    },
  };
}

function renumbered(placement: Placement, routes: readonly Route[], left: readonly Route[]): Placement {
  const taken = new Set(left.map(({ chain }) => chain));
  if (!routes.some(({ chain }) => taken.has(chain))) return placement;
  const numbers = new Set([...taken, ...routes.map(({ chain }) => chain)]);
  const free = () => {
    let chain = 0;
    while (numbers.has(chain)) chain += 1;
    numbers.add(chain);
    return chain;
  };
  const named = routes.map((route) => (taken.has(route.chain) ? { ...route, chain: free() } : route));
  return { ...placement, routes: named.sort((a, b) => a.chain - b.chain) };
}

/** All that stands: the placement, what leaves, and what is tried. */
export const withLeaving = (
  placement: Placement,
  leaving: Standing = NOTHING,
  trial: readonly Route[] = [],
): Placement =>
  leaving.routes.length === 0 && trial.length === 0
    ? placement
    : {
        ...placement,
        assignments: [...placement.assignments, ...leaving.assignments],
        routes: [...routesOf(placement), ...leaving.routes, ...trial].sort((a, b) => a.chain - b.chain),
      };
