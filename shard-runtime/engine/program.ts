/**
 * What a shard computes, as a list: which graphs run over which buffers, where sessions attend, where the ranks of a
 * segment add up, where experts are chosen. A pure function of configuration and shard, so that the packer writes the
 * very graphs that the engine will ask for.
 *
 * A layer is a line of pieces (graph/pieces.ts). The line is broken where something happens that no graph does:
 * attention, which runs for each session by itself while everything else runs for the rows of all sessions at once; the
 * sums over the ranks, where there are several; the experts. What stands between two breaks is one graph. The pieces are
 * the same nodes in the same order wherever the line is broken, so breaking it changes no bit.
 */
import { present } from "../../core/assert.ts";
import type { ModelConfig } from "../../core/model-config.ts";
import { lengthOf } from "../../core/ranges.ts";
import { type Slice, paddedHeadSize } from "../../core/slice.ts";
import type { Shard } from "./shard.ts";

/** Where an RMS norm may stand in a layer. */
export type NormPlace = keyof ModelConfig["norms"];

/** The part of a layer whose sum a `settle` takes in, or whose input it makes. */
export type Part = { readonly layer: number; readonly of: "attention" | "ffn" };

/** One stretch of arithmetic. What it reads and writes are names of values, f32 [rows, width]. */
export type Piece = {
  readonly reads: readonly string[];
  readonly writes: readonly string[];
} & (
  | {
      /** (delta, residual) → (sum, normed): adds what `after` made to the residual, and makes the input of `before`. */
      readonly kind: "settle";
      readonly after?: Part; // absent at the start of a segment: the hidden state is whole
      readonly before?: Part; // absent at its end
    }
  | {
      /** normed → qkv, and where the ranks must add up their squares first, (qkv, squares [rows, 2]). */
      readonly kind: "project" | "normRow" | "attentionOut" | "feedForward" | "router";
      readonly layer: number;
    }
  | { /** normed → hidden norm and logits */ readonly kind: "head" }
);

export type GraphPlan = {
  readonly name: string; // of the file
  readonly pieces: readonly Piece[];
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
};

export type Step =
  | { readonly step: "run"; readonly graph: GraphPlan }
  | { readonly step: "attend"; readonly layer: number; readonly qkv: string; readonly attended: string }
  /** The value becomes its sum over the ranks. */
  | { readonly step: "exchange"; readonly value: string }
  /** All ranks take rank 0's values: the others' are zeroed before the exchange. */
  | { readonly step: "rankZero"; readonly value: string }
  | {
      readonly step: "experts";
      readonly layer: number;
      readonly normed: string;
      readonly logits: string;
      readonly delta: string;
    };

/** `shared`: another thread adds to it; `host`: read or written here; `device`: touched by graphs alone. */
export type Place = "shared" | "host" | "device";
export type BufferPlan = { readonly width: number; readonly place: Place };

export type Program = {
  readonly steps: readonly Step[];
  readonly buffers: readonly BufferPlan[];
  readonly bufferOf: Readonly<Record<string, number>>; // by value; values that never live at once share one
  readonly widths: Readonly<Record<string, number>>;
};

/** The values that every program has. */
export const INPUT = "input"; // the hidden state that comes in
export const ZEROS = "zeros"; // what a segment's first norm adds to it
export const OUTPUT = "output"; // the hidden state that goes out

/** Files of graphs that stand in no line. */
export const GRAPHS = {
  attention: (kind: number) => `attention-${kind}.onnx`,
  expert: (layer: number, expert: number) => `expert-${layer}-${expert}.onnx`,
} as const;

/** Width of the fused query, key and value rows of a slice, and of what attention makes of them. */
export const attentionWidths = (config: ModelConfig, slice: Slice) => ({
  qkv: (lengthOf(slice.heads) + 2 * slice.kvHeads.length) * paddedHeadSize(config),
  attended: lengthOf(slice.heads) * paddedHeadSize(config),
});

/** Norms over all heads of a row need the squares of every rank. */
export const normsAcrossRanks = (config: ModelConfig, slice: Slice): boolean =>
  config.qkNorm === "row" && slice.rankCount > 1;

type Break = Exclude<Step, { step: "run" }>;
type Line = { readonly items: (Piece | Break)[]; readonly widths: Record<string, number> };

export function programOf(config: ModelConfig, { layers, slice }: Shard): Program {
  const line: Line = { items: [], widths: { [INPUT]: config.hiddenSize, [ZEROS]: config.hiddenSize } };
  let state: State = { delta: INPUT, residual: ZEROS };
  for (let layer = layers.start; layer < layers.end; layer += 1) {
    state = attentionPart(line, config, slice, layer, state);
    state = ffnPart(line, config, slice, layer, state);
  }
  line.widths[OUTPUT] = config.hiddenSize;
  line.items.push({ kind: "settle", ...after(state), reads: [state.delta, state.residual], writes: [OUTPUT] });
  const steps = withGraphs(line.items);
  return { steps, ...allocate(steps, line.widths, slice.rankCount > 1), widths: line.widths };
}

/** The head: final norm and this rank's rows of the vocabulary, over rows that were picked from the output. */
export const LOGITS = "logits";
export const headPlan: GraphPlan = {
  name: "head.onnx",
  pieces: [{ kind: "head", reads: [INPUT, ZEROS], writes: [LOGITS] }],
  inputs: [INPUT, ZEROS],
  outputs: [LOGITS],
};

/** The residual stream is residual + what `made` makes of delta; the next settle adds them. */
type State = { readonly delta: string; readonly residual: string; readonly made?: Part };

const after = ({ made }: State): { after?: Part } => (made === undefined ? {} : { after: made });

/** Adds up to the input of a part; returns the names of that input and of the residual. */
function settle(line: Line, config: ModelConfig, before: Part, state: State) {
  const residual = value(line, before.layer, `${before.of}_residual`, config.hiddenSize);
  const isNormed = before.of === "attention" ? config.norms.attentionIn : config.norms.ffnIn;
  const normed = isNormed ? value(line, before.layer, `${before.of}_normed`, config.hiddenSize) : residual;
  line.items.push({
    kind: "settle",
    ...after(state),
    before,
    reads: [state.delta, state.residual],
    writes: isNormed ? [residual, normed] : [residual],
  });
  return { residual, normed };
}

function value(line: Line, layer: number, name: string, width: number): string {
  const full = `layer_${layer}_${name}`;
  line.widths[full] = width;
  return full;
}

function attentionPart(line: Line, config: ModelConfig, slice: Slice, layer: number, state: State): State {
  const widths = attentionWidths(config, slice);
  const { residual, normed } = settle(line, config, { layer, of: "attention" }, state);
  let qkv = value(line, layer, "qkv", widths.qkv);
  if (normsAcrossRanks(config, slice)) {
    const squares = value(line, layer, "squares", 2);
    line.items.push({ kind: "project", layer, reads: [normed], writes: [qkv, squares] });
    line.items.push({ step: "exchange", value: squares });
    const turned = value(line, layer, "qkv_normed", widths.qkv);
    line.items.push({ kind: "normRow", layer, reads: [qkv, squares], writes: [turned] });
    qkv = turned;
  } else line.items.push({ kind: "project", layer, reads: [normed], writes: [qkv] });
  const attended = value(line, layer, "attended", widths.attended);
  line.items.push({ step: "attend", layer, qkv, attended });
  const delta = value(line, layer, "attention_out", config.hiddenSize);
  line.items.push({ kind: "attentionOut", layer, reads: [attended], writes: [delta] });
  if (slice.rankCount > 1) line.items.push({ step: "exchange", value: delta });
  return { delta, residual, made: { layer, of: "attention" } };
}

function ffnPart(line: Line, config: ModelConfig, slice: Slice, layer: number, state: State): State {
  const { residual, normed } = settle(line, config, { layer, of: "ffn" }, state);
  const delta = value(line, layer, "ffn_out", config.hiddenSize);
  const { experts } = config;
  if (experts !== undefined && config.layerKinds[layer]?.experts === true) {
    const logits = value(line, layer, "router_logits", experts.count);
    line.items.push({ kind: "router", layer, reads: [normed], writes: [logits] });
    if (slice.rankCount > 1) line.items.push({ step: "rankZero", value: logits });
    line.items.push({ step: "experts", layer, normed, logits, delta });
  } else line.items.push({ kind: "feedForward", layer, reads: [normed], writes: [delta] });
  if (slice.rankCount > 1) line.items.push({ step: "exchange", value: delta });
  return { delta, residual, made: { layer, of: "ffn" } };
}

/** Pieces between two breaks become one graph: its inputs are what they read from outside, its outputs what is read later. */
function withGraphs(items: readonly (Piece | Break)[]): readonly Step[] {
  const steps: Step[] = [];
  let pieces: Piece[] = [];
  const close = (rest: readonly (Piece | Break)[]) => {
    if (pieces.length === 0) return;
    const made = new Set(pieces.flatMap(({ writes }) => writes));
    const later = new Set([OUTPUT, ...rest.flatMap(readsOf)]);
    const inputs = new Set(pieces.flatMap(({ reads }) => reads).filter((name) => !made.has(name)));
    const outputs = [...made].filter((name) => later.has(name));
    steps.push({ step: "run", graph: { name: graphName(pieces), pieces, inputs: [...inputs], outputs } });
    pieces = [];
  };
  for (const [index, item] of items.entries())
    if ("kind" in item) pieces.push(item);
    else {
      close(items.slice(index));
      steps.push(item);
    }
  close([]);
  return steps;
}

/** After its first piece, which no other graph of the shard begins with. */
function graphName(pieces: readonly Piece[]): string {
  const first = present(pieces[0], "a graph has a piece");
  if (first.kind === "settle") return first.before ? `${first.before.of}-in-${first.before.layer}.onnx` : "leave.onnx";
  const words = { project: "project", normRow: "norm-row", attentionOut: "attention-out", router: "router" } as const;
  if (first.kind === "head") return headPlan.name;
  return `${first.kind === "feedForward" ? "feed-forward" : words[first.kind]}-${first.layer}.onnx`;
}

export function readsOf(item: Piece | Step): readonly string[] {
  if ("kind" in item) return item.reads;
  if (item.step === "run") return item.graph.inputs;
  if (item.step === "attend") return [item.qkv];
  if (item.step === "experts") return [item.normed, item.logits];
  return [item.value];
}

function writesOf(step: Step): readonly string[] {
  if (step.step === "run") return step.graph.outputs;
  if (step.step === "attend") return [step.attended];
  return step.step === "experts" ? [step.delta] : [];
}

/** Each value gets the lowest buffer of its kind that is free: none that the step which makes it reads or writes too. */
function allocate(steps: readonly Step[], widths: Readonly<Record<string, number>>, hasPeers: boolean) {
  const lastRead = new Map<string, number>([[OUTPUT, steps.length]]);
  const places = new Map<string, Place>([
    [INPUT, hasPeers ? "shared" : "host"],
    [OUTPUT, "host"],
  ]);
  // Attention binds caches to one pair of buffers, so these have theirs to themselves.
  const attention = new Map<string, string>();
  for (const [index, step] of steps.entries()) {
    for (const name of readsOf(step)) lastRead.set(name, Math.max(index, lastRead.get(name) ?? 0));
    if (step.step === "exchange" || step.step === "rankZero") places.set(step.value, "shared");
    if (step.step === "attend") attention.set(step.qkv, "qkv").set(step.attended, "attended");
    if (step.step === "experts")
      for (const name of [step.normed, step.logits, step.delta]) places.set(name, places.get(name) ?? "host");
  }
  const buffers: BufferPlan[] = [];
  const freeFrom: number[] = [];
  const uses: (string | undefined)[] = [];
  const bufferOf: Record<string, number> = {};
  const place = (name: string, at: number) => {
    const plan = { width: present(widths[name], `${name} has a width`), place: places.get(name) ?? "device" };
    let index = buffers.findIndex(
      (buffer, id) =>
        buffer.width === plan.width &&
        buffer.place === plan.place &&
        uses[id] === attention.get(name) &&
        (freeFrom[id] ?? 0) <= at,
    );
    if (index < 0) index = buffers.push(plan) - 1;
    uses[index] = attention.get(name);
    bufferOf[name] = index;
    freeFrom[index] = name === ZEROS ? steps.length + 1 : (lastRead.get(name) ?? at) + 1;
  };
  place(ZEROS, -1);
  place(INPUT, -1);
  for (const [index, step] of steps.entries()) for (const name of writesOf(step)) place(name, index);
  return { buffers, bufferOf };
}
