/**
 * What every drawing of a plan shows: one row for each chain, its segments in order, what each takes and how far the
 * next one is. The terminal, the SVG and the tables draw the same view, so that they cannot say different things.
 */
import { present } from "../../../core/assert.ts";
import { type LayerRange, lengthOf } from "../../../core/ranges.ts";
import type { Assignment, Placement } from "../types.ts";
import { type Known, type Time, type Times, timesOf } from "./times.ts";

/** One segment as one row shows it. */
export type Block = {
  readonly home: number; // the chain that its ranks are named after
  readonly segment: number;
  readonly layers: LayerRange;
  readonly ranks: readonly Assignment[]; // in rank order, at least one
  readonly milliseconds: number; // one token alone
  readonly isEstimated: boolean; // what a node of it takes was not measured
  readonly isBottleneck: boolean;
  readonly isGuest: boolean; // this row only passes through: the segment is at home in another
  readonly alsoOn: readonly number[]; // other chains that pass through it
};

/** From one segment of a row to the next: the round trip. */
export type Hop = Time & { readonly isBottleneck: boolean };

export type Row = {
  readonly title: string; // chain 0 | spare
  readonly chain: number | undefined;
  readonly blocks: readonly Block[]; // by first layer
  readonly hops: readonly Hop[]; // one fewer than blocks
  readonly tokensPerSecond: number | undefined;
  readonly millisecondsPerToken: number | undefined;
};

export type View = {
  readonly layerCount: number;
  readonly rows: readonly Row[];
  readonly estimated: "none" | "some" | "all"; // of times and trips; where all are, no mark tells them apart
  readonly providers: readonly string[]; // of all nodes that hold something, by name: their colours follow this order
};

type Path = { readonly title: string; readonly chain: number | undefined; readonly groups: readonly Group[] };
type Group = { readonly chain: number; readonly segment: number; readonly ranks: readonly Assignment[] };

/** The view of a placement of this world. Segments on no route come last, as spares. */
export function viewOf(world: Known, placement: Placement): View {
  const groups = groupsOf(placement.assignments);
  const paths = pathsOf(placement, groups);
  const times = timesOf(world, placement);
  const routes = new Map(placement.routes?.map((route) => [route.chain, route]));
  const rows = paths.map(({ title, chain, groups: own }): Row => {
    const route = chain === undefined ? undefined : routes.get(chain);
    return {
      title,
      chain,
      blocks: own.map((group) => blockOf(times, placement, group, chain, paths)),
      hops: chain === undefined ? [] : own.slice(1).map((to, index) => hopOf(times, placement, own[index], to)),
      tokensPerSecond: route?.tokensPerSecond,
      millisecondsPerToken: route?.millisecondsPerToken,
    };
  });
  const guesses = rows.flatMap(({ blocks, hops }) => [...blocks, ...hops]).map(({ isEstimated }) => isEstimated);
  return {
    layerCount: world.facts.config.layerCount,
    rows,
    estimated: guesses.every(Boolean) ? "all" : guesses.some(Boolean) ? "some" : "none",
    providers: [...new Set(placement.assignments.map(({ provider }) => provider))].sort(),
  };
}

function groupsOf(assignments: readonly Assignment[]): readonly Group[] {
  const groups = new Map<string, Assignment[]>();
  for (const assignment of assignments) {
    const key = `${assignment.chain}.${assignment.segment}`;
    groups.set(key, [...(groups.get(key) ?? []), assignment]);
  }
  return [...groups.values()]
    .map((ranks) => {
      const { chain, segment } = present(ranks[0], "a group has a rank");
      return { chain, segment, ranks: ranks.toSorted((a, b) => a.rank - b.rank) };
    })
    .sort((a, b) => a.chain - b.chain || a.segment - b.segment);
}

function pathsOf({ routes }: Placement, groups: readonly Group[]): readonly Path[] {
  if (routes === undefined) {
    const chains = [...new Set(groups.map(({ chain }) => chain))];
    return chains.map((chain) => ({
      title: `chain ${chain}`,
      chain,
      groups: groups.filter((group) => group.chain === chain),
    }));
  }
  const byPlace = new Map(groups.map((group) => [`${group.chain}.${group.segment}`, group]));
  const chains = routes
    .toSorted((a, b) => a.chain - b.chain)
    .map((route) => ({
      title: `chain ${route.chain}`,
      chain: route.chain,
      groups: route.segments.flatMap(({ chain, segment }) => byPlace.get(`${chain}.${segment}`) ?? []),
    }));
  const travelled = new Set(chains.flatMap((path) => path.groups));
  const spares = groups
    .filter((group) => !travelled.has(group))
    .sort((a, b) => leaderOf(a).layers.start - leaderOf(b).layers.start);
  return [...chains, ...spareRows(spares)];
}

/** Spares in as few rows as let none overlap another. */
function spareRows(spares: readonly Group[]): readonly Path[] {
  const rows: Group[][] = [];
  for (const spare of spares) {
    const row = rows.find((each) => (each.at(-1)?.ranks[0]?.layers.end ?? 0) <= leaderOf(spare).layers.start);
    if (row === undefined) rows.push([spare]);
    else row.push(spare);
  }
  return rows.map((groups) => ({ title: "spare", chain: undefined, groups }));
}

const leaderOf = ({ ranks }: Group): Assignment => present(ranks[0], "a group has a rank");

function blockOf(
  times: Times,
  { estimate }: Placement,
  group: Group,
  chain: number | undefined,
  paths: readonly Path[],
): Block {
  const { milliseconds, isEstimated } = times.segment(group.ranks);
  return {
    home: group.chain,
    segment: group.segment,
    layers: leaderOf(group).layers,
    ranks: group.ranks,
    milliseconds,
    isEstimated,
    isBottleneck: !isOther(estimate.bottleneck) && namesIn(estimate.bottleneck).some((name) => holds(group, name)),
    isGuest: chain !== undefined && group.chain !== chain,
    alsoOn: paths.flatMap((path) =>
      path.chain !== undefined && path.chain !== chain && path.groups.includes(group) ? [path.chain] : [],
    ),
  };
}

function hopOf(times: Times, { estimate }: Placement, from: Group | undefined, to: Group): Hop {
  const sender = leaderOf(present(from, "every segment but the first has one before it"));
  const [first, second] = namesIn(estimate.bottleneck);
  return {
    ...times.hop(sender, leaderOf(to)),
    isBottleneck: isLink(estimate.bottleneck) && first === sender.node && second === leaderOf(to).node,
  };
}

/** A bottleneck is named as a node, as nodes of a group joined by +, as a link, `a → b`, or in words. */
const isLink = (bottleneck: string): boolean => bottleneck.includes("→");
const isOther = (bottleneck: string): boolean => bottleneck.includes(" ");
const namesIn = (bottleneck: string): readonly string[] => bottleneck.split(/[^A-Za-z0-9.-]+/).filter(Boolean);
const holds = ({ ranks }: Group, name: string): boolean => ranks.some(({ node }) => node === name);

/** `studio-x1+studio-x2`: all nodes of a segment. */
export const nodesOf = ({ ranks }: Pick<Block, "ranks">): string => ranks.map(({ node }) => node).join("+");

/** `12–20`: first layer and one past the last, as people write a range of layers. */
export const layersText = ({ start, end }: LayerRange): string => `${start}–${end}`;

/** A rank's part of its segment in percent, by its weight. */
export function sharePercent({ rank, sliceWeights }: Assignment): number {
  const total = sliceWeights.reduce((sum, weight) => sum + weight, 0);
  return Math.round((100 * (sliceWeights[rank] ?? 0)) / total);
}

/** What a plan takes in all: for tables and comparisons. */
export function countsOf({ assignments, routes }: Placement) {
  const count = (pick: (assignment: Assignment) => unknown) => new Set(assignments.map(pick)).size;
  return {
    chainCount: routes?.length ?? count(({ chain }) => chain),
    segmentCount: count(({ chain, segment }) => `${chain}.${segment}`),
    rankCount: assignments.length,
    nodeCount: count(({ node }) => node),
    providerCount: count(({ provider }) => provider),
    weightBytes: assignments.reduce((sum, { weightBytes }) => sum + weightBytes, 0),
    layerCountHeld: assignments.reduce((sum, { layers, rank }) => sum + (rank === 0 ? lengthOf(layers) : 0), 0),
  };
}
