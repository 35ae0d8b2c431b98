/**
 * Runs the program of one shard: the matrix products for all rows of a batch at once, attention for each session by
 * itself, experts for the rows that chose them, and between the ranks of a segment the sums.
 *
 * Without products of our own (native/) the row count is always even: ONNX Runtime's MatMulNBits has one kernel for pairs
 * of rows and another for a single one that is left, and they add in different orders. With pairs only, a row's bits
 * depend neither on what else is in the batch nor on the number of threads (measured for blocks of 16 to 128 values, 4
 * and 8 bits, 1 to 300 rows).
 */
import { join } from "node:path";
import { present } from "../../core/assert.ts";
import type { KvDtype } from "../../core/kv-cache.ts";
import { Attention, type PlacedRows } from "./attention.ts";
import { BoundCache, type BoundGraphs, type RowRules, evenAbove, rowsToRun } from "./bound-cache.ts";
import { type Device, type DeviceBuffer, floatsOf } from "./device.ts";
import { ExpertLayers } from "./experts.ts";
import { type OrtSession, type OrtTensor, floats } from "./ort.ts";
import { type BufferPlan, INPUT, OUTPUT, type Program, type Step, programOf } from "./program.ts";
import type { ShardDescription } from "./shard.ts";

export type RunnerOptions = {
  readonly shardDirectory: string;
  readonly contextLength: number;
  readonly slotCount: number;
  readonly kvDtype: KvDtype;
  readonly maxBatchRows: number;
  readonly rules: RowRules;
  readonly partials: (valueCount: number) => Float32Array; // memory for what the ranks add up
};

/** Row counts whose bindings are kept: those of decoding, and a few of prefill. */
const KEPT_ROW_COUNTS = 48;

export class SegmentRunner {
  readonly #program: Program;
  readonly #layerStart: number;
  readonly #isRankZero: boolean;
  readonly #rules: RowRules;
  readonly #buffers: readonly DeviceBuffer[]; // as the program plans them, [rowCountMax, width] each
  readonly #sessions: readonly OrtSession[]; // of the program's run steps, in order
  readonly #attention: Attention;
  readonly #experts: ExpertLayers | undefined;
  readonly #bound: BoundCache;

  constructor(device: Device, shard: ShardDescription, options: RunnerOptions) {
    this.#program = programOf(shard.config, shard);
    this.#layerStart = shard.layers.start;
    this.#isRankZero = shard.slice.rankIndex === 0;
    this.#rules = options.rules;
    const rowCountMax = evenAbove(options.maxBatchRows);
    const room = ({ width, place }: BufferPlan): DeviceBuffer => {
      if (place === "device") return device.buffer(rowCountMax, width);
      const values = place === "shared" ? options.partials(rowCountMax * width) : floats(rowCountMax * width);
      return device.shared(values, width);
    };
    this.#buffers = this.#program.buffers.map(room);
    this.#sessions = graphsOf(this.#program).map(({ name }) => device.session(join(options.shardDirectory, name)));
    const attend = present(
      this.#program.steps.find((step) => step.step === "attend"),
      "a shard attends",
    );
    this.#attention = new Attention(device, shard, {
      ...options,
      qkv: this.#buffer(attend.qkv),
      attended: this.#buffer(attend.attended),
    });
    this.#experts = shard.config.experts && new ExpertLayers(device, shard, { ...options, rowCountMax });
    this.#bound = new BoundCache(device, KEPT_ROW_COUNTS);
  }

  /** Where the caller puts the hidden rows, f32 [rows, hiddenSize]. */
  get input(): Float32Array {
    return floatsOf(this.#buffer(INPUT));
  }

  /**
   * Runs all layers over the first `rowCount` rows; yields partial sums as ShardEngine.forward does. The result, f32
   * [rowCount, hiddenSize], is valid until the next call.
   */
  *run(sessions: readonly PlacedRows[], rowCount: number): Generator<Float32Array, Float32Array, void> {
    const even = rowsToRun(rowCount, this.#rules);
    const rows = (name: string, count = rowCount) =>
      floatsOf(this.#buffer(name)).subarray(0, count * this.#width(name));
    // The row that makes the count even.
    rows(INPUT, even).fill(0, rows(INPUT).length);
    const bindings = this.#bound.of(even, (graphs) => this.#bind(graphs, even)).values();
    for (const step of this.#program.steps)
      switch (step.step) {
        case "run":
          present(bindings.next().value, "one binding for each graph").run();
          break;
        case "attend":
          for (const placed of sessions) this.#attention.run(step.layer - this.#layerStart, placed);
          break;
        case "experts":
          this.#experts?.run(step.layer, rowCount, rows(step.normed), rows(step.logits), rows(step.delta, even));
          break;
        case "rankZero":
          if (!this.#isRankZero) rows(step.value).fill(0);
          yield rows(step.value);
          break;
        case "exchange":
          yield rows(step.value);
      }
    return rows(OUTPUT);
  }

  #buffer(name: string): DeviceBuffer {
    return present(this.#buffers[present(this.#program.bufferOf[name], `${name} has a buffer`)], "a planned buffer");
  }

  #width(name: string): number {
    return present(this.#program.widths[name], `${name} has a width`);
  }

  #bind(graphs: BoundGraphs, rowCount: number): void {
    const tensors = new Map<string, OrtTensor>();
    const tensor = (name: string): OrtTensor => {
      const key = `${this.#program.bufferOf[name]}`;
      const made = tensors.get(key) ?? graphs.rows(this.#buffer(name), 0, rowCount);
      tensors.set(key, made);
      return made;
    };
    const bound = (names: readonly string[]) => Object.fromEntries(names.map((name) => [name, tensor(name)]));
    for (const [index, { inputs, outputs }] of graphsOf(this.#program).entries())
      graphs.bind(present(this.#sessions[index], "a loaded graph"), bound(inputs), bound(outputs));
  }

  close(): void {
    this.#bound.close();
    this.#experts?.close();
    this.#attention.close();
  }
}

const graphsOf = ({ steps }: Program) => steps.flatMap((step: Step) => (step.step === "run" ? [step.graph] : []));
