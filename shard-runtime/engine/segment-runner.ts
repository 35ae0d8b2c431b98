/**
 * Runs the layers of one shard: the matrix products for all rows of a batch at once, attention for each session by
 * itself, and between the ranks of a segment the sums.
 *
 * The row count is always even: MatMulNBits has one kernel for pairs of rows and another for a single one that is left,
 * and they add in different orders. With pairs only, a row's bits depend neither on what else is in the batch nor on the
 * number of threads (measured for blocks of 16 to 128 values, 4 and 8 bits, 1 to 300 rows).
 */
import { join } from "node:path";
import { present } from "../../core/assert.ts";
import { lengthOf } from "../../core/ranges.ts";
import { Attention, type PlacedRows } from "./attention.ts";
import { BoundCache, type BoundGraphs } from "./bound-cache.ts";
import { type Ort, type OrtBinding, type OrtSession, floats } from "./ort.ts";
import { GRAPHS } from "./pack-graphs.ts";
import type { ShardDescription } from "./shard.ts";

export type RunnerOptions = {
  readonly shardDirectory: string;
  readonly contextLength: number;
  readonly slotCount: number;
  readonly maxBatchRows: number;
  readonly partials: (valueCount: number) => Float32Array; // memory for what the ranks add up
};

export interface SegmentRunner {
  /** Where the caller puts the hidden rows, f32 [rows, hiddenSize]. */
  readonly input: Float32Array;
  /**
   * Runs all layers over the first `rowCount` rows; yields partial sums as ShardEngine.forward does. The result, f32
   * [rowCount, hiddenSize], is valid until the next call.
   */
  run(sessions: readonly PlacedRows[], rowCount: number): Generator<Float32Array, Float32Array, void>;
  close(): void;
}

/** Row counts whose bindings are kept: those of decoding, and a few of prefill. */
const KEPT_ROW_COUNTS = 48;

export const evenAbove = (count: number): number => count + (count % 2);

/** The buffers and graphs of either kind of runner. */
abstract class Runner implements SegmentRunner {
  readonly input: Float32Array;
  readonly attention: Attention;
  readonly width: number;
  readonly layers: readonly number[];
  readonly rowCountMax: number;
  readonly #bound: BoundCache;
  readonly #session: (name: string) => OrtSession;

  constructor(ort: Ort, shard: ShardDescription, options: RunnerOptions) {
    this.width = shard.config.hiddenSize;
    this.rowCountMax = evenAbove(options.maxBatchRows);
    this.layers = Array.from({ length: lengthOf(shard.layers) }, (_, index) => shard.layers.start + index);
    this.input = options.partials(this.rowCountMax * this.width);
    this.attention = new Attention(ort, shard, { ...options, rowCountMax: this.rowCountMax });
    this.#bound = new BoundCache(ort, KEPT_ROW_COUNTS);
    this.#session = (name) => ort.session(join(options.shardDirectory, name));
  }

  abstract run(sessions: readonly PlacedRows[], rowCount: number): Generator<Float32Array, Float32Array, void>;
  protected abstract bind(graphs: BoundGraphs, rowCount: number): void;

  protected session(name: string): OrtSession {
    return this.#session(name);
  }

  protected buffer(): Float32Array {
    return floats(this.rowCountMax * this.width);
  }

  /** The graphs' bindings for so many rows; the row that makes the count even is zeroed. */
  protected bindings(rowCount: number): readonly OrtBinding[] {
    const even = evenAbove(rowCount);
    this.input.fill(0, rowCount * this.width, even * this.width);
    return this.#bound.of(even, (graphs) => this.bind(graphs, even));
  }

  protected attend(index: number, sessions: readonly PlacedRows[]): void {
    for (const rows of sessions) this.attention.run(index, rows);
  }

  close(): void {
    this.#bound.close();
    this.attention.close();
  }
}

/** A segment with one rank: cut at attention only. */
class WholeRunner extends Runner {
  readonly #enter: OrtSession;
  readonly #afterAttention: readonly OrtSession[]; // one per layer; the last leaves the segment
  readonly #zero = this.buffer();
  readonly #residuals = [this.buffer(), this.buffer()] as const; // read and written in turn
  readonly #output = this.buffer();

  constructor(ort: Ort, shard: ShardDescription, options: RunnerOptions) {
    super(ort, shard, options);
    const last = shard.layers.end - 1;
    this.#enter = this.session(GRAPHS.enter(shard.layers.start));
    this.#afterAttention = this.layers.map((layer) =>
      this.session(layer === last ? GRAPHS.leave(layer) : GRAPHS.through(layer)),
    );
  }

  // biome-ignore lint/correctness/useYield: one rank has nothing to add up
  *run(sessions: readonly PlacedRows[], rowCount: number): Generator<Float32Array, Float32Array, void> {
    const [enter, ...afterAttention] = this.bindings(rowCount);
    present(enter, "a segment has a layer").run();
    for (const [index, binding] of afterAttention.entries()) {
      this.attend(index, sessions);
      binding.run();
    }
    return this.#output.subarray(0, rowCount * this.width);
  }

  protected override bind(graphs: BoundGraphs, rowCount: number): void {
    const { rows, attended, qkv } = rowTensors(this, graphs, rowCount);
    const [even, odd] = this.#residuals.map(rows);
    const residual = (index: number) => present(index % 2 === 0 ? even : odd, "two residuals");
    graphs.bind(this.#enter, { delta: rows(this.input), residual: rows(this.#zero) }, { qkv, sum: residual(0) });
    for (const [index, session] of this.#afterAttention.entries()) {
      const leaves = index === this.#afterAttention.length - 1;
      const outputs = leaves ? { hidden: rows(this.#output) } : { qkv, sum: residual(index + 1) };
      graphs.bind(session, { attended, residual: residual(index) }, outputs);
    }
  }
}

/** One of several ranks: cut at attention and at the two sums of each layer. */
class SplitRunner extends Runner {
  readonly #graphs: readonly { enter: OrtSession; attentionOut: OrtSession; feedForward: OrtSession }[];
  readonly #attentionPartial: Float32Array;
  readonly #residual = this.buffer();
  readonly #residualAtAttention = this.buffer();

  constructor(ort: Ort, shard: ShardDescription, options: RunnerOptions) {
    super(ort, shard, options);
    this.#attentionPartial = options.partials(this.rowCountMax * this.width);
    this.#graphs = this.layers.map((layer) => ({
      enter: this.session(GRAPHS.enter(layer)),
      attentionOut: this.session(GRAPHS.attentionOut(layer)),
      feedForward: this.session(GRAPHS.feedForward(layer)),
    }));
  }

  *run(sessions: readonly PlacedRows[], rowCount: number): Generator<Float32Array, Float32Array, void> {
    const valueCount = rowCount * this.width;
    const bindings = this.bindings(rowCount).values();
    const runNext = () => present(bindings.next().value, "three graphs a layer").run();
    this.#residual.fill(0, 0, evenAbove(rowCount) * this.width);
    for (const index of this.layers.keys()) {
      runNext();
      this.attend(index, sessions);
      runNext();
      yield this.#attentionPartial.subarray(0, valueCount);
      runNext();
      yield this.input.subarray(0, valueCount);
    }
    const hidden = this.#residual.subarray(0, valueCount);
    for (let i = 0; i < valueCount; i += 1) hidden[i] = (hidden[i] ?? 0) + (this.input[i] ?? 0);
    return hidden;
  }

  protected override bind(graphs: BoundGraphs, rowCount: number): void {
    const { rows, attended, qkv } = rowTensors(this, graphs, rowCount);
    const delta = rows(this.input);
    const residual = rows(this.#residual);
    const partial = rows(this.#attentionPartial);
    const sum = rows(this.#residualAtAttention);
    for (const { enter, attentionOut, feedForward } of this.#graphs) {
      graphs.bind(enter, { delta, residual }, { qkv, sum });
      graphs.bind(attentionOut, { attended }, { partial });
      graphs.bind(feedForward, { delta: partial, residual: sum }, { partial: delta, sum: residual });
    }
  }
}

function rowTensors(runner: Runner, graphs: BoundGraphs, rowCount: number) {
  const { attention, width } = runner;
  const rows = (buffer: Float32Array) => graphs.rows(buffer, 0, rowCount, width);
  return {
    rows,
    qkv: graphs.rows(attention.qkv, 0, rowCount, attention.qkv.length / runner.rowCountMax),
    attended: graphs.rows(attention.attended, 0, rowCount, attention.attended.length / runner.rowCountMax),
  };
}

export function segmentRunner(ort: Ort, shard: ShardDescription, options: RunnerOptions): SegmentRunner {
  return shard.slice.rankCount === 1 ? new WholeRunner(ort, shard, options) : new SplitRunner(ort, shard, options);
}
