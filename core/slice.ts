/**
 * How the ranks of one tensor-parallel segment share each layer: query heads, FFN columns or whole experts, and vocabulary
 * rows, in any uneven proportion. Planner (bytes) and engine (tensors) call the same functions, so what was planned is what is loaded.
 */
import { assert, present } from "./assert.ts";
import type { ModelConfig } from "./model-config.ts";
import { type LayerRange, type Range, lengthOf, splitByWeights } from "./ranges.ts";
import type { Quantization } from "./rank-config.ts";

/** One rank's part of every layer of its segment. */
export type Slice = {
  readonly rankIndex: number;
  readonly rankCount: number;
  readonly heads: Range; // query heads
  /**
   * The model's KV head behind each KV head that this rank holds, in order. Query head `heads.start + i` reads local KV
   * head `floor(i / headsPerKvHead)`. One appears twice where a rank's groups are of unlike size.
   */
  readonly kvHeads: readonly number[];
  readonly headsPerKvHead: number;
  readonly columns: Range; // FFN columns, of layers without experts
  readonly experts: Range; // whole experts, of layers with them; may be empty
  readonly vocabulary: Range; // rows of embedding and head
  readonly shareMillionths: number; // of the segment's work; over the ranks they sum to exactly 1,000,000
};

/** Values that share one scale, along the inputs of a matrix. Larger is faster, smaller is finer. */
const BLOCK_SIZES = [128, 64, 32, 16] as const;
/** For widths that no block size divides: the last block is short. */
const ODD_BLOCK_SIZE = 16;
/** FFN columns are dealt out in whole blocks; fewer than this and uneven shares could not be met. */
const COLUMN_UNIT_COUNT_MIN = 16;
const VOCABULARY_UNIT = 16;
/** How far heads may stray from their share where that spares copies of KV heads; FFN columns make up for it. */
const HEAD_IMBALANCE_MAX = 1.3;

/** Heads as the engine holds them: attention kernels take multiples of 16 (zeros fill the others up). */
export const paddedHeadSize = (config: ModelConfig): number => Math.ceil(config.headSize / 16) * 16;

export type BlockSizes = {
  readonly hidden: number; // matrices that read the hidden state: QKV, gate and up, head
  readonly attention: number; // output projection; divides the head size, so that any cut falls between blocks
  readonly ffn: number; // down projection; FFN columns are cut between blocks
  readonly expert: number; // down projection of an expert
};

/** Block sizes follow from the whole model alone: a block has the same values, and the same scale, in every slicing. */
export function blockSizes(config: ModelConfig): BlockSizes {
  const dividing = (size: number, countMin = 1) =>
    BLOCK_SIZES.find((block) => size % block === 0 && size / block >= countMin);
  return {
    hidden: dividing(config.hiddenSize) ?? ODD_BLOCK_SIZE,
    attention: dividing(paddedHeadSize(config)) ?? ODD_BLOCK_SIZE,
    ffn: dividing(config.ffnSize, COLUMN_UNIT_COUNT_MIN) ?? dividing(config.ffnSize) ?? ODD_BLOCK_SIZE,
    expert: dividing(config.experts?.size ?? 0) ?? ODD_BLOCK_SIZE,
  };
}

/** Layers with experts among `layers`, of the whole model where absent. */
const expertLayerCount = (config: ModelConfig, layers: LayerRange = { start: 0, end: config.layerCount }): number =>
  config.layerKinds.slice(layers.start, layers.end).filter(({ experts }) => experts).length;

/** The most ranks that a segment of this model can have: each needs a head, an FFN column and a row of the vocabulary. */
export const rankCountMax = (config: ModelConfig): number =>
  Math.min(config.headCount, config.ffnSize, config.vocabularySize);

/**
 * One slice per weight, in proportion to the weights as far as whole heads allow. Heads are cut where few KV heads have
 * to be held twice, then FFN columns even out the work. A function of its arguments alone. `weights` are positive and at
 * most `rankCountMax(config)`.
 */
export function cutSlices(config: ModelConfig, weights: readonly number[]): readonly Slice[] {
  assert(weights.length > 0 && weights.length <= rankCountMax(config), "every rank gets a head, a column and a row");
  assert(
    weights.every((weight) => weight > 0 && Number.isFinite(weight)),
    "weights are positive",
  );
  const total = weights.reduce((a, b) => a + b, 0);
  const shares = weights.map((weight) => weight / total);
  const heads = cutHeads(config, shares);
  const columns = cutColumns(config, shares, heads);
  const vocabulary = cutInUnits(config.vocabularySize, VOCABULARY_UNIT, shares);
  const experts = cutExperts(config, shares, heads);
  const works = heads.map((range, rank) => {
    const expertColumns = expectedExpertColumns(config, lengthOf(at(experts, rank)));
    const share = expertLayerCount(config) / config.layerCount;
    const columnCount = lengthOf(at(columns, rank)) * (1 - share) + expertColumns * share;
    return (lengthOf(range) * 2 * config.headSize + columnCount * 3) * config.hiddenSize;
  });
  // Largest remainder, by the same function that deals out everything else; the least share is not nothing.
  const shareRanges = splitByWeights(1_000_000, works);
  return heads.map((range, rankIndex) => ({
    rankIndex,
    rankCount: weights.length,
    heads: range,
    ...kvHeadsOf(config, range),
    columns: at(columns, rankIndex),
    experts: at(experts, rankIndex),
    vocabulary: at(vocabulary, rankIndex),
    shareMillionths: lengthOf(at(shareRanges, rankIndex)),
  }));
}

const at = <T>(items: readonly T[], index: number): T => present(items[index], "one per rank");

/**
 * GroupQueryAttention wants every KV head to serve equally many query heads. So a rank's heads are read as groups of
 * the greatest size that fits every whole or cut group it holds, each with its own copy of the KV head.
 */
function kvHeadsOf(config: ModelConfig, heads: Range): Pick<Slice, "kvHeads" | "headsPerKvHead"> {
  const groupSize = config.headCount / config.kvHeadCount;
  let headsPerKvHead = 0;
  for (let head = heads.start; head < heads.end; ) {
    const end = Math.min(heads.end, (Math.floor(head / groupSize) + 1) * groupSize);
    headsPerKvHead = greatestCommonDivisor(headsPerKvHead, end - head);
    head = end;
  }
  const kvHeads: number[] = [];
  for (let head = heads.start; head < heads.end; head += headsPerKvHead) kvHeads.push(Math.floor(head / groupSize));
  return { kvHeads, headsPerKvHead };
}

const greatestCommonDivisor = (a: number, b: number): number => (b === 0 ? a : greatestCommonDivisor(b, a % b));

/** Where the cut [.., end) of the first ranks stands: KV heads held so far, and the worst head count per share. */
type Cut = { readonly kvHeadCount: number; readonly worst: number; readonly start: number };

/**
 * Exact, by dynamic programming over the cuts: first the best balance that whole heads allow, then, within
 * HEAD_IMBALANCE_MAX of it, the fewest KV heads in all, then the best balance among those.
 */
function cutHeads(config: ModelConfig, shares: readonly number[]): readonly Range[] {
  const balanced = bestCuts(config, shares, Number.POSITIVE_INFINITY, false);
  const worst = present(balanced.at(-1)?.[config.headCount], "some cut exists").worst;
  const rows = bestCuts(config, shares, worst * HEAD_IMBALANCE_MAX, true);
  const ranges: Range[] = [];
  for (let rank = shares.length - 1, end = config.headCount; rank >= 0; rank -= 1) {
    const { start } = present(rows[rank]?.[end], "the chosen cut was reached from somewhere");
    ranges.unshift({ start, end });
    end = start;
  }
  return ranges;
}

/** rows[rank][end]: the best way for ranks 0..rank to hold heads [0, end), each at most `worstMax` heads per share. */
function bestCuts(config: ModelConfig, shares: readonly number[], worstMax: number, sparing: boolean) {
  const rows: (Cut | undefined)[][] = [];
  for (const [rank, share] of shares.entries()) {
    const before = rows[rank - 1];
    const row: (Cut | undefined)[] = new Array<Cut | undefined>(config.headCount + 1).fill(undefined);
    for (let end = rank + 1; end <= config.headCount; end += 1) {
      for (let start = rank; start < end; start += 1) {
        const from = before === undefined ? (start === 0 ? { kvHeadCount: 0, worst: 0 } : undefined) : before[start];
        const ratio = (end - start) / share;
        if (from === undefined || ratio > worstMax) continue;
        const kvHeadCount = sparing ? from.kvHeadCount + kvHeadsOf(config, { start, end }).kvHeads.length : 0;
        const cut = { kvHeadCount, worst: Math.max(from.worst, ratio), start };
        const best = row[end];
        const better =
          best === undefined ||
          cut.kvHeadCount < best.kvHeadCount ||
          (cut.kvHeadCount === best.kvHeadCount && cut.worst < best.worst);
        if (better) row[end] = cut;
      }
    }
    rows.push(row);
  }
  return rows;
}

/** FFN columns that a token runs through on average, of so many experts. */
const expectedExpertColumns = ({ experts }: ModelConfig, heldCount: number): number =>
  experts === undefined ? 0 : (heldCount * experts.perToken * experts.size) / experts.count;

/** Whole experts, so that each rank's share of the layer's bytes comes near its weight; some ranks may have none. */
function cutExperts(config: ModelConfig, shares: readonly number[], heads: readonly Range[]): readonly Range[] {
  const { count, size } = config.experts ?? { count: 0, size: 0 };
  if (count === 0) return shares.map(() => ({ start: 0, end: 0 }));
  return splitByWeights(count, wantedColumns(config, shares, heads, count * size), 0);
}

/** Columns in whole blocks, so that each rank's share of the layer comes near its weight though heads are coarse. */
function cutColumns(config: ModelConfig, shares: readonly number[], heads: readonly Range[]): readonly Range[] {
  return cutInUnits(config.ffnSize, blockSizes(config).ffn, wantedColumns(config, shares, heads, config.ffnSize));
}

/** What each rank lacks of its share of a layer once heads are cut, with so many columns to deal out. */
function wantedColumns(
  config: ModelConfig,
  shares: readonly number[],
  heads: readonly Range[],
  columnCount: number,
): readonly number[] {
  const attention = heads.map(
    (range) => (lengthOf(range) + kvHeadsOf(config, range).kvHeads.length) * 2 * config.headSize,
  );
  const layer = attention.reduce((a, b) => a + b, 0) + 3 * columnCount;
  return shares.map((share, rank) => Math.max(share * layer - at(attention, rank), share * layer * 1e-3));
}

/** Whole units where every rank gets at least one, else single items. The last unit may be short. */
function cutInUnits(count: number, unit: number, weights: readonly number[]): readonly Range[] {
  const unitCount = Math.ceil(count / unit);
  if (unitCount < weights.length) return splitByWeights(count, weights);
  return splitByWeights(unitCount, weights).map(({ start, end }) => ({
    start: start * unit,
    end: Math.min(end * unit, count),
  }));
}

/**
 * Bytes of weights that a rank holds, packed, norms and scales included; what sessions keep comes on top (kv-cache.ts), and
 * the runtime itself (about 150 MiB of process and working space). `first`: with the embedding; `last`: with final norm
 * and head. A tied embedding is held for each of the two. `scale`: where matrices are held as the checkpoint has them
 * (held-bytes.ts).
 */
export function shardBytes(
  config: ModelConfig,
  layers: LayerRange,
  slice: Slice,
  quantization: Quantization,
  ends: { readonly first: boolean; readonly last: boolean },
  scale: { readonly layers: number; readonly head: number } = { layers: 1, head: 1 },
): number {
  const blocks = blockSizes(config);
  const matrix = (outputs: number, inputs: number, block: number) => matrixBytes(outputs, inputs, block, quantization);
  const gated = (columnCount: number, block: number) =>
    matrix(2 * columnCount, config.hiddenSize, blocks.hidden) + matrix(config.hiddenSize, columnCount, block);
  const { hiddenSize } = config;
  const rowCount = lengthOf(slice.vocabulary);
  const expertLayers = expertLayerCount(config, layers);
  const layerCount = lengthOf(layers);
  const embeddingBytes = ends.first ? rowCount * hiddenSize * embeddingValueBytes(quantization) : 0;
  const headBytes = ends.last ? matrix(rowCount, hiddenSize, blocks.hidden) + hiddenSize * 4 : 0;
  const ffnBytes =
    gated(lengthOf(slice.columns), blocks.ffn) + (config.mlpBias ? (2 * lengthOf(slice.columns) + hiddenSize) * 4 : 0);
  const { count, size, bias, routerBias } = config.experts ?? { count: 0, size: 0, bias: false, routerBias: false };
  const oneExpert = gated(size, blocks.expert) + (bias ? (2 * size + hiddenSize) * 4 : 0);
  const expertBytes = lengthOf(slice.experts) * oneExpert + count * (hiddenSize + (routerBias ? 1 : 0)) * 4;
  const layersBytes =
    layerCount * attentionBytes(config, slice, matrix) +
    (layerCount - expertLayers) * ffnBytes +
    expertLayers * expertBytes;
  return Math.ceil(layersBytes * scale.layers + embeddingBytes + headBytes * scale.head);
}

/** Of one layer, norms included. */
function attentionBytes(
  config: ModelConfig,
  slice: Slice,
  matrix: (outputs: number, inputs: number, block: number) => number,
): number {
  const { hiddenSize } = config;
  const blocks = blockSizes(config);
  const headSize = paddedHeadSize(config);
  const queries = lengthOf(slice.heads) * headSize;
  const keys = slice.kvHeads.length * headSize;
  const normCount = Object.values(config.norms).filter(Boolean).length;
  const valueCount =
    normCount * hiddenSize +
    (config.qkvBias ? queries + 2 * keys : 0) +
    (config.attentionOutBias ? hiddenSize : 0) +
    (config.qkNorm === undefined ? 0 : config.qkNorm === "head" ? 2 * headSize : queries + keys);
  return (
    matrix(queries + 2 * keys, hiddenSize, blocks.hidden) +
    matrix(hiddenSize, queries, blocks.attention) +
    valueCount * 4
  );
}

/** Embeddings are looked up, not multiplied: f32 as they are, or f16 where the matrices are quantised. */
export const embeddingValueBytes = (quantization: Quantization): number => (quantization === "f32" ? 4 : 2);

function matrixBytes(outputs: number, inputs: number, block: number, quantization: Quantization): number {
  if (quantization === "f32") return outputs * inputs * 4;
  if (quantization === "f16") return outputs * inputs * 2;
  const blockCount = Math.ceil(inputs / block);
  return outputs * blockCount * ((block * (quantization === "int8" ? 8 : 4)) / 8 + 4);
}
