/** The pieces of a program as nodes of a graph. Values keep the program's names and are [S, width]. */
import { present } from "../../../core/assert.ts";
import type { ModelConfig } from "../../../core/model-config.ts";
import type { Slice } from "../../../core/slice.ts";
import { lengthOf } from "../../../core/ranges.ts";
import type { PackedFeedForward, PackedHead, PackedLayer, PackedShard } from "../packed-weights.ts";
import { type GraphPlan, LOGITS, type Piece, normsAcrossRanks } from "../program.ts";
import { feedForward } from "./feed-forward.ts";
import { normQueriesAndKeys, normRow, settle, skipNorm, squares } from "./norms.ts";
import { GraphBuilder } from "./onnx.ts";
import { multiply, project } from "./products.ts";

export type GraphContext = {
  readonly config: ModelConfig;
  readonly slice: Slice;
  readonly weights: PackedShard;
  readonly widths: Readonly<Record<string, number>>; // of the program's values
};

/** One graph of a program, encoded. */
export function graphOf(plan: GraphPlan, context: GraphContext): Uint8Array {
  const graph = new GraphBuilder(plan.name);
  const dims = (name: string) => ["S", present(context.widths[name], `${name} has a width`)];
  for (const name of plan.inputs) graph.input(name, dims(name));
  for (const piece of plan.pieces) addPiece(graph, context, piece);
  for (const name of plan.outputs) graph.output(name, dims(name));
  return graph.encode();
}

export const EXPERT_INPUT = "normed";
export const EXPERT_OUTPUT = "delta";

/** (normed) → (delta) [S, hidden]: one expert over the rows that chose it. */
export function expertGraph(config: ModelConfig, packed: PackedFeedForward): Uint8Array {
  const graph = new GraphBuilder("expert");
  graph.input(EXPERT_INPUT, ["S", config.hiddenSize]);
  feedForward(graph, config.activation, packed, { input: EXPERT_INPUT, output: EXPERT_OUTPUT });
  graph.output(EXPERT_OUTPUT, ["S", config.hiddenSize]);
  return graph.encode();
}

/** (hidden, zeros) → (logits) [S, vocabulary slice]: final norm and this rank's rows of the head. */
export function headGraph(plan: GraphPlan, context: GraphContext): Uint8Array {
  const { slice, config } = context;
  const widths = { input: config.hiddenSize, zeros: config.hiddenSize, [LOGITS]: lengthOf(slice.vocabulary) };
  return graphOf(plan, { ...context, widths });
}

function addPiece(graph: GraphBuilder, { config, slice, weights }: GraphContext, piece: Piece): void {
  const [first = "", second = ""] = piece.reads;
  const [output = "", other] = piece.writes;
  if (piece.kind === "settle") return settle(graph, config, weights, piece);
  if (piece.kind === "head")
    return addHead(graph, config, present(weights.head, "a packed head"), { delta: first, residual: second });
  const layer = present(weights.layers.get(piece.layer), "the layer is packed");
  switch (piece.kind) {
    case "project":
      return addProjections(graph, config, slice, layer, { input: first, output, squares: other });
    case "normRow":
      return normRow(graph, config, slice, layer, { qkv: first, squares: second, output });
    case "attentionOut":
      return void project(graph, first, layer.attentionOut, output);
    case "router":
      return void project(graph, first, present(layer.router, "a packed router"), output);
    case "feedForward": {
      const packed = present(layer.feedForward, "a packed feed-forward network");
      return feedForward(graph, config.activation, packed, { input: first, output });
    }
  }
}

/** Queries, keys and values, normed where the model does so and this rank can. */
function addProjections(
  graph: GraphBuilder,
  config: ModelConfig,
  slice: Slice,
  layer: PackedLayer,
  names: { readonly input: string; readonly output: string; readonly squares: string | undefined },
): void {
  if (config.qkNorm === undefined || normsAcrossRanks(config, slice)) {
    project(graph, names.input, layer.qkv, names.output);
    if (names.squares !== undefined) squares(graph, config, slice, { qkv: names.output, output: names.squares });
    return;
  }
  const qkv = project(graph, names.input, layer.qkv, `${names.output}_plain`);
  normQueriesAndKeys(graph, config, slice, layer, { qkv, output: names.output });
}

function addHead(
  graph: GraphBuilder,
  config: ModelConfig,
  head: PackedHead,
  state: { readonly delta: string; readonly residual: string },
): void {
  const normed = skipNorm(graph, config, state, head.norm, { normed: "normed" });
  const { logitScale, logitSoftcap } = config;
  const scalar = (name: string, value: number) => graph.constant(name, [], Float32Array.of(value));
  const isPlain = logitScale === 1 && logitSoftcap === undefined;
  let logits = multiply(graph, normed, head.matrix, isPlain ? LOGITS : "products");
  if (logitScale !== 1)
    logits = graph.node("Mul", [logits, scalar("logit_scale", logitScale)], [logitSoftcap ? "scaled" : LOGITS]);
  if (logitSoftcap === undefined) return;
  const cap = scalar("cap", logitSoftcap);
  const bent = graph.node("Tanh", [graph.node("Div", [logits, cap], ["of_cap"])], ["bent"]);
  graph.node("Mul", [bent, cap], [LOGITS]);
}
