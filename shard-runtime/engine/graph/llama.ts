/**
 * The Llama family as graphs over packed weights. A segment with one rank is one graph; with several ranks each layer is
 * two, cut where partial sums must be added. Both are made of the same two halves, in the same order of operations, so
 * cutting changes no bit. Shapes: B sequences, S rows each, H hidden size, T positions of a KV slot.
 *
 * Every norm is a SkipSimplifiedLayerNormalization (residual sum and norm in one), also where there is nothing to add:
 * the zero input stands there, so that the first layer of a segment computes what it would inside a longer one.
 */
import type { ModelConfig } from "../../../core/model-config.ts";
import type { Slice } from "../../../core/slice.ts";
import { lengthOf } from "../../../core/ranges.ts";
import { FLOAT, FLOAT16, GraphBuilder, INT32, type StoredTensor } from "./onnx.ts";

/** A matrix [outputs, inputs] as it was packed. */
export type PackedMatrix =
  | { readonly format: "float"; readonly values: StoredTensor } // [outputs, inputs], f32 or f16
  | {
      readonly format: "blocks"; // MatMulNBits
      readonly bits: number; // 4 | 8
      readonly blockSize: number;
      readonly outputCount: number;
      readonly inputCount: number;
      readonly values: StoredTensor; // u8 [outputs, blocks, blockSize × bits / 8]
      readonly scales: StoredTensor; // f32 [outputs × blocks]
    };

export type PackedProjection = { readonly matrix: PackedMatrix; readonly bias?: StoredTensor };

export type PackedLayer = {
  readonly attentionNorm: StoredTensor;
  readonly qkv: PackedProjection; // rows of q, then k, then v
  readonly attentionOut: PackedProjection;
  readonly ffnNorm: StoredTensor;
  readonly gateUp: PackedProjection; // rows of gate, then up
  readonly down: PackedProjection;
};

export type PackedHead = { readonly norm: StoredTensor; readonly matrix: PackedMatrix };

/** Every activation is quantised to 8 bits per block inside MatMulNBits: the fastest kernels, exact in any batch. */
const INT8_ACTIVATIONS = 4;

const rows = (width: number | string) => ["B", "S", width];

/** Names of the KV inputs and outputs of a layer. */
export const kvNames = (layer: number) => ({
  pastKey: `past_key_${layer}`,
  pastValue: `past_value_${layer}`,
  key: `key_${layer}`,
  value: `value_${layer}`,
});

/** All layers of a segment with one rank: (hidden, zero, …) → (out), out and hidden [B, S, H]. */
export function bodyGraph(
  config: ModelConfig,
  slice: Slice,
  layers: readonly (readonly [number, PackedLayer])[],
): Uint8Array {
  const graph = new GraphBuilder("body");
  let delta = graph.input("hidden", rows(config.hiddenSize));
  let residual = graph.input("zero", rows(config.hiddenSize));
  attentionInputs(graph);
  for (const [index, layer] of layers) {
    const attended = attention(graph, config, slice, index, layer, { delta, residual });
    ({ delta, residual } = feedForward(graph, config, index, layer, attended));
  }
  graph.node("Add", [delta, residual], ["out"]);
  graph.output("out", rows(config.hiddenSize));
  return graph.encode();
}

/** First half of a layer for one of several ranks: (delta, residual, …) → (partial, sum). */
export function attentionGraph(config: ModelConfig, slice: Slice, index: number, layer: PackedLayer): Uint8Array {
  const graph = new GraphBuilder(`attention ${index}`);
  const state = halfInputs(graph, config);
  attentionInputs(graph);
  attention(graph, config, slice, index, layer, state, HALF_OUTPUTS);
  halfOutputs(graph, config);
  return graph.encode();
}

/** Second half: (delta, residual) → (partial, sum). */
export function feedForwardGraph(config: ModelConfig, index: number, layer: PackedLayer): Uint8Array {
  const graph = new GraphBuilder(`feed-forward ${index}`);
  const state = halfInputs(graph, config);
  feedForward(graph, config, index, layer, state, HALF_OUTPUTS);
  halfOutputs(graph, config);
  return graph.encode();
}

/** Final norm and this rank's rows of the head: (hidden, zero) [1, N, H] → (logits) [1, N, rows]. */
export function headGraph(config: ModelConfig, slice: Slice, head: PackedHead): Uint8Array {
  const graph = new GraphBuilder("head");
  const hidden = graph.input("hidden", rows(config.hiddenSize));
  const zero = graph.input("zero", rows(config.hiddenSize));
  const normed = norm(graph, config, "final", head.norm, { delta: hidden, residual: zero });
  multiply(graph, normed, head.matrix, "logits");
  graph.output("logits", rows(lengthOf(slice.vocabulary)));
  return graph.encode();
}

/** What travels between halves: the residual stream is the sum of the two. */
type State = { readonly delta: string; readonly residual: string };

function halfInputs(graph: GraphBuilder, config: ModelConfig): State {
  return {
    delta: graph.input("delta", rows(config.hiddenSize)),
    residual: graph.input("residual", rows(config.hiddenSize)),
  };
}

const HALF_OUTPUTS: State = { delta: "partial", residual: "sum" };

function halfOutputs(graph: GraphBuilder, config: ModelConfig): void {
  graph.output(HALF_OUTPUTS.delta, rows(config.hiddenSize));
  graph.output(HALF_OUTPUTS.residual, rows(config.hiddenSize));
}

function attentionInputs(graph: GraphBuilder): void {
  graph.input("last_positions", ["B"], INT32);
  graph.input("position_count", [], INT32);
  graph.input("cosine", ["T", "halfHead"]);
  graph.input("sine", ["T", "halfHead"]);
}

function attention(
  graph: GraphBuilder,
  config: ModelConfig,
  slice: Slice,
  index: number,
  layer: PackedLayer,
  state: State,
  names: State = { delta: `layer_${index}_attention_out`, residual: `layer_${index}_attention_sum` },
): State {
  const prefix = `layer_${index}_`;
  const normed = norm(graph, config, `${prefix}attention`, layer.attentionNorm, state, names.residual);
  const qkv = project(graph, normed, layer.qkv, `${prefix}qkv`);
  const kv = kvNames(index);
  const kvDims = ["B", slice.kvHeads.length, "T", config.headSize];
  for (const name of [kv.pastKey, kv.pastValue]) graph.input(name, kvDims);
  const attended = graph.contrib(
    "GroupQueryAttention",
    [qkv, "", "", kv.pastKey, kv.pastValue, "last_positions", "position_count", "cosine", "sine"],
    [`${prefix}attended`, kv.key, kv.value],
    { num_heads: lengthOf(slice.heads), kv_num_heads: slice.kvHeads.length, do_rotary: 1, rotary_interleaved: 0 },
  );
  for (const name of [kv.key, kv.value]) graph.output(name, kvDims);
  project(graph, attended, layer.attentionOut, names.delta);
  return names;
}

function feedForward(
  graph: GraphBuilder,
  config: ModelConfig,
  index: number,
  layer: PackedLayer,
  state: State,
  names: State = { delta: `layer_${index}_down`, residual: `layer_${index}_ffn_sum` },
): State {
  const prefix = `layer_${index}_`;
  const normed = norm(graph, config, `${prefix}ffn`, layer.ffnNorm, state, names.residual);
  const gateUp = project(graph, normed, layer.gateUp, `${prefix}gate_up`);
  const [gate, up] = [`${prefix}gate`, `${prefix}up`];
  graph.node("Split", [gateUp], [gate, up], { axis: -1, num_outputs: 2 });
  const sigmoid = graph.node("Sigmoid", [gate], [`${prefix}sigmoid`]);
  const activated = graph.node("Mul", [gate, sigmoid], [`${prefix}activated`]);
  const product = graph.node("Mul", [activated, up], [`${prefix}product`]);
  project(graph, product, layer.down, names.delta);
  return names;
}

/** Writes delta + residual to `sum` where it is named, and returns its norm. */
function norm(graph: GraphBuilder, config: ModelConfig, name: string, gain: StoredTensor, state: State, sum?: string) {
  return graph.contrib(
    "SkipSimplifiedLayerNormalization",
    [state.delta, state.residual, graph.stored(gain)],
    sum === undefined ? [`${name}_normed`] : [`${name}_normed`, "", "", sum],
    { epsilon: { float: config.normEpsilon } },
  );
}

function project(graph: GraphBuilder, input: string, projection: PackedProjection, output: string): string {
  if (projection.bias === undefined) return multiply(graph, input, projection.matrix, output);
  const product = multiply(graph, input, projection.matrix, `${output}_product`);
  return graph.node("Add", [product, graph.stored(projection.bias)], [output]);
}

function multiply(graph: GraphBuilder, input: string, matrix: PackedMatrix, output: string): string {
  if (matrix.format === "float") {
    const stored = graph.stored(matrix.values);
    const values =
      matrix.values.dataType === FLOAT16 ? graph.node("Cast", [stored], [`${stored}_f32`], { to: FLOAT }) : stored;
    return graph.contrib("FusedMatMul", [input, values], [output], { transA: 0, transB: 1, alpha: { float: 1 } });
  }
  return graph.contrib("MatMulNBits", [input, graph.stored(matrix.values), graph.stored(matrix.scales)], [output], {
    K: matrix.inputCount,
    N: matrix.outputCount,
    bits: matrix.bits,
    block_size: matrix.blockSize,
    accuracy_level: INT8_ACTIVATIONS,
  });
}
