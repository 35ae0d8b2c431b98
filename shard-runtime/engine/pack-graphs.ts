/**
 * Which tensors of a model go where: the rows and columns of one slice, fused and quantised, streamed into the weights
 * file, and the graphs of the shard's program that point at them.
 */
import { present } from "../../core/assert.ts";
import type { ModelConfig } from "../../core/model-config.ts";
import { type Range, lengthOf } from "../../core/ranges.ts";
import { type Slice, blockSizes, paddedHeadSize } from "../../core/slice.ts";
import { attentionGraph } from "./graph/attention.ts";
import { type GraphContext, expertGraph, graphOf, headGraph } from "./graph/pieces.ts";
import type { HashedFile } from "./hashed-file.ts";
import { withHeadLayout } from "./head-layout.ts";
import type { PackedFeedForward, PackedHead, PackedLayer } from "./packed-weights.ts";
import { GRAPHS, type NormPlace, headPlan, programOf } from "./program.ts";
import type { PackFormat, Shard } from "./shard.ts";
import type { TensorSource } from "./tensor-source.ts";
import { type BlockMatrix, type Rectangle, WeightWriter } from "./weight-writer.ts";

export type GraphFile = { readonly name: string; readonly bytes: Uint8Array };

/** Writes the shard's matrices to `weights`, and returns the graphs over them, and where those in blocks are. */
export async function packGraphs(
  checkpoint: TensorSource,
  config: ModelConfig,
  shard: Shard,
  format: PackFormat,
  weights: HashedFile,
  onProgress: (doneCount: number, totalCount: number) => void = () => {},
): Promise<{ readonly graphs: readonly GraphFile[]; readonly matrices: readonly BlockMatrix[] }> {
  const { slice, layers } = shard;
  const last = layers.end === config.layerCount;
  const writer = new WeightWriter(withHeadLayout(checkpoint, config), format, weights);
  const totalCount = lengthOf(layers) + (last ? 1 : 0);
  const packed = new Map<number, PackedLayer>();
  for (let index = layers.start; index < layers.end; index += 1) {
    packed.set(index, await packLayer(writer, config, slice, index));
    onProgress(packed.size, totalCount);
  }
  const head = last ? await packHead(writer, config, slice) : undefined;
  if (last) onProgress(totalCount, totalCount);
  const program = programOf(config, shard);
  const context: GraphContext = {
    config,
    slice,
    weights: { layers: packed, ...(head === undefined ? {} : { head }) },
    widths: program.widths,
  };
  const graphs = [
    ...attentionGraphs(config, shard),
    ...program.steps.flatMap((step) =>
      step.step === "run" ? [{ name: step.graph.name, bytes: graphOf(step.graph, context) }] : [],
    ),
    ...expertGraphs(config, packed),
    ...(head === undefined ? [] : [{ name: headPlan.name, bytes: headGraph(headPlan, context) }]),
  ];
  return { graphs, matrices: writer.blocks };
}

function attentionGraphs(config: ModelConfig, { layers, slice }: Shard): readonly GraphFile[] {
  const used = new Set(config.layerKinds.slice(layers.start, layers.end).map(({ attention }) => attention));
  return [...used].map((index) => {
    const kind = present(config.attentionKinds[index], "a layer's kind of attention");
    return { name: GRAPHS.attention(index), bytes: attentionGraph(config, slice, kind) };
  });
}

const expertGraphs = (config: ModelConfig, layers: ReadonlyMap<number, PackedLayer>): readonly GraphFile[] =>
  [...layers].flatMap(([layer, { experts = new Map<number, PackedFeedForward>() }]) =>
    [...experts].map(([expert, packed]) => ({
      name: GRAPHS.expert(layer, expert),
      bytes: expertGraph(config, packed),
    })),
  );

async function packLayer(writer: WeightWriter, config: ModelConfig, slice: Slice, index: number): Promise<PackedLayer> {
  const norms: Partial<Record<NormPlace, PackedLayer["norms"][NormPlace]>> = {};
  const hidden: Range = { start: 0, end: config.hiddenSize };
  for (const place of ["attentionIn", "attentionOut", "ffnIn", "ffnOut"] as const)
    if (config.norms[place])
      norms[place] = await writer.vector(`layer_${index}_${place}_gain`, [
        { tensor: `layers.${index}.${place}.norm`, rows: hidden },
      ]);
  return {
    norms: norms as PackedLayer["norms"],
    ...(await packAttention(writer, config, slice, index)),
    ...(config.layerKinds[index]?.experts === true
      ? await packExperts(writer, config, slice, index)
      : { feedForward: await packFeedForward(writer, config, slice, index) }),
  };
}

async function packAttention(writer: WeightWriter, config: ModelConfig, slice: Slice, index: number) {
  const prefix = `layers.${index}.`;
  const blocks = blockSizes(config);
  const hidden: Range = { start: 0, end: config.hiddenSize };
  const headRows = headsToRows(slice.heads, config);
  const kvRows = kvRowRanges(slice, config);
  const qkv = await writer.projection(
    `layer_${index}_qkv_weight`,
    [
      { tensor: `${prefix}q`, rows: headRows, columns: hidden },
      ...kvRows.map((rows) => ({ tensor: `${prefix}k`, rows, columns: hidden })),
      ...kvRows.map((rows) => ({ tensor: `${prefix}v`, rows, columns: hidden })),
    ],
    { blockSize: blocks.hidden, biased: config.qkvBias },
  );
  // A bias after a partial sum must count once: rank 0 has it.
  const attentionOut = await writer.projection(
    `layer_${index}_attention_out_weight`,
    [{ tensor: `${prefix}o`, rows: hidden, columns: headRows }],
    { blockSize: blocks.attention, biased: config.attentionOutBias && slice.rankIndex === 0 },
  );
  if (config.qkNorm === undefined) return { qkv, attentionOut };
  const oneHead = [{ start: 0, end: paddedHeadSize(config) }];
  const [qRows, kRows] = config.qkNorm === "head" ? [oneHead, oneHead] : [[headRows], kvRows];
  const gains = (letter: string, rows: readonly Range[]) =>
    writer.vector(
      `layer_${index}_${letter}_gain`,
      rows.map((each) => ({ tensor: `${prefix}${letter}.norm`, rows: each })),
    );
  return { qkv, attentionOut, qNorm: await gains("q", qRows), kNorm: await gains("k", kRows) };
}

async function packFeedForward(
  writer: WeightWriter,
  config: ModelConfig,
  slice: Slice,
  index: number,
): Promise<PackedFeedForward> {
  const blocks = blockSizes(config);
  return packGated(writer, config, `layers.${index}.`, {
    columns: slice.columns,
    blockSizes: { gateUp: blocks.hidden, down: blocks.ffn },
    biased: { gateUp: config.mlpBias, down: config.mlpBias && slice.rankIndex === 0 },
  });
}

/** The router, which every rank holds whole and unrounded, and this rank's experts. */
async function packExperts(writer: WeightWriter, config: ModelConfig, slice: Slice, index: number) {
  const blocks = blockSizes(config);
  const { count, size, bias, routerBias } = present(config.experts, "a layer with experts has some");
  const router = await writer.projection(
    `layer_${index}_router_weight`,
    [
      {
        tensor: `layers.${index}.router`,
        rows: { start: 0, end: count },
        columns: { start: 0, end: config.hiddenSize },
      },
    ],
    { blockSize: blocks.hidden, biased: routerBias, format: "f32" },
  );
  const experts = new Map<number, PackedFeedForward>();
  for (let expert = slice.experts.start; expert < slice.experts.end; expert += 1)
    experts.set(
      expert,
      await packGated(writer, config, `layers.${index}.experts.${expert}.`, {
        columns: { start: 0, end: size },
        blockSizes: { gateUp: blocks.hidden, down: blocks.expert },
        biased: { gateUp: bias, down: bias },
      }),
    );
  return { router, experts };
}

async function packGated(
  writer: WeightWriter,
  config: ModelConfig,
  prefix: string,
  options: {
    readonly columns: Range;
    readonly blockSizes: { readonly gateUp: number; readonly down: number };
    readonly biased: { readonly gateUp: boolean; readonly down: boolean };
  },
): Promise<PackedFeedForward> {
  const name = prefix.replaceAll(".", "_");
  const hidden: Range = { start: 0, end: config.hiddenSize };
  const gateUp = await writer.projection(
    `${name}gate_up_weight`,
    [
      { tensor: `${prefix}gate`, rows: options.columns, columns: hidden },
      { tensor: `${prefix}up`, rows: options.columns, columns: hidden },
    ],
    { blockSize: options.blockSizes.gateUp, biased: options.biased.gateUp },
  );
  const down: readonly Rectangle[] = [{ tensor: `${prefix}down`, rows: hidden, columns: options.columns }];
  const downOptions = { blockSize: options.blockSizes.down, biased: options.biased.down };
  return { gateUp, down: await writer.projection(`${name}down_weight`, down, downOptions) };
}

async function packHead(writer: WeightWriter, config: ModelConfig, slice: Slice): Promise<PackedHead> {
  const hidden: Range = { start: 0, end: config.hiddenSize };
  const norm = await writer.vector("norm", [{ tensor: "norm", rows: hidden }]);
  const rectangle = { tensor: "head", rows: slice.vocabulary, columns: hidden };
  return { norm, matrix: await writer.matrix("head_weight", [rectangle], blockSizes(config).hidden) };
}

function headsToRows(heads: Range, config: ModelConfig): Range {
  const size = paddedHeadSize(config);
  return { start: heads.start * size, end: heads.end * size };
}

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

/** The learned logit of each query head of this rank that takes weight and gives nothing: f32 [layers, heads]. */
export async function packSinks(source: TensorSource, { layers, slice }: Shard): Promise<Float32Array> {
  const headCount = lengthOf(slice.heads);
  const sinks = new Float32Array(lengthOf(layers) * headCount);
  for (let layer = layers.start; layer < layers.end; layer += 1)
    sinks.set(await source.read(`layers.${layer}.sinks`, { rows: slice.heads }), (layer - layers.start) * headCount);
  return sinks;
}
