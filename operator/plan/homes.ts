/**
 * From a tiling to ranks with names: which chain each segment is at home in. What stands keeps its name, so that nothing
 * is made anew that need not be; the rest is numbered in the order of the routes.
 */
import { present } from "../../core/assert.ts";
import type { Footprint } from "./footprint.ts";
import { type Holder, holderName } from "./holders.ts";
import { type Routed, type SegmentPlace, ranksOn, routesOf, segmentKey, segmentsOf } from "./routes.ts";
import type { Tiling } from "./tiling/problem.ts";
import type { Assignment, Route } from "./types.ts";

const NOTHING: Routed = { assignments: [] };

/** `holderAt`: by the site's name. Routes come in the order of their chains' numbers, ranks in that of their names. */
export function settled(
  tiling: Pick<Tiling, "holdings" | "chains">,
  holderAt: ReadonlyMap<string, Holder>,
  sizes: Footprint,
  standing: Routed & { readonly reservedChains?: readonly number[] } = NOTHING,
): { readonly assignments: readonly Assignment[]; readonly routes: readonly Route[] } {
  const holders = tiling.holdings.map(({ site }) => present(holderAt.get(site), "the search names sites it was given"));
  const standingPlaces = placesByShard(standing);
  const used = new Set<string>();
  const homes: (SegmentPlace | undefined)[] = tiling.holdings.map(({ layers }, index) => {
    const place = standingPlaces.get(shardKey(present(holders[index], "one per holding"), layers));
    if (place !== undefined) used.add(segmentKey(place));
    return place;
  });
  const numbers = chainNumbers(
    tiling.chains.map(({ holdings }) => holdings.map((index) => homes[index])),
    standing,
    standing.reservedChains,
  );
  const inOrder = tiling.chains
    .map((chain, index) => ({ chain, number: present(numbers[index], "one per chain") }))
    .sort((a, b) => a.number - b.number);
  const routes = inOrder.map(({ chain, number }): Route => {
    const segments = chain.holdings.map((index) => {
      const place = homes[index] ?? freePlace(number, used);
      homes[index] = place;
      used.add(segmentKey(place));
      return { chain: place.chain, segment: place.segment };
    });
    return {
      chain: number,
      segments,
      tokensPerSecond: chain.tokensPerSecond,
      millisecondsPerToken: 1000 * chain.secondsPerToken,
    };
  });
  const assignments = tiling.holdings.flatMap(({ layers }, index) => {
    const place = homes[index];
    return place === undefined ? [] : assignmentsOf(present(holders[index], "one per holding"), layers, place, sizes);
  });
  return { assignments: inNameOrder(assignments), routes };
}

/** The ranks of one segment. */
export function assignmentsOf(
  holder: Holder,
  layers: Assignment["layers"],
  { chain, segment }: SegmentPlace,
  sizes: Footprint,
): readonly Assignment[] {
  const bytes = sizes.bytes({ holder, layers });
  return holder.nodes.map((node, rank) => ({
    chain,
    segment,
    rank,
    node: node.name,
    provider: node.provider,
    layers: { start: layers.start, end: layers.end },
    sliceWeights: holder.sliceWeights,
    weightBytes: bytes[rank]?.weightBytes ?? 0,
    kvBytes: bytes[rank]?.kvBytes ?? 0,
  }));
}

export const inNameOrder = (assignments: readonly Assignment[]): readonly Assignment[] =>
  [...assignments].sort((a, b) => a.chain - b.chain || a.segment - b.segment || a.rank - b.rank);

const shardKey = (holder: Holder, { start, end }: Assignment["layers"]): string =>
  `${holderName(holder)} ${start}-${end} ${holder.sliceWeights.join()}`;

function placesByShard({ assignments }: Routed): ReadonlyMap<string, SegmentPlace> {
  const places = new Map<string, SegmentPlace>();
  for (const group of segmentsOf(assignments).values()) {
    const [leader] = group;
    if (leader === undefined || group.length !== leader.sliceWeights.length) continue;
    const { layers, sliceWeights, chain, segment } = leader;
    places.set(`${group.map(({ node }) => node).join("+")} ${layers.start}-${layers.end} ${sliceWeights.join()}`, {
      chain,
      segment,
    });
  }
  return places;
}

/** A chain keeps the number of the standing route that it has most segments of; the others take the free ones. */
function chainNumbers(
  chains: readonly (readonly (SegmentPlace | undefined)[])[],
  standing: Routed,
  reserved: readonly number[] = [],
): readonly number[] {
  const routes = routesOf(standing).slice(0, chains.length);
  const groups = segmentsOf(standing.assignments);
  const pairs = chains.flatMap((places, index) => {
    const keys = new Set(places.flatMap((place) => (place === undefined ? [] : [segmentKey(place)])));
    return routes.map((route) => ({
      index,
      chain: route.chain,
      common: ranksOn(route, groups).filter((group) => group[0] !== undefined && keys.has(segmentKey(group[0]))).length,
    }));
  });
  pairs.sort((a, b) => b.common - a.common || a.chain - b.chain || a.index - b.index);
  const numbers = new Map<number, number>();
  const taken = new Set(reserved);
  for (const { index, chain, common } of pairs) {
    if (common === 0 || numbers.has(index) || taken.has(chain)) continue;
    numbers.set(index, chain);
    taken.add(chain);
  }
  let next = 0;
  return chains.map((_, index) => {
    const known = numbers.get(index);
    if (known !== undefined) return known;
    while (taken.has(next)) next += 1;
    taken.add(next);
    return next;
  });
}

function freePlace(chain: number, used: ReadonlySet<string>): SegmentPlace {
  let segment = 0;
  while (used.has(segmentKey({ chain, segment }))) segment += 1;
  return { chain, segment };
}
