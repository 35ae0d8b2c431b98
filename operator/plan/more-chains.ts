/** More chains are asked for than stand: the missing ones go to nodes that the others leave alone. */
import { inNameOrder } from "./homes.ts";
import { type Known, type PlaceOptions, place } from "./place.ts";
import { type SegmentPlace, type Standing, routesOf, segmentKey } from "./routes.ts";
import type { ModelSpec, Route } from "./types.ts";

/** Numbers of the chains that are asked for and have no route. */
export const missingChains = (model: ModelSpec, routes: readonly Route[]): readonly number[] =>
  Array.from({ length: model.replicas }, (_, chain) => chain).filter(
    (index) => !routes.some(({ chain }) => chain === index),
  );

/** New chains on nodes that the others leave alone; undefined where those do not suffice. */
export function withChains(
  world: Known,
  kept: Standing,
  missing: readonly number[],
  effort: PlaceOptions,
): Standing | undefined {
  const untouched = world.nodes.filter(({ name }) => !kept.assignments.some(({ node }) => node === name));
  const { surviveProviders: _, pricePerHourMax: __, ...placement } = world.model.placement; // judged with all chains
  const { slotsByPlanner: ___, ...model } = world.model;
  const placed = place(
    { ...world, nodes: untouched, model: { ...model, placement, replicas: missing.length } },
    effort,
  );
  if (!placed.ok) return undefined;
  const taken = new Set(kept.assignments.map(segmentKey));
  const homes = new Map<string, SegmentPlace>();
  const homeOf = (own: SegmentPlace) => {
    const key = segmentKey(own);
    const known = homes.get(key);
    if (known !== undefined) return known;
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
