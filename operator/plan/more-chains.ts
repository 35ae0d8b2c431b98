/** Chains that are missing, or cut in two: made of nodes that the others leave alone, so that nobody else moves. */
import { inNameOrder } from "./homes.ts";
import { type PlaceOptions, place } from "./place.ts";
import { type SegmentPlace, type Standing, keysOf, routesOf, segmentKey, segmentsOf, sparesIn } from "./routes.ts";
import { type Judged, brokenWishes } from "./soundness.ts";
import { isSameShard } from "./touched.ts";
import type { Assignment, Known, Route } from "./types.ts";

/** Numbers for the chains that are asked for and have no route: the lowest that nobody bears. */
export function missingChains(
  { model, reservedChains = [] }: Pick<Known, "model" | "reservedChains">,
  routes: readonly Route[],
): readonly number[] {
  const taken = new Set([...reservedChains, ...routes.map(({ chain }) => chain)]);
  const missingCount = Math.max(0, model.replicas - routes.length);
  return Array.from({ length: taken.size + missingCount }, (_, chain) => chain)
    .filter((chain) => !taken.has(chain))
    .slice(0, missingCount);
}

const NOTHING: readonly Assignment[] = [];

/**
 * With the `missing` chains on nodes that `kept` leaves alone; undefined where those do not suffice. `left`: what still
 * stands of the missing ones, on nodes that are not in `kept`; it goes on as it is wherever it can.
 */
export function withChains(
  world: Known,
  kept: Standing,
  missing: readonly number[],
  effort: PlaceOptions,
  left = NOTHING,
): Standing | undefined {
  const untouched = world.nodes.filter(({ name }) => !kept.assignments.some(({ node }) => node === name));
  const { surviveProviders: _, pricePerHourMax: __, ...placement } = world.model.placement; // judged with all chains
  const { slotsByPlanner: ___, ...model } = world.model;
  const standing = { assignments: left, routes: [], gainMin: Number.POSITIVE_INFINITY };
  const placed = place(
    { ...world, reservedChains: [], nodes: untouched, model: { ...model, placement, replicas: missing.length } },
    { ...effort, ...(left.length === 0 ? {} : { standing }) },
  );
  if (!placed.ok) return undefined;
  const stays = placed.value.assignments.filter((each) =>
    left.some((old) => segmentKey(old) === segmentKey(each) && old.rank === each.rank && isSameShard(old, each)),
  );
  const taken = new Set([...kept.assignments, ...stays].map(segmentKey));
  const homes = new Map<string, SegmentPlace>(stays.map((each) => [segmentKey(each), each]));
  const homeOf = (own: SegmentPlace): SegmentPlace => {
    const key = segmentKey(own);
    const known = homes.get(key);
    if (known !== undefined) return { chain: known.chain, segment: known.segment };
    const chain = missing[own.chain] ?? own.chain;
    let segment = own.segment;
    while (taken.has(segmentKey({ chain, segment }))) segment += 1;
    taken.add(segmentKey({ chain, segment }));
    homes.set(key, { chain, segment });
    return { chain, segment };
  };
  const added = placed.value.assignments.map((assignment) => ({ ...assignment, ...homeOf(assignment) }));
  const routes = routesOf(placed.value).map((route) => ({
    ...route,
    chain: missing[route.chain] ?? route.chain,
    segments: route.segments.map(homeOf),
  }));
  return {
    assignments: inNameOrder([...kept.assignments, ...added]),
    routes: [...kept.routes, ...routes].sort((a, b) => a.chain - b.chain),
  };
}

/**
 * The chains that ran through nodes that are gone, placed again where the other chains are not; undefined where that
 * cannot be. No rank of another chain is touched.
 */
export function chainsApart(
  world: Known,
  judged: Judged,
  { assignments, routes }: Standing,
  effort: PlaceOptions,
): Standing | undefined {
  const groups = segmentsOf(assignments);
  const lost = new Set([...groups].filter(([, group]) => group.some(({ node }) => !judged.nodes.has(node))).map(keyIn));
  const broken = routes.filter((route) => keysOf(route).some((key) => lost.has(key)));
  const whole = routes.filter((route) => !broken.includes(route));
  const standing = new Set(whole.flatMap(keysOf));
  const spares = new Set(sparesIn({ assignments, routes }).filter(({ node }) => judged.nodes.has(node)));
  const kept = assignments.filter((each) => standing.has(segmentKey(each)) || spares.has(each));
  const left = assignments.filter((each) => !kept.includes(each) && !lost.has(segmentKey(each)));
  const numbers = broken.map(({ chain }) => chain);
  const placed = withChains(world, { assignments: kept, routes: whole }, numbers, effort, left);
  return placed === undefined || brokenWishes(judged, placed).length > 0 ? undefined : placed;
}

const keyIn = ([key]: readonly [string, unknown]): string => key;
