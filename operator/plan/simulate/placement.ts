/**
 * A placement as a house to simulate: every segment a station of its nodes, every route a path, all times from what was
 * measured (cost/). What comes out is what the plan promises.
 */
import { present } from "../../../core/assert.ts";
import { lengthOf } from "../../../core/ranges.ts";
import { type Costs, TOKEN_BYTES, costs } from "../cost/costs.ts";
import { type LinkSpeed, gatewayLink, linkBetween } from "../cost/links.ts";
import type { Assignment, ModelFacts, ModelSpec, NodeFacts, Route } from "../types.ts";
import { type House, type Load, type Outcome, RUNTIME_BUDGET, type Station, type Way } from "./house.ts";
import { simulate } from "./simulate.ts";

export type Placed = {
  readonly model: ModelSpec;
  readonly facts: Pick<ModelFacts, "config">;
  readonly nodes: readonly NodeFacts[];
  readonly assignments: readonly Assignment[];
  readonly routes?: readonly Pick<Route, "chain" | "segments">[]; // left out: every chain is its own segments
};

type Segment = {
  readonly chain: number;
  readonly segment: number;
  readonly leader: NodeFacts;
  readonly held: readonly NodeFacts[]; // in rank order
  readonly ranks: readonly Assignment[];
};

/** What a gateway does with a token before it asks for the next: decode, stream, count. */
const GATEWAY_SECONDS = 0.0005;

/** Stations in order of chain and segment. Every assignment's node must be among `nodes`. */
export function houseOf(placed: Placed): House {
  const { model, facts, nodes, assignments } = placed;
  const all = costs(model, facts, nodes);
  const segments = segmentsOf(assignments, nodes);
  const indexOf = new Map(segments.map(({ chain, segment }, index) => [`${chain} ${segment}`, index]));
  // In the order in which a gateway knows them: of equals it takes the first.
  const routes = placed.routes?.toSorted((a, b) => a.chain - b.chain) ?? chainsOf(segments);
  const at = (index: number): NodeFacts => present(segments[index], "stations are segments").leader;
  return {
    stations: segments.map((segment) => stationOf(segment, all, model.slotCount)),
    paths: routes.map((route) => ({
      stations: route.segments.map(({ chain, segment }) =>
        present(indexOf.get(`${chain} ${segment}`), "routes pass through segments of the plan"),
      ),
      weight: 1,
    })),
    between: (from, to) => wayOf(linkBetween(at(from), at(to)), all.sizes.rowBytes),
    entry: (to) => wayOf(gatewayLink(at(to)), TOKEN_BYTES),
    exit: (from) => wayOf(gatewayLink(at(from)), TOKEN_BYTES),
    gatewaySeconds: GATEWAY_SECONDS,
    budget: RUNTIME_BUDGET,
    lingers: true,
  };
}

const wayOf = ({ roundTripSeconds, bytesPerSecond }: LinkSpeed, rowBytes: number): Way => ({
  seconds: roundTripSeconds / 2,
  secondsPerRow: rowBytes / bytesPerSecond,
});

function stationOf({ chain, segment, held, ranks }: Segment, all: Costs, slotCount: number): Station {
  const first = present(ranks[0], "a segment has ranks");
  const site = all.site(held, first.sliceWeights);
  const layerCount = lengthOf(first.layers);
  const isLast = first.layers.end === all.sizes.layerCount;
  return {
    name: `${chain}-${segment}`,
    devices: held.map(({ name }) => name),
    slotCount,
    stepSeconds: ({ rowCount, positionCount, sampleCount }) =>
      site.stepSeconds({ layerCount, rowCount, positionCount, sampleCount: isLast ? sampleCount : 0 }),
  };
}

function segmentsOf(assignments: readonly Assignment[], nodes: readonly NodeFacts[]): readonly Segment[] {
  const byName = new Map(nodes.map((node) => [node.name, node]));
  const groups = new Map<string, Assignment[]>();
  const sorted = [...assignments].sort((a, b) => a.chain - b.chain || a.segment - b.segment || a.rank - b.rank);
  for (const assignment of sorted) {
    const key = `${assignment.chain} ${assignment.segment}`;
    groups.set(key, [...(groups.get(key) ?? []), assignment]);
  }
  return [...groups.values()].map((ranks) => {
    const held = ranks.map(({ node }) => present(byName.get(node), "the plan places ranks on nodes that it was shown"));
    const { chain, segment } = present(ranks[0], "a group has ranks");
    return { chain, segment, held, ranks, leader: present(held[0], "a group has nodes") };
  });
}

function chainsOf(segments: readonly Segment[]): readonly Pick<Route, "segments">[] {
  const chains = [...new Set(segments.map(({ chain }) => chain))];
  return chains.map((chain) => ({ segments: segments.filter((segment) => segment.chain === chain) }));
}

/** Every chain full of sessions all the time: as many clients as there are slots in the narrowest way through. */
export function fullLoad({ model, facts, nodes, routes, assignments }: Placed): Load {
  const { promptTokens, generatedTokens } = costs(model, facts, nodes).traffic;
  const chainCount = routes?.length ?? new Set(assignments.map(({ chain }) => chain)).size;
  const clientCount = Math.max(1, chainCount * model.slotCount);
  return { kind: "closed", clientCount, promptTokens, generatedTokens, spread: 0.3, underWay: true };
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
