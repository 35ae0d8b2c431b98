/// <reference lib="es2025.float16" />
/**
 * Which tensors of a Hugging Face Llama checkpoint go where: the rows and columns of one slice, fused and quantised,
 * streamed into the weights file, and the graphs that point at them.
 */
import type { ModelConfig } from "../../core/model-config.ts";
import { type Range, lengthOf } from "../../core/ranges.ts";
import { type BlockSizes, type Slice, blockSizes } from "../../core/slice.ts";
import {
  type PackedHead,
  type PackedLayer,
  type PackedMatrix,
  type PackedProjection,
  attentionGraph,
  attentionOutGraph,
  enterGraph,
  feedForwardGraph,
  headGraph,
  leaveGraph,
  throughGraph,
} from "./graph/llama.ts";
import { FLOAT, FLOAT16, type StoredTensor, UINT8 } from "./graph/onnx.ts";
import type { HashedFile } from "./hashed-file.ts";
import { withPaddedHeads } from "./padded-heads.ts";
import { type BlockBits, quantizeRows } from "./quantize.ts";
import type { PackFormat, Shard } from "./shard.ts";
import type { TensorSource } from "./tensor-source.ts";

/** Native code maps weights from the file; a page's start suits every vector instruction. */
const ALIGNMENT = 4096;

/** Names of the graphs of a shard; see graph/llama.ts for what is in them. */
export const GRAPHS = {
  attention: "attention.onnx",
  head: "head.onnx",
  enter: (layer: number) => `enter-${layer}.onnx`,
  through: (layer: number) => `through-${layer}.onnx`,
  leave: (layer: number) => `leave-${layer}.onnx`,
  attentionOut: (layer: number) => `attention-out-${layer}.onnx`,
  feedForward: (layer: number) => `feed-forward-${layer}.onnx`,
} as const;

export type GraphFile = { readonly name: string; readonly bytes: Uint8Array };

/** Rows (outputs) and columns (inputs) of one tensor of the checkpoint that go into a packed matrix. */
type Piece = { readonly tensor: string; readonly rows: Range; readonly columns: Range };

export async function packGraphs(
  checkpoint: TensorSource,
  model: ModelConfig,
  shard: Shard,
  format: PackFormat,
  weights: HashedFile,
  onProgress: (doneCount: number, totalCount: number) => void = () => {},
): Promise<{ readonly graphs: readonly GraphFile[] }> {
  const { slice, layers } = shard;
  const { source, config } = withPaddedHeads(checkpoint, model);
  const last = layers.end === config.layerCount;
  const writer = new MatrixWriter(source, format, weights);
  const totalCount = lengthOf(layers) + (last ? 1 : 0);
  const packed: IndexedLayer[] = [];
  for (let index = layers.start; index < layers.end; index += 1) {
    packed.push([index, await packLayer(writer, config, slice, index)]);
    onProgress(packed.length, totalCount);
  }
  const graphs = [
    { name: GRAPHS.attention, bytes: attentionGraph(config, slice, model.headSize) },
    ...(slice.rankCount === 1 ? graphsOfOneRank(config, slice, packed) : graphsOfSeveral(config, slice, packed)),
  ];
  if (!last) return { graphs };
  const head = await packHead(writer, config, slice);
  onProgress(totalCount, totalCount);
  return { graphs: [...graphs, { name: GRAPHS.head, bytes: headGraph(config, slice, head) }] };
}

type IndexedLayer = readonly [index: number, layer: PackedLayer];

function graphsOfOneRank(config: ModelConfig, slice: Slice, layers: readonly IndexedLayer[]): readonly GraphFile[] {
  return layers.flatMap(([index, layer], at) => {
    const next = layers[at + 1]?.[1];
    const after =
      next === undefined
        ? { name: GRAPHS.leave(index), bytes: leaveGraph(config, slice, layer) }
        : { name: GRAPHS.through(index), bytes: throughGraph(config, slice, layer, next) };
    return at === 0 ? [{ name: GRAPHS.enter(index), bytes: enterGraph(config, slice, layer) }, after] : [after];
  });
}

function graphsOfSeveral(config: ModelConfig, slice: Slice, layers: readonly IndexedLayer[]): readonly GraphFile[] {
  return layers.flatMap(([index, layer]) => [
    { name: GRAPHS.enter(index), bytes: enterGraph(config, slice, layer) },
    { name: GRAPHS.attentionOut(index), bytes: attentionOutGraph(config, slice, layer) },
    { name: GRAPHS.feedForward(index), bytes: feedForwardGraph(config, layer) },
  ]);
}

async function packLayer(writer: MatrixWriter, config: ModelConfig, slice: Slice, index: number): Promise<PackedLayer> {
  const prefix = `layers.${index}.`;
  const blocks = blockSizes(config);
  const hidden: Range = { start: 0, end: config.hiddenSize };
  const headRows = headsToRows(slice.heads, config);
  const kvRows = kvRowRanges(slice, config);
  const attentionNorm = await writer.vector(`${prefix}attentionIn.norm`, [hidden]);
  const qkv = await writer.projection(
    `layer_${index}_qkv_weight`,
    [
      { tensor: `${prefix}q`, rows: headRows, columns: hidden },
      ...kvRows.map((rows) => ({ tensor: `${prefix}k`, rows, columns: hidden })),
      ...kvRows.map((rows) => ({ tensor: `${prefix}v`, rows, columns: hidden })),
    ],
    blocks.hidden,
    config.qkvBias,
  );
  // A bias after a partial sum must count once: rank 0 has it.
  const attentionOut = await writer.projection(
    `layer_${index}_attention_out_weight`,
    [{ tensor: `${prefix}o`, rows: hidden, columns: headRows }],
    blocks.attention,
    config.attentionOutBias && slice.rankIndex === 0,
  );
  const ffnNorm = await writer.vector(`${prefix}ffnIn.norm`, [hidden]);
  const { gateUp, down } = await packFeedForward(writer, config, slice, index, blocks);
  return { attentionNorm, qkv, attentionOut, ffnNorm, gateUp, down };
}

async function packFeedForward(
  writer: MatrixWriter,
  config: ModelConfig,
  slice: Slice,
  index: number,
  blocks: BlockSizes,
): Promise<Pick<PackedLayer, "gateUp" | "down">> {
  const prefix = `layers.${index}.`;
  const hidden: Range = { start: 0, end: config.hiddenSize };
  const gateUp = await writer.projection(
    `layer_${index}_gate_up_weight`,
    [
      { tensor: `${prefix}gate`, rows: slice.columns, columns: hidden },
      { tensor: `${prefix}up`, rows: slice.columns, columns: hidden },
    ],
    blocks.hidden,
    config.mlpBias,
  );
  const down = await writer.projection(
    `layer_${index}_down_weight`,
    [{ tensor: `${prefix}down`, rows: hidden, columns: slice.columns }],
    blocks.ffn,
    config.mlpBias && slice.rankIndex === 0,
  );
  return { gateUp, down };
}

async function packHead(writer: MatrixWriter, config: ModelConfig, slice: Slice): Promise<PackedHead> {
  const hidden: Range = { start: 0, end: config.hiddenSize };
  const norm = await writer.vector("norm", [hidden]);
  const matrix = await writer.matrix(
    "head_weight",
    [{ tensor: "head", rows: slice.vocabulary, columns: hidden }],
    blockSizes(config).hidden,
  );
  return { norm, matrix };
}

const headsToRows = (heads: Range, config: ModelConfig): Range => ({
  start: heads.start * config.headSize,
  end: heads.end * config.headSize,
});

/** Rows of k and v in the order of the rank's own KV heads; neighbours are read in one go. */
function kvRowRanges(slice: Slice, config: ModelConfig): readonly Range[] {
  const ranges: Range[] = [];
  for (const head of slice.kvHeads) {
    const rows = headsToRows({ start: head, end: head + 1 }, config);
    const before = ranges.at(-1);
    if (before?.end === rows.start) ranges[ranges.length - 1] = { start: before.start, end: rows.end };
    else ranges.push(rows);
  }
  return ranges;
}

/** Reads, converts and appends to the weights file, a few rows at a time. */
class MatrixWriter {
  readonly #source: TensorSource;
  readonly #format: PackFormat;
  readonly #weights: HashedFile;

  constructor(source: TensorSource, format: PackFormat, weights: HashedFile) {
    this.#source = source;
    this.#format = format;
    this.#weights = weights;
  }

  /** Parts of a tensor of one axis, one after the other, f32. */
  async vector(tensor: string, parts: readonly Range[]): Promise<StoredTensor> {
    return this.#join(
      tensor,
      parts.map((rows) => ({ tensor, rows })),
    );
  }

  async #join(name: string, parts: readonly { tensor: string; rows: Range }[]): Promise<StoredTensor> {
    const values: Float32Array[] = [];
    for (const { tensor, rows } of parts) values.push(await this.#source.read(tensor, { rows }));
    const length = values.reduce((sum, part) => sum + part.length, 0);
    const joined = new Float32Array(length);
    let at = 0;
    for (const part of values) {
      joined.set(part, at);
      at += part.length;
    }
    return this.#append(name, FLOAT, [length], joined);
  }

  /** The matrix of a linear layer (`<tensor>.weight`) and, where `biased`, its bias. */
  async projection(
    name: string,
    pieces: readonly Piece[],
    blockSize: number,
    biased: boolean,
  ): Promise<PackedProjection> {
    const matrix = await this.matrix(name, pieces, blockSize);
    if (!biased) return { matrix };
    const parts = pieces.map(({ tensor, rows }) => ({ tensor: `${tensor}.bias`, rows }));
    return { matrix, bias: await this.#join(`${name}_bias`, parts) };
  }

  /** Pieces stacked by rows; all have equally many columns. */
  async matrix(name: string, pieces: readonly Piece[], blockSize: number): Promise<PackedMatrix> {
    const outputCount = pieces.reduce((sum, piece) => sum + lengthOf(piece.rows), 0);
    const inputCount = pieces[0] === undefined ? 0 : lengthOf(pieces[0].columns);
    if (this.#format === "f32" || this.#format === "f16") {
      const half = this.#format === "f16";
      await this.#weights.align(ALIGNMENT);
      const offset = this.#weights.sizeBytes;
      for await (const block of this.#blocks(pieces))
        await this.#weights.write(bytesOf(half ? new Float16Array(block) : block));
      return {
        format: "float",
        values: this.#stored(name, half ? FLOAT16 : FLOAT, [outputCount, inputCount], offset),
      };
    }
    return this.#quantized(name, pieces, { outputCount, inputCount, blockSize, bits: this.#format === "int4" ? 4 : 8 });
  }

  async #quantized(
    name: string,
    pieces: readonly Piece[],
    shape: { outputCount: number; inputCount: number; blockSize: number; bits: BlockBits },
  ): Promise<PackedMatrix> {
    const blockCount = Math.ceil(shape.inputCount / shape.blockSize);
    await this.#weights.align(ALIGNMENT);
    const offset = this.#weights.sizeBytes;
    const scales = new Float32Array(shape.outputCount * blockCount);
    let at = 0;
    for await (const block of this.#blocks(pieces)) {
      const quantized = quantizeRows(block, shape.inputCount, shape.blockSize, shape.bits);
      scales.set(quantized.scales, at);
      at += quantized.scales.length;
      await this.#weights.write(quantized.values);
    }
    const dims = [shape.outputCount, blockCount, (shape.blockSize * shape.bits) / 8];
    const values = this.#stored(name, UINT8, dims, offset);
    return { format: "blocks", ...shape, values, scales: await this.#append(`${name}_scales`, FLOAT, [at], scales) };
  }

  async *#blocks(pieces: readonly Piece[]): AsyncGenerator<Float32Array> {
    for (const { tensor, rows, columns } of pieces)
      for (const part of rowBlocks(rows, lengthOf(columns)))
        yield await this.#source.read(`${tensor}.weight`, { rows: part, columns });
  }

  async #append(name: string, dataType: number, dims: readonly number[], values: Float32Array): Promise<StoredTensor> {
    await this.#weights.align(ALIGNMENT);
    const offset = this.#weights.sizeBytes;
    await this.#weights.write(bytesOf(values));
    return this.#stored(name, dataType, dims, offset);
  }

  /** The tensor that was written from `offset` to the file's end. */
  #stored(name: string, dataType: number, dims: readonly number[], offset: number): StoredTensor {
    return { name, dataType, dims, file: this.#weights.name, offset, length: this.#weights.sizeBytes - offset };
  }
}

const bytesOf = (values: Float32Array | Float16Array): Uint8Array =>
  new Uint8Array(values.buffer, values.byteOffset, values.byteLength);

/** Values that are read, converted and written at once: 16 MiB of f32. */
const BLOCK_VALUE_COUNT = 1 << 22;

/** `rows` in pieces small enough that a model larger than memory can be packed. */
export function* rowBlocks(rows: Range, columnCount: number): Generator<Range> {
  const step = Math.max(1, Math.floor(BLOCK_VALUE_COUNT / columnCount));
  for (let start = rows.start; start < rows.end; start += step) yield { start, end: Math.min(rows.end, start + step) };
}
