/**
 * The path of a session through each chain, and what follows from it: a chain may pass through segments that another is
 * at home in, so that losing a segment breaks the routes through it and no others. Ranks are named after their home.
 */
import { present } from "../../core/assert.ts";
import { SPARE_CHAIN_FIRST, rankName } from "./names.ts";
import type { Assignment, Route } from "./types.ts";

/** A segment by its home: the chain and the number that its ranks' names carry. */
export type SegmentPlace = Route["segments"][number];

/** What routes are read from; a plan without routes has each chain pass through its own segments, in order. */
export type Routed = { readonly assignments: readonly Assignment[]; readonly routes?: readonly Route[] };

/** With its routes worked out: what stands, or could. */
export type Standing = Routed & { readonly routes: readonly Route[] };

export const segmentKey = ({ chain, segment }: SegmentPlace): string => `${chain}.${segment}`;

/** The ranks of each segment, in rank order, by {@link segmentKey}. */
export function segmentsOf(assignments: readonly Assignment[]): ReadonlyMap<string, readonly Assignment[]> {
  const groups = new Map<string, Assignment[]>();
  for (const assignment of assignments) {
    const key = segmentKey(assignment);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [assignment]);
    else group.push(assignment);
  }
  for (const group of groups.values()) group.sort((a, b) => a.rank - b.rank);
  return groups;
}

/** Of every chain, in order of their numbers. */
export function routesOf({ assignments, routes }: Routed): readonly Route[] {
  if (routes !== undefined) return [...routes].sort((a, b) => a.chain - b.chain);
  const chains = new Map<number, Set<number>>();
  for (const { chain, segment } of assignments) {
    if (chain >= SPARE_CHAIN_FIRST) continue;
    chains.set(chain, (chains.get(chain) ?? new Set()).add(segment));
  }
  return [...chains]
    .sort(([a], [b]) => a - b)
    .map(([chain, segments]) => ({
      chain,
      segments: [...segments].sort((a, b) => a - b).map((segment) => ({ chain, segment })),
      tokensPerSecond: 0,
      millisecondsPerToken: 0,
    }));
}

/** The ranks of a route, segment by segment; a segment that nobody holds is empty. */
export function ranksOn(
  { segments }: Pick<Route, "segments">,
  groups: ReadonlyMap<string, readonly Assignment[]>,
): readonly (readonly Assignment[])[] {
  return segments.map((place) => groups.get(segmentKey(place)) ?? []);
}

/** Whether a route covers [0, layerCount) once, in order, with every rank of every segment. */
export function isWhole(
  route: Pick<Route, "segments">,
  groups: ReadonlyMap<string, readonly Assignment[]>,
  layerCount: number,
): boolean {
  let next = 0;
  for (const group of ranksOn(route, groups)) {
    const [leader] = group;
    if (leader === undefined || leader.layers.start !== next || group.length !== leader.sliceWeights.length)
      return false;
    const { start, end } = leader.layers;
    if (group.some(({ rank, layers }, index) => rank !== index || layers.start !== start || layers.end !== end))
      return false;
    next = end;
  }
  return next === layerCount;
}

/** Ranks that no route passes through: they are kept loaded, to be put on one when a node is lost. */
export function sparesIn(routed: Routed): readonly Assignment[] {
  const used = new Set(routesOf(routed).flatMap(keysOf));
  return routed.assignments.filter((assignment) => !used.has(segmentKey(assignment)));
}

/** Chains that run through the rank of this name. */
export function chainsThrough(model: { readonly name: string }, routed: Routed, name: string): readonly number[] {
  const groups = segmentsOf(routed.assignments);
  return routesOf(routed)
    .filter((route) => ranksOn(route, groups).some((group) => group.some((each) => rankName(model, each) === name)))
    .map(({ chain }) => chain);
}

export const keysOf = ({ segments }: Pick<Route, "segments">): readonly string[] => segments.map(segmentKey);

/**
 * Segments that follow one another on some route, by {@link segmentKey}: those before and those after. A spare counts as
 * standing where each segment of the same layers stands, so that putting it on a route needs no new neighbours.
 */
export function adjacentSegments(routed: Routed): ReadonlyMap<string, ReadonlySet<string>> {
  const groups = segmentsOf(routed.assignments);
  const spares = new Map<string, string[]>(); // by layers
  for (const { chain, segment, rank, layers } of sparesIn(routed)) {
    if (rank !== 0) continue;
    const key = layersKey(layers);
    spares.set(key, [...(spares.get(key) ?? []), segmentKey({ chain, segment })]);
  }
  const standIns = (key: string): readonly string[] => {
    const [leader] = groups.get(key) ?? [];
    return leader === undefined ? [] : [key, ...(spares.get(layersKey(leader.layers)) ?? [])];
  };
  const adjacent = new Map<string, Set<string>>();
  const join = (a: string, b: string) => {
    adjacent.set(a, (adjacent.get(a) ?? new Set()).add(b));
    adjacent.set(b, (adjacent.get(b) ?? new Set()).add(a));
  };
  for (const route of routesOf(routed)) {
    const keys = keysOf(route);
    for (let index = 1; index < keys.length; index++) {
      const [before, after] = [present(keys[index - 1], "below the length"), present(keys[index], "below the length")];
      for (const a of standIns(before)) for (const b of standIns(after)) join(a, b);
    }
  }
  return adjacent;
}

const layersKey = ({ start, end }: Assignment["layers"]): string => `${start}-${end}`;
