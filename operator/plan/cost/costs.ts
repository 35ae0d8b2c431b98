/**
 * What a model's steps and hand-offs take on given nodes: the figures that a plan is judged by. Pure arithmetic over what
 * was measured; what was not is assumed, and says so. `place` fills a tiling's sites and links from here, the simulation
 * runs on the same functions, so a plan's estimate and its search never speak of two different machines.
 */
import { assert } from "../../../core/assert.ts";
import type { ModelFacts, ModelSpec, NodeFacts } from "../types.ts";
import { type LinkSpeed, gatewayLink, linkBetween, tripSeconds } from "./links.ts";
import { type ModelSizes, type RankSizes, modelSizes } from "./sizes.ts";
import { type Speed, speedOf } from "./speed.ts";

/** What sessions are like, all alike. */
export type Traffic = {
  readonly sessionCount: number; // at once, a chain
  readonly promptTokens: number; // a session
  readonly generatedTokens: number; // a session, ≥ 1
};

/** One step of a segment: rows of one session or of several that run as one batch. */
export type StepShape = {
  readonly layerCount: number;
  readonly rowCount: number;
  readonly positionCount: number; // of the KV cache that the rows read, all rows together
  readonly sampleCount: number; // rows that go through the head; 0 on any segment but the last
};

/** Rates by number of layers held, at [k − 1]; see Site in tiling/problem.ts. */
export type Rates = { readonly tokensPerSecond: readonly number[]; readonly secondsPerToken: readonly number[] };

export type SiteCosts = {
  /** For k = 1 … layersMax, at full batches of the costs' traffic; `last`: where the site also holds the head. */
  rates(layersMax: number): Rates & { readonly last: Rates };
  stepSeconds(step: StepShape): number;
  /** Seconds that a token of a session alone spends in so many layers here, of an average position. */
  tokenSeconds(layerCount: number, last: boolean): number;
  readonly estimated: readonly string[]; // what was not measured, in words; empty: all was
};

export type LinkCosts = {
  readonly tokensPerSecond: number;
  readonly seconds: number; // until one row is there
  rowsSeconds(rowCount: number): number; // until so many rows of one step are there
  readonly isEstimated: boolean;
};

export type Costs = {
  readonly traffic: Traffic;
  readonly sizes: ModelSizes;
  /** A node alone (`sliceWeights` [1]) or a tensor-parallel group, nodes in rank order. */
  site(nodes: readonly NodeFacts[], sliceWeights: readonly number[]): SiteCosts;
  link(from: NodeFacts, to: NodeFacts): LinkCosts; // leader to leader
  entry(to: NodeFacts): LinkCosts; // gateway to first segment: token ids
  exit(from: NodeFacts): LinkCosts; // last segment to gateway: token ids
};

/** Three tokens read for each one written, as chats with some history are; at most a thousand and less than a context. */
export function assumedTraffic({ contextLength, slotCount }: Pick<ModelSpec, "contextLength" | "slotCount">): Traffic {
  const total = Math.min(1024, contextLength);
  const generatedTokens = Math.max(1, Math.floor(total / 4));
  return { sessionCount: slotCount, promptTokens: Math.max(1, total - generatedTokens), generatedTokens };
}

/** An id and its frame. */
export const TOKEN_BYTES = 68;
/** Of softmax and choice, for each word of the vocabulary, on the leader's event loop. */
const SAMPLE_SECONDS_PER_WORD = 5e-9;
/** A partial sum leaves every layer twice: after attention and after the feed-forward network. */
const EXCHANGES_PER_LAYER = 2;

/** `nodes`: all that may take part; what sessions do elsewhere while they are not at a site follows from them. */
export function costs(
  model: Pick<ModelSpec, "quantization" | "handOffDtype" | "kvDtype" | "contextLength" | "slotCount">,
  facts: Pick<ModelFacts, "config" | "held">,
  nodes: readonly NodeFacts[],
  traffic: Traffic = assumedTraffic(model),
): Costs {
  const sizes = modelSizes(model, facts);
  const elsewhere = meanLayerSeconds(sizes, nodes.map(speedOf));
  const shared = new Map<string, SiteCosts>();
  const link = (speed: LinkSpeed, rowBytes: number): LinkCosts => ({
    tokensPerSecond: speed.bytesPerSecond / rowBytes,
    seconds: tripSeconds(speed, rowBytes),
    rowsSeconds: (rowCount) => tripSeconds(speed, rowCount * rowBytes),
    isEstimated: speed.isEstimated,
  });
  return {
    traffic,
    sizes,
    site: (held, sliceWeights) => {
      assert(held.length > 0 && held.length === sliceWeights.length, "a slice weight for every node of a site");
      const speeds = held.map(speedOf);
      const exchange = slowestLink(held);
      const ranks = sizes.ranks(sliceWeights);
      const key = [
        ...speeds.map(speedKey),
        ...sliceWeights,
        exchange?.roundTripSeconds,
        exchange?.bytesPerSecond,
      ].join();
      const estimated = [
        ...speeds.flatMap((speed) => speed.estimated),
        ...(exchange?.isEstimated === true ? [`${held.map(({ name }) => name).join("+")}: links of the group`] : []),
      ];
      // Thousands of nodes are of a few kinds: their tables are the same ones.
      const alike = shared.get(key) ?? siteCosts(sizes, { speeds, ranks, exchange }, traffic, elsewhere);
      shared.set(key, alike);
      return { ...alike, estimated };
    },
    link: (from, to) => link(linkBetween(from, to), sizes.rowBytes),
    entry: (to) => link(gatewayLink(to), TOKEN_BYTES),
    exit: (from) => link(gatewayLink(from), TOKEN_BYTES),
  };
}

type Group = {
  readonly speeds: readonly Speed[];
  readonly ranks: readonly RankSizes[];
  readonly exchange: LinkSpeed | undefined; // the slowest link of the group; undefined: one rank
};

const speedKey = ({ secondsPerByte, rowSecondsPerByte, stepSeconds }: Speed): string =>
  `${secondsPerByte}/${rowSecondsPerByte}/${stepSeconds}`;

/** Every rank sends its partial sum to every other, and the last to arrive is waited for. */
function slowestLink(nodes: readonly NodeFacts[]): LinkSpeed | undefined {
  if (nodes.length === 1) return undefined;
  const links = nodes.flatMap((from) => nodes.filter((to) => to !== from).map((to) => linkBetween(from, to)));
  return {
    roundTripSeconds: Math.max(...links.map(({ roundTripSeconds }) => roundTripSeconds)),
    bytesPerSecond: Math.min(...links.map(({ bytesPerSecond }) => bytesPerSecond)),
    isEstimated: links.some(({ isEstimated }) => isEstimated),
  };
}

function siteCosts(sizes: ModelSizes, group: Group, traffic: Traffic, elsewhereSeconds: number): SiteCosts {
  const stepSeconds = (step: StepShape): number => stepSecondsOf(sizes, group, step);
  const { sessionCount, promptTokens, generatedTokens } = traffic;
  const position = promptTokens + generatedTokens / 2; // of a decoded token, on average
  const rowsPerToken = 1 + promptTokens / generatedTokens; // every generated token brings so many rows with it
  const tokenSeconds = (layerCount: number, last: boolean): number =>
    stepSeconds({ layerCount, rowCount: 1, positionCount: position, sampleCount: last ? 1 : 0 });
  const tokensPerSecond = (layerCount: number, last: boolean): number => {
    // Of all sessions of a chain, those are here whose token is here: the share of its way that a token spends here.
    const here = tokenSeconds(layerCount, last);
    const share = here / (here + (sizes.layerCount - layerCount) * elsewhereSeconds);
    const decodeCount = Math.max(1, sessionCount * share);
    const rowCount = decodeCount * rowsPerToken;
    const sampleCount = last ? decodeCount : 0;
    return rowCount / stepSeconds({ layerCount, rowCount, positionCount: decodeCount * position, sampleCount });
  };
  const table = (layersMax: number, last: boolean): Rates => {
    const counts = Array.from({ length: layersMax }, (_, index) => index + 1);
    return {
      tokensPerSecond: counts.map((count) => tokensPerSecond(count, last)),
      secondsPerToken: counts.map((count) => tokenSeconds(count, last)),
    };
  };
  const tables = new Map<number, Rates & { readonly last: Rates }>();
  return {
    rates: (layersMax) => {
      const known = tables.get(layersMax) ?? { ...table(layersMax, false), last: table(layersMax, true) };
      tables.set(layersMax, known);
      return known;
    },
    stepSeconds,
    tokenSeconds,
    estimated: [],
  };
}

function stepSecondsOf(sizes: ModelSizes, { speeds, ranks, exchange }: Group, step: StepShape): number {
  const { layerCount, rowCount, positionCount, sampleCount } = step;
  let slowest = 0;
  for (const [index, speed] of speeds.entries()) {
    const rank = ranks[index];
    if (rank === undefined) continue;
    const layers = layerCount * layerSeconds(sizes, rank, speed, rowCount, positionCount);
    const { secondsPerByte, rowSecondsPerByte } = speed;
    const head = sampleCount === 0 ? 0 : rank.headBytes * (secondsPerByte + rowSecondsPerByte * sampleCount);
    slowest = Math.max(slowest, speed.stepSeconds + layers + head);
  }
  const others = speeds.length - 1;
  const oneExchange = exchange === undefined ? 0 : tripSeconds(exchange, others * rowCount * sizes.partialBytes);
  const sampling = sampleCount * sizes.vocabularySize * SAMPLE_SECONDS_PER_WORD;
  return slowest + layerCount * EXCHANGES_PER_LAYER * oneExchange + sampling;
}

function layerSeconds(
  { expertShare }: ModelSizes,
  { layerBytes, expertBytes, kvBytesPerPosition }: RankSizes,
  { secondsPerByte, rowSecondsPerByte }: Speed,
  rowCount: number,
  positionCount: number,
): number {
  // Rows choose their experts apart from each other: so many of them are read once for all rows.
  const read = layerBytes - expertBytes * (1 - expertShare) ** rowCount;
  const multiplied = layerBytes - expertBytes * (1 - expertShare);
  return secondsPerByte * (read + kvBytesPerPosition * positionCount) + rowSecondsPerByte * multiplied * rowCount;
}

/** A layer at one row on a node such as there are, where layers are dealt out in proportion to speed. */
function meanLayerSeconds(sizes: ModelSizes, speeds: readonly Speed[]): number {
  const whole = sizes.ranks([1])[0];
  if (whole === undefined || speeds.length === 0) return 0;
  const perSecond = speeds.map((speed) => 1 / layerSeconds(sizes, whole, speed, 1, 0));
  return speeds.length / perSecond.reduce((a, b) => a + b, 0);
}
