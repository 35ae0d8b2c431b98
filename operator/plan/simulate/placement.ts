/**
 * A placement as a house to simulate: every segment a station of its nodes, every route a path, all times from what was
 * measured (cost/). What comes out is what the plan promises.
 */
import { present } from "../../../core/assert.ts";
import { type LayerRange, lengthOf } from "../../../core/ranges.ts";
import { type Costs, TOKEN_BYTES, costs } from "../cost/costs.ts";
import { type LinkSpeed, gatewayLink, linkBetween } from "../cost/links.ts";
import type { Tiling } from "../tiling/problem.ts";
import type { Assignment, ModelFacts, ModelSpec, NodeFacts, Route } from "../types.ts";
import { type House, type Load, type Outcome, type Path, RUNTIME_BUDGET, type Station, type Way } from "./house.ts";
import { simulate } from "./simulate.ts";

export type Placed = {
  readonly model: ModelSpec;
  readonly facts: Pick<ModelFacts, "config">;
  readonly nodes: readonly NodeFacts[];
  readonly assignments: readonly Assignment[];
  readonly routes?: readonly Pick<Route, "chain" | "segments">[]; // left out: every chain is its own segments
  readonly openSeconds?: number; // of a session, on all its ranks; left out: as usual
};

/** What a gateway does with a token before it asks for the next: decode, stream, count. */
const GATEWAY_SECONDS = 0.0005;
/** Opening a session on every rank of a chain, with signatures, as measured between processes of one machine. */
const OPEN_SECONDS = 0.02;

/** A segment on its nodes, in rank order. */
export type Stationed = {
  readonly name: string;
  readonly nodes: readonly NodeFacts[];
  readonly sliceWeights: readonly number[];
  readonly layers: LayerRange;
};

/** Segments as stations, paths through them by index. */
export function houseOn(
  all: Costs,
  slotCount: number,
  segments: readonly Stationed[],
  paths: readonly Path[],
  openSeconds = OPEN_SECONDS,
): House {
  const at = (index: number): NodeFacts => present(segments[index]?.nodes[0], "stations are segments on nodes");
  return {
    stations: segments.map((segment) => stationOf(segment, all, slotCount)),
    paths,
    between: (from, to) => wayOf(linkBetween(at(from), at(to)), all.sizes.rowBytes),
    entry: (to) => wayOf(gatewayLink(at(to)), TOKEN_BYTES),
    exit: (from) => wayOf(gatewayLink(at(from)), TOKEN_BYTES),
    gatewaySeconds: GATEWAY_SECONDS,
    openSeconds,
    budget: RUNTIME_BUDGET,
    lingers: true,
    keepsPace: true,
  };
}

/** Stations in order of chain and segment. Every assignment's node must be among `nodes`. */
export function houseOf(placed: Placed): House {
  const { model, facts, nodes, assignments } = placed;
  const segments = segmentsOf(assignments, nodes);
  const indexOf = new Map(segments.map(({ chain, segment }, index) => [`${chain} ${segment}`, index]));
  // In the order in which a gateway knows them: of equals it takes the first.
  const routes = placed.routes?.toSorted((a, b) => a.chain - b.chain) ?? chainsOf(segments);
  const paths = routes.map((route) => ({
    stations: route.segments.map(({ chain, segment }) =>
      present(indexOf.get(`${chain} ${segment}`), "routes pass through segments of the plan"),
    ),
    weight: 1,
  }));
  return houseOn(costs(model, facts, nodes), model.slotCount, segments, paths, placed.openSeconds);
}

const wayOf = ({ roundTripSeconds, bytesPerSecond }: LinkSpeed, rowBytes: number): Way => ({
  seconds: roundTripSeconds / 2,
  secondsPerRow: rowBytes / bytesPerSecond,
});

function stationOf({ name, nodes, sliceWeights, layers }: Stationed, all: Costs, slotCount: number): Station {
  const site = all.site(nodes, sliceWeights);
  const layerCount = lengthOf(layers);
  const isLast = layers.end === all.sizes.layerCount;
  return {
    name,
    devices: nodes.map((node) => node.name),
    slotCount,
    stepSeconds: ({ rowCount, positionCount, sampleCount }) =>
      site.stepSeconds({ layerCount, rowCount, positionCount, sampleCount: isLast ? sampleCount : 0 }),
  };
}

type Segment = Stationed & { readonly chain: number; readonly segment: number };

function segmentsOf(assignments: readonly Assignment[], nodes: readonly NodeFacts[]): readonly Segment[] {
  const byName = new Map(nodes.map((node) => [node.name, node]));
  const groups = new Map<string, Assignment[]>();
  const sorted = [...assignments].sort((a, b) => a.chain - b.chain || a.segment - b.segment || a.rank - b.rank);
  for (const assignment of sorted) {
    const key = `${assignment.chain} ${assignment.segment}`;
    groups.set(key, [...(groups.get(key) ?? []), assignment]);
  }
  return [...groups.values()].map((ranks) => {
    const { chain, segment, layers, sliceWeights } = present(ranks[0], "a group has ranks");
    const held = ranks.map(({ node }) => present(byName.get(node), "the plan places ranks on nodes that it was shown"));
    return { chain, segment, name: `${chain}-${segment}`, nodes: held, sliceWeights, layers };
  });
}

function chainsOf(segments: readonly Segment[]): readonly Pick<Route, "segments">[] {
  const chains = [...new Set(segments.map(({ chain }) => chain))];
  return chains.map((chain) => ({ segments: segments.filter((segment) => segment.chain === chain) }));
}

/** Every chain full of sessions all the time. */
export function fullLoad({ model, facts, nodes, routes, assignments }: Placed): Load {
  const chainCount = routes?.length ?? new Set(assignments.map(({ chain }) => chain)).size;
  return loadOf(costs(model, facts, nodes), chainCount * model.slotCount);
}

/** So many clients that ask again at once, with the costs' traffic. */
const loadOf = ({ traffic: { promptTokens, generatedTokens } }: Costs, clientCount: number): Load => ({
  kind: "closed",
  clientCount: Math.max(1, clientCount),
  promptTokens,
  generatedTokens,
  spread: 0.3,
  underWay: true,
});

/** A tiling before its ranks have names, every chain full: what `servedBest` asks for. */
export function houseOfTiling(
  all: Costs,
  slotCount: number,
  holderAt: (site: string) => Pick<Stationed, "nodes" | "sliceWeights">,
  { holdings, chains }: Pick<Tiling, "holdings" | "chains">,
): { readonly house: House; readonly load: Load } {
  const segments = holdings.map(({ site, layers }) => ({ ...holderAt(site), name: site, layers }));
  const paths = chains.map((chain) => ({ stations: chain.holdings, weight: 1 }));
  return { house: houseOn(all, slotCount, segments, paths), load: loadOf(all, chains.length * slotCount) };
}

/** So many generated tokens of each client are enough for a figure of two digits. */
const TOKENS_PER_CLIENT = 300;
const TOKENS_MAX = 20_000;

/** What a placement serves, at full load unless said otherwise. Seeded by its own data: the same plan, the same figures. */
export function simulatePlacement(placed: Placed, load: Load = fullLoad(placed)): Outcome {
  const clientCount = load.kind === "closed" ? load.clientCount : 16;
  const tokens = Math.min(TOKENS_MAX, TOKENS_PER_CLIENT * clientCount);
  return simulate(houseOf(placed), load, { seed: placed.model.name, warmUpTokens: Math.ceil(tokens / 4), tokens });
}
