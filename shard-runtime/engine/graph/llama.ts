/**
 * The Llama family as graphs over packed weights. Shapes: S rows, H hidden size, T positions of a KV slot; all tensors
 * have a leading axis of 1.
 *
 * Where graphs are cut: at attention, which runs for each session by itself while everything else runs for the rows of
 * all sessions at once; and, where a segment has several ranks, at the two sums of each layer. The parts are the same
 * nodes in the same order however they are cut, so cutting changes no bit:
 *
 *     one rank:      enter(s)  [attention  through(l)]…  attention  leave(e-1)
 *     several ranks: [enter(l)  attention  attentionOut(l) +sum  feedForward(l) +sum]…
 *
 * Every norm is a SkipSimplifiedLayerNormalization (residual sum and norm in one), also where there is nothing to add:
 * a segment's first layer gets zeros as its residual, and computes what it would inside a longer segment.
 */
import type { ModelConfig } from "../../../core/model-config.ts";
import { lengthOf } from "../../../core/ranges.ts";
import type { Slice } from "../../../core/slice.ts";
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

/** Every activation is quantised to 8 bits per block inside MatMulNBits: the fastest kernels. */
const INT8_ACTIVATIONS = 4;

const rows = (width: number | string) => [1, "S", width];

/** Width of the fused query, key and value rows of a slice, and of what attention makes of them. */
export const attentionWidths = (config: ModelConfig, slice: Slice) => ({
  qkv: (lengthOf(slice.heads) + 2 * slice.kvHeads.length) * config.headSize,
  attended: lengthOf(slice.heads) * config.headSize,
});

/**
 * (qkv, past_key, past_value, …) → (attended, key, value) for one session; past and present share their memory.
 * `headSize` is the model's own, whatever the heads are padded to.
 */
export function attentionGraph(config: ModelConfig, slice: Slice, headSize: number): Uint8Array {
  const graph = new GraphBuilder("attention");
  const widths = attentionWidths(config, slice);
  const kvDims = [1, slice.kvHeads.length, "T", config.headSize];
  const inputs = [
    graph.input("qkv", rows(widths.qkv)),
    "",
    "",
    graph.input("past_key", kvDims),
    graph.input("past_value", kvDims),
    graph.input("last_position", [1], INT32),
    graph.input("position_count", [], INT32),
    graph.input("cosine", ["T", "halfHead"]),
    graph.input("sine", ["T", "halfHead"]),
  ];
  graph.contrib("GroupQueryAttention", inputs, ["attended", "key", "value"], {
    num_heads: lengthOf(slice.heads),
    kv_num_heads: slice.kvHeads.length,
    scale: { float: 1 / Math.sqrt(headSize) },
    do_rotary: 1,
    rotary_interleaved: 0,
  });
  graph.output("attended", rows(widths.attended));
  for (const name of ["key", "value"]) graph.output(name, kvDims);
  return graph.encode();
}

/** (delta, residual) → (qkv, sum): residual sum, norm, projections. */
export function enterGraph(config: ModelConfig, slice: Slice, layer: PackedLayer): Uint8Array {
  const graph = new GraphBuilder("enter");
  const { delta, residual } = stateInputs(graph, config);
  const normed = norm(graph, config, { delta, residual }, layer.attentionNorm, "sum");
  project(graph, normed, layer.qkv, "qkv");
  graph.output("qkv", rows(attentionWidths(config, slice).qkv));
  graph.output("sum", rows(config.hiddenSize));
  return graph.encode();
}

/** (attended, residual) → (qkv, sum): from one layer's attention to the next one's. */
export function throughGraph(config: ModelConfig, slice: Slice, layer: PackedLayer, next: PackedLayer): Uint8Array {
  const graph = new GraphBuilder("through");
  const state = layerEnd(graph, config, slice, layer);
  const normed = norm(graph, config, state, next.attentionNorm, "sum");
  project(graph, normed, next.qkv, "qkv");
  graph.output("qkv", rows(attentionWidths(config, slice).qkv));
  graph.output("sum", rows(config.hiddenSize));
  return graph.encode();
}

/** (attended, residual) → (hidden): from the last layer's attention to the end of the segment. */
export function leaveGraph(config: ModelConfig, slice: Slice, layer: PackedLayer): Uint8Array {
  const graph = new GraphBuilder("leave");
  const { delta, residual } = layerEnd(graph, config, slice, layer);
  graph.node("Add", [delta, residual], ["hidden"]);
  graph.output("hidden", rows(config.hiddenSize));
  return graph.encode();
}

/** (attended) → (partial): this rank's share of the attention's output. */
export function attentionOutGraph(config: ModelConfig, slice: Slice, layer: PackedLayer): Uint8Array {
  const graph = new GraphBuilder("attention out");
  const attended = graph.input("attended", rows(attentionWidths(config, slice).attended));
  project(graph, attended, layer.attentionOut, "partial");
  graph.output("partial", rows(config.hiddenSize));
  return graph.encode();
}

/** (delta, residual) → (partial, sum): this rank's share of the feed-forward network's output. */
export function feedForwardGraph(config: ModelConfig, layer: PackedLayer): Uint8Array {
  const graph = new GraphBuilder("feed forward");
  feedForward(graph, config, stateInputs(graph, config), layer, { delta: "partial", residual: "sum" });
  for (const name of ["partial", "sum"]) graph.output(name, rows(config.hiddenSize));
  return graph.encode();
}

/** (delta, residual) → (logits) [1, S, vocabulary slice]: final norm and this rank's rows of the head. */
export function headGraph(config: ModelConfig, slice: Slice, head: PackedHead): Uint8Array {
  const graph = new GraphBuilder("head");
  const normed = norm(graph, config, stateInputs(graph, config), head.norm);
  multiply(graph, normed, head.matrix, "logits");
  graph.output("logits", rows(lengthOf(slice.vocabulary)));
  return graph.encode();
}

/** The residual stream is the sum of the two; the next norm adds them. */
type State = { readonly delta: string; readonly residual: string };

const stateInputs = (graph: GraphBuilder, config: ModelConfig): State => ({
  delta: graph.input("delta", rows(config.hiddenSize)),
  residual: graph.input("residual", rows(config.hiddenSize)),
});

/** What follows attention within a layer, of a segment with one rank. */
function layerEnd(graph: GraphBuilder, config: ModelConfig, slice: Slice, layer: PackedLayer): State {
  const attended = graph.input("attended", rows(attentionWidths(config, slice).attended));
  const residual = graph.input("residual", rows(config.hiddenSize));
  const delta = project(graph, attended, layer.attentionOut, "attention_out");
  return feedForward(graph, config, { delta, residual }, layer, { delta: "down", residual: "ffn_sum" });
}

function feedForward(graph: GraphBuilder, config: ModelConfig, state: State, layer: PackedLayer, names: State): State {
  const normed = norm(graph, config, state, layer.ffnNorm, names.residual);
  const gateUp = project(graph, normed, layer.gateUp, "gate_up");
  graph.node("Split", [gateUp], ["gate", "up"], { axis: -1, num_outputs: 2 });
  const sigmoid = graph.node("Sigmoid", ["gate"], ["sigmoid"]);
  const activated = graph.node("Mul", ["gate", sigmoid], ["activated"]);
  const product = graph.node("Mul", [activated, "up"], ["product"]);
  project(graph, product, layer.down, names.delta);
  return names;
}

/** Writes delta + residual to `sum` where it is named, and returns its norm. */
function norm(graph: GraphBuilder, config: ModelConfig, state: State, gain: StoredTensor, sum?: string): string {
  const stored = graph.stored(gain);
  const normed = `${stored}_normed`;
  return graph.contrib(
    "SkipSimplifiedLayerNormalization",
    [state.delta, state.residual, stored],
    sum === undefined ? [normed] : [normed, "", "", sum],
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
    const isHalf = matrix.values.dataType === FLOAT16;
    const values = isHalf ? graph.node("Cast", [stored], [`${stored}_f32`], { to: FLOAT }) : stored;
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
