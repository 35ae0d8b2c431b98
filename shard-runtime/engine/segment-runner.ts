/**
 * Runs the layers of one shard over native graphs: buffers, KV cache and bindings. A binding ties a graph to views of
 * our buffers for one arrangement of rows and slots; the arrangements that come back are kept, for making one costs more
 * calls than running it.
 */
import { join } from "node:path";
import { present } from "../../core/assert.ts";
import type { ModelConfig } from "../../core/model-config.ts";
import { lengthOf } from "../../core/ranges.ts";
import type { Layout, Run } from "./batch-layout.ts";
import { kvNames } from "./graph/llama.ts";
import { rotaryTables } from "./graph/rotary.ts";
import { type Bound, type Ort, type OrtBinding, type OrtSession, type OrtTensor, floats, integers } from "./ort.ts";
import { BODY_GRAPH, attentionGraphName, feedForwardGraphName } from "./pack-graphs.ts";
import type { ShardDescription } from "./shard.ts";

export type RunnerOptions = {
  readonly shardDirectory: string;
  readonly contextLength: number;
  readonly slotCount: number;
  readonly localRowCountMax: number;
};

/** Writes this rank's partial sums somewhere, lets the caller add them up, and reads the sum back. */
export type Reduce = (localRows: Float32Array) => Generator<Float32Array, void, void>;

export interface SegmentRunner {
  /** Where the caller puts the hidden rows, f32 [local rows, hiddenSize]. */
  readonly input: Float32Array;
  /** Runs all layers over the first `layout.localRowCount` rows. The result is valid until the next call. */
  run(layout: Layout, reduce: Reduce): Generator<Float32Array, Float32Array, void>;
  close(): void;
}

/** Native bindings that are kept for arrangements of rows seen before; of the order of a kilobyte each. */
const KEPT_BINDING_COUNT_MAX = 4096;

/** The bindings of one arrangement, with the tensors made for it. */
class BoundGraphs {
  readonly #tensors: OrtTensor[] = [];
  readonly #bindings: OrtBinding[] = [];
  readonly #ort: Ort;

  constructor(ort: Ort) {
    this.#ort = ort;
  }

  /** Rows [offset, offset + B × S) of a buffer as [B, S, width]. */
  rows(buffer: Float32Array, rowOffset: number, sequences: number, rowsEach: number, width: number): OrtTensor {
    const values = buffer.subarray(rowOffset * width, (rowOffset + sequences * rowsEach) * width);
    return this.tensor(values, [sequences, rowsEach, width]);
  }

  tensor(values: Float32Array | Int32Array, dims: readonly number[]): OrtTensor {
    const tensor = this.#ort.tensor(values, dims);
    this.#tensors.push(tensor);
    return tensor;
  }

  bind(session: OrtSession, inputs: Bound, outputs: Bound): OrtBinding {
    const binding = session.bind(inputs, outputs);
    this.#bindings.push(binding);
    return binding;
  }

  get bindings(): readonly OrtBinding[] {
    return this.#bindings;
  }

  close(): void {
    for (const binding of this.#bindings) binding.close();
    for (const tensor of this.#tensors) tensor.close();
  }
}

/** The least recently used arrangement goes first. */
export class BoundCache {
  readonly #kept = new Map<string, BoundGraphs>();
  readonly #ort: Ort;
  readonly #countMax: number;

  constructor(ort: Ort, bindingsEach: number) {
    this.#ort = ort;
    this.#countMax = Math.max(8, Math.floor(KEPT_BINDING_COUNT_MAX / bindingsEach));
  }

  of(key: string, make: (graphs: BoundGraphs) => void): readonly OrtBinding[] {
    let graphs = this.#kept.get(key);
    if (graphs === undefined) {
      graphs = new BoundGraphs(this.#ort);
      make(graphs);
      const [oldest] = this.#kept;
      if (this.#kept.size >= this.#countMax && oldest !== undefined) {
        oldest[1].close();
        this.#kept.delete(oldest[0]);
      }
    } else this.#kept.delete(key);
    this.#kept.set(key, graphs);
    return graphs.bindings;
  }

  close(): void {
    for (const graphs of this.#kept.values()) graphs.close();
    this.#kept.clear();
  }
}

/** What attention reads beside its rows: KV cache, positions, angles. */
class AttentionState {
  readonly #config: ModelConfig;
  readonly #kvHeadCount: number;
  readonly #contextLength: number;
  readonly #keys: readonly Float32Array[];
  readonly #values: readonly Float32Array[];
  readonly #lastPositions: Int32Array;
  readonly #positionCount = integers(1);
  readonly #shared: readonly OrtTensor[];
  readonly #sharedInputs: Bound;
  readonly #layerStart: number;

  constructor(ort: Ort, shard: ShardDescription, options: RunnerOptions) {
    this.#config = shard.config;
    this.#kvHeadCount = shard.slice.kvHeads.length;
    this.#contextLength = options.contextLength;
    this.#layerStart = shard.layers.start;
    // All slots of a layer in one buffer [slots, kvHeads, contextLength, headSize]: neighbours run as one batch.
    const valueCount = options.slotCount * this.#kvHeadCount * options.contextLength * shard.config.headSize;
    const buffers = () => Array.from({ length: lengthOf(shard.layers) }, () => floats(valueCount));
    this.#keys = buffers();
    this.#values = buffers();
    this.#lastPositions = integers(options.slotCount);
    const { cosine, sine } = rotaryTables(shard.config, options.contextLength);
    const tableDims = [options.contextLength, shard.config.headSize / 2];
    const shared = {
      cosine: ort.tensor(cosine, tableDims),
      sine: ort.tensor(sine, tableDims),
      position_count: ort.tensor(this.#positionCount, []),
    };
    this.#sharedInputs = shared;
    this.#shared = Object.values(shared);
  }

  /** Inputs and outputs of the attention of `layers` for the slots of one run; past and present are the same memory. */
  bound(graphs: BoundGraphs, run: Run, layers: readonly number[]): { inputs: Bound; outputs: Bound } {
    const { firstSlot, sequenceCount } = run;
    const positions = graphs.tensor(this.#lastPositions.subarray(0, sequenceCount), [sequenceCount]);
    const inputs: Record<string, OrtTensor> = { ...this.#sharedInputs, last_positions: positions };
    const outputs: Record<string, OrtTensor> = {};
    const slotLength = this.#kvHeadCount * this.#contextLength * this.#config.headSize;
    const dims = [sequenceCount, this.#kvHeadCount, this.#contextLength, this.#config.headSize];
    const view = (buffers: readonly Float32Array[], layer: number) =>
      graphs.tensor(
        present(buffers[layer - this.#layerStart], "every layer has a cache").subarray(
          firstSlot * slotLength,
          (firstSlot + sequenceCount) * slotLength,
        ),
        dims,
      );
    for (const layer of layers) {
      const names = kvNames(layer);
      inputs[names.pastKey] = outputs[names.key] = view(this.#keys, layer);
      inputs[names.pastValue] = outputs[names.value] = view(this.#values, layer);
    }
    return { inputs, outputs };
  }

  /** Tells attention where the rows of the next run stand. */
  place(run: Run): void {
    this.#lastPositions.set(run.lastPositions);
    this.#positionCount[0] = Math.max(...run.lastPositions) + 1;
  }

  close(): void {
    for (const tensor of this.#shared) tensor.close();
  }
}

const runKey = (run: Run): string => `${run.rowOffset}:${run.firstSlot}:${run.sequenceCount}:${run.rowsPerSequence}`;

/** A segment with one rank: all its layers are one graph. */
export class WholeRunner implements SegmentRunner {
  readonly input: Float32Array;
  readonly #output: Float32Array;
  readonly #zero: Float32Array;
  readonly #session: OrtSession;
  readonly #attention: AttentionState;
  readonly #bound: BoundCache;
  readonly #layers: readonly number[];
  readonly #width: number;

  constructor(ort: Ort, shard: ShardDescription, options: RunnerOptions) {
    this.#width = shard.config.hiddenSize;
    this.input = floats(options.localRowCountMax * this.#width);
    this.#output = floats(options.localRowCountMax * this.#width);
    this.#zero = floats(options.localRowCountMax * this.#width);
    this.#layers = layersOf(shard);
    this.#session = ort.session(join(options.shardDirectory, BODY_GRAPH));
    this.#attention = new AttentionState(ort, shard, options);
    this.#bound = new BoundCache(ort, 4 * this.#layers.length);
  }

  *run(layout: Layout): Generator<Float32Array, Float32Array, void> {
    for (const run of layout.runs) {
      const [binding] = this.#bound.of(runKey(run), (graphs) => this.#bind(graphs, run));
      this.#attention.place(run);
      present(binding, "a whole segment is one graph").run();
    }
    return this.#output.subarray(0, layout.localRowCount * this.#width);
  }

  #bind(graphs: BoundGraphs, run: Run): void {
    const rows = (buffer: Float32Array, rowOffset: number) =>
      graphs.rows(buffer, rowOffset, run.sequenceCount, run.rowsPerSequence, this.#width);
    const { inputs, outputs } = this.#attention.bound(graphs, run, this.#layers);
    graphs.bind(
      this.#session,
      { ...inputs, hidden: rows(this.input, run.rowOffset), zero: rows(this.#zero, 0) },
      { ...outputs, out: rows(this.#output, run.rowOffset) },
    );
  }

  close(): void {
    this.#bound.close();
    this.#attention.close();
  }
}

/**
 * One of several ranks: two graphs a layer, and between them the sum over the ranks. Attention runs once for each run of
 * the layout, the FFN once for all rows, and every sum is of all rows.
 */
export class SplitRunner implements SegmentRunner {
  readonly input: Float32Array;
  readonly #residual: Float32Array;
  readonly #attended: Float32Array;
  readonly #attendedResidual: Float32Array;
  readonly #attentionSessions: readonly OrtSession[];
  readonly #feedForwardSessions: readonly OrtSession[];
  readonly #attention: AttentionState;
  readonly #attentionBound: BoundCache;
  readonly #feedForwardBound: BoundCache;
  readonly #layers: readonly number[];
  readonly #width: number;

  constructor(ort: Ort, shard: ShardDescription, options: RunnerOptions) {
    this.#width = shard.config.hiddenSize;
    const buffer = () => floats(options.localRowCountMax * this.#width);
    this.input = buffer();
    this.#residual = buffer();
    this.#attended = buffer();
    this.#attendedResidual = buffer();
    this.#layers = layersOf(shard);
    const session = (name: string) => ort.session(join(options.shardDirectory, name));
    this.#attentionSessions = this.#layers.map((layer) => session(attentionGraphName(layer)));
    this.#feedForwardSessions = this.#layers.map((layer) => session(feedForwardGraphName(layer)));
    this.#attention = new AttentionState(ort, shard, options);
    this.#attentionBound = new BoundCache(ort, 6 * this.#layers.length);
    this.#feedForwardBound = new BoundCache(ort, 4 * this.#layers.length);
  }

  *run(layout: Layout, reduce: Reduce): Generator<Float32Array, Float32Array, void> {
    const valueCount = layout.localRowCount * this.#width;
    const delta = this.input.subarray(0, valueCount);
    const residual = this.#residual.subarray(0, valueCount).fill(0);
    const attended = this.#attended.subarray(0, valueCount);
    // Kept ones may be closed while others are made, so each layer asks again.
    for (const [index] of this.#layers.entries()) {
      for (const run of layout.runs) {
        const bindings = this.#attentionBound.of(runKey(run), (graphs) => this.#bindAttention(graphs, run));
        this.#attention.place(run);
        present(bindings[index], "one binding per layer").run();
      }
      yield* reduce(attended);
      const rowCount = layout.localRowCount;
      const bindings = this.#feedForwardBound.of(`${rowCount}`, (graphs) => this.#bindFeedForward(graphs, rowCount));
      present(bindings[index], "one binding per layer").run();
      yield* reduce(delta);
    }
    for (let i = 0; i < valueCount; i += 1) delta[i] = (delta[i] ?? 0) + (residual[i] ?? 0);
    return delta;
  }

  #bindAttention(graphs: BoundGraphs, run: Run): void {
    const rows = (buffer: Float32Array) =>
      graphs.rows(buffer, run.rowOffset, run.sequenceCount, run.rowsPerSequence, this.#width);
    const from = { delta: rows(this.input), residual: rows(this.#residual) };
    const to = { partial: rows(this.#attended), sum: rows(this.#attendedResidual) };
    for (const [index, session] of this.#attentionSessions.entries()) {
      const { inputs, outputs } = this.#attention.bound(graphs, run, [present(this.#layers[index], "a layer")]);
      graphs.bind(session, { ...inputs, ...from }, { ...outputs, ...to });
    }
  }

  #bindFeedForward(graphs: BoundGraphs, rowCount: number): void {
    const rows = (buffer: Float32Array) => graphs.rows(buffer, 0, 1, rowCount, this.#width);
    const from = { delta: rows(this.#attended), residual: rows(this.#attendedResidual) };
    const to = { partial: rows(this.input), sum: rows(this.#residual) };
    for (const session of this.#feedForwardSessions) graphs.bind(session, from, to);
  }

  close(): void {
    this.#attentionBound.close();
    this.#feedForwardBound.close();
    this.#attention.close();
  }
}

const layersOf = (shard: ShardDescription): readonly number[] =>
  Array.from({ length: lengthOf(shard.layers) }, (_, index) => shard.layers.start + index);
