/**
 * RMS norms, and the residual sums that stand before them. Every norm of a layer's input is a
 * SkipSimplifiedLayerNormalization (residual sum and norm in one), also where there is nothing to add: a segment's first
 * layer gets zeros as its residual, and computes what it would inside a longer segment.
 */
import { present } from "../../../core/assert.ts";
import type { ModelConfig } from "../../../core/model-config.ts";
import { type Slice, paddedHeadSize } from "../../../core/slice.ts";
import type { PackedLayer, PackedShard } from "../packed-weights.ts";
import { type Part, type Piece, attentionWidths } from "../program.ts";
import type { GraphBuilder, StoredTensor } from "./onnx.ts";

/** Writes delta + residual to `sum` where it is named, and the norm of that to `normed`. */
export function skipNorm(
  graph: GraphBuilder,
  config: ModelConfig,
  state: { readonly delta: string; readonly residual: string },
  gain: StoredTensor,
  names: { readonly normed: string; readonly sum?: string },
): string {
  return graph.contrib(
    "SkipSimplifiedLayerNormalization",
    [state.delta, state.residual, graph.stored(gain)],
    names.sum === undefined ? [names.normed] : [names.normed, "", "", names.sum],
    { epsilon: { float: config.normEpsilon } },
  );
}

/** Over the last axis. */
function norm(graph: GraphBuilder, input: string, gain: StoredTensor, epsilon: number, output: string): string {
  return graph.node("SimplifiedLayerNormalization", [input, graph.stored(gain)], [output], {
    axis: -1,
    epsilon: { float: epsilon },
    stash_type: 1,
  });
}

type Settle = Extract<Piece, { kind: "settle" }>;

const normOf = (weights: PackedShard, part: Part, side: "In" | "Out"): StoredTensor | undefined =>
  weights.layers.get(part.layer)?.norms[`${part.of}${side}`];

/** What the part before added is normed and scaled as the model says, added up, and normed for the part after. */
export function settle(graph: GraphBuilder, config: ModelConfig, weights: PackedShard, piece: Settle): void {
  const [delta, residual] = [present(piece.reads[0], "delta"), present(piece.reads[1], "residual")];
  const [sum, normed] = piece.writes;
  const made = piece.after === undefined ? delta : scaled(graph, config, weights, piece.after, delta);
  if (normed === undefined || piece.before === undefined) {
    graph.node("Add", [made, residual], [present(sum, "a sum")]);
    return;
  }
  const gain = present(normOf(weights, piece.before, "In"), "a norm that stands is packed");
  skipNorm(graph, config, { delta: made, residual }, gain, { normed, ...(sum === undefined ? {} : { sum }) });
}

function scaled(graph: GraphBuilder, config: ModelConfig, weights: PackedShard, part: Part, delta: string): string {
  const gain = config.norms[`${part.of}Out`] ? normOf(weights, part, "Out") : undefined;
  const normed = gain === undefined ? delta : norm(graph, delta, gain, config.normEpsilon, `${delta}_normed`);
  if (config.residualScale === 1) return normed;
  const scale = graph.constant("residual_scale", [], Float32Array.of(config.residualScale));
  return graph.node("Mul", [normed, scale], [`${delta}_scaled`]);
}

/**
 * The mean over a padded head counts zeros in: gains were packed √(size / padded) times as large, and with epsilon
 * smaller by size / padded the quotient is the same.
 */
const paddedEpsilon = (config: ModelConfig): number => (config.normEpsilon * config.headSize) / paddedHeadSize(config);

/** Queries and keys normed within a rank: each head, or all heads together. */
export function normQueriesAndKeys(
  graph: GraphBuilder,
  config: ModelConfig,
  slice: Slice,
  layer: PackedLayer,
  names: { readonly qkv: string; readonly output: string },
): void {
  const { q, k, v } = split(graph, config, slice, names.qkv);
  const headSize = paddedHeadSize(config);
  const each = (input: string, gain: StoredTensor): string => {
    if (config.qkNorm === "row") return norm(graph, input, gain, paddedEpsilon(config), `${input}_normed`);
    const heads = shape(graph, `${input}_heads_shape`, [0, -1, headSize]);
    const apart = graph.node("Reshape", [input, heads], [`${input}_heads`]);
    const normed = norm(graph, apart, gain, paddedEpsilon(config), `${input}_heads_normed`);
    return graph.node("Reshape", [normed, shape(graph, "row_shape", [0, -1])], [`${input}_normed`]);
  };
  const queries = each(q, present(layer.qNorm, "gains of queries"));
  const keys = each(k, present(layer.kNorm, "gains of keys"));
  graph.node("Concat", [queries, keys, v], [names.output], { axis: -1 });
}

const shape = (graph: GraphBuilder, name: string, dims: readonly number[]): string =>
  graph.constant(name, [dims.length], BigInt64Array.from(dims, BigInt));

/** Queries, keys and values of fused rows. */
function split(graph: GraphBuilder, config: ModelConfig, slice: Slice, qkv: string) {
  const keys = slice.kvHeads.length * paddedHeadSize(config);
  const sizes = shape(graph, "qkv_sizes", [attentionWidths(config, slice).attended, keys, keys]);
  const [q, k, v] = [`${qkv}_q`, `${qkv}_k`, `${qkv}_v`];
  graph.node("Split", [qkv, sizes], [q, k, v], { axis: -1 });
  return { q, k, v };
}

/** Which of a rank's KV heads count: one that several ranks (or groups of one) hold counts where it is first held. */
export function countedKvHeads(config: ModelConfig, { kvHeads, heads }: Slice): readonly boolean[] {
  const groupSize = config.headCount / config.kvHeadCount;
  return kvHeads.map((head, index) => head !== kvHeads[index - 1] && head * groupSize >= heads.start);
}

/** This rank's sums of squares of queries and of keys, [S, 2]. */
export function squares(
  graph: GraphBuilder,
  config: ModelConfig,
  slice: Slice,
  names: { readonly qkv: string; readonly output: string },
): void {
  const { q, k } = split(graph, config, slice, names.qkv);
  const headSize = paddedHeadSize(config);
  const counted = countedKvHeads(config, slice);
  const mask = Float32Array.from({ length: counted.length * headSize }, (_, i) =>
    counted[Math.floor(i / headSize)] === true ? 1 : 0,
  );
  const masked = graph.node("Mul", [k, graph.constant("counted", [mask.length], mask)], [`${k}_counted`]);
  const axes = shape(graph, "last_axis", [-1]);
  const sums = [q, masked].map((input) =>
    graph.node("ReduceSumSquare", [input, axes], [`${input}_squares`], { keepdims: 1 }),
  );
  graph.node("Concat", sums, [names.output], { axis: -1 });
}

/** Queries and keys normed with the squares of all ranks. */
export function normRow(
  graph: GraphBuilder,
  config: ModelConfig,
  slice: Slice,
  layer: PackedLayer,
  names: { readonly qkv: string; readonly squares: string; readonly output: string },
): void {
  const { q, k, v } = split(graph, config, slice, names.qkv);
  graph.node("Split", [names.squares], ["q_squares", "k_squares"], { axis: -1, num_outputs: 2 });
  const epsilon = graph.constant("epsilon", [], Float32Array.of(paddedEpsilon(config)));
  const each = (input: string, sum: string, headCount: number, gain: StoredTensor): string => {
    const count = Float32Array.of(headCount * paddedHeadSize(config));
    const mean = graph.node("Div", [sum, graph.constant(`${sum}_count`, [], count)], [`${sum}_mean`]);
    const raised = graph.node("Add", [mean, epsilon], [`${sum}_raised`]);
    const size = graph.node("Sqrt", [raised], [`${sum}_size`]);
    const unit = graph.node("Div", [input, size], [`${input}_unit`]);
    return graph.node("Mul", [unit, graph.stored(gain)], [`${input}_normed`]);
  };
  const queries = each(q, "q_squares", config.headCount, present(layer.qNorm, "gains of queries"));
  const keys = each(k, "k_squares", config.kvHeadCount, present(layer.kNorm, "gains of keys"));
  graph.node("Concat", [queries, keys, v], [names.output], { axis: -1 });
}
