/**
 * The experts that this rank holds. Only those that some row chose run, each over the rows that chose it; a row's sum is
 * taken in ascending order of its experts, so that its bits do not depend on who else is in the batch.
 */
import { join } from "node:path";
import { present } from "../../core/assert.ts";
import type { Experts } from "../../core/model-config.ts";
import { BoundCache, type RowRules, rowsToRun } from "./bound-cache.ts";
import type { Device, DeviceBuffer } from "./device.ts";
import { EXPERT_INPUT, EXPERT_OUTPUT } from "./graph/pieces.ts";
import { type OrtSession, floats } from "./ort.ts";
import { GRAPHS } from "./program.ts";
import { type Routed, routeRows } from "./routing.ts";
import type { ShardDescription } from "./shard.ts";

/** Row counts of one expert whose bindings are kept. */
const KEPT_ROW_COUNTS = 4;

type Expert = { readonly session: OrtSession; readonly bound: BoundCache };

export class ExpertLayers {
  readonly #config: Experts;
  readonly #shard: ShardDescription;
  readonly #width: number;
  readonly #rules: RowRules;
  readonly #experts = new Map<string, Expert>();
  readonly #input: Float32Array; // the rows of one expert, [rows, hiddenSize]
  readonly #output: Float32Array;
  readonly #buffers: { readonly input: DeviceBuffer; readonly output: DeviceBuffer }; // the same, to bind

  constructor(
    device: Device,
    shard: ShardDescription,
    options: { readonly shardDirectory: string; readonly rowCountMax: number; readonly rules: RowRules },
  ) {
    this.#config = present(shard.config.experts, "a model with experts");
    this.#shard = shard;
    this.#rules = options.rules;
    this.#width = shard.config.hiddenSize;
    this.#input = floats(options.rowCountMax * this.#width);
    this.#output = floats(options.rowCountMax * this.#width);
    this.#buffers = {
      input: device.shared(this.#input, this.#width),
      output: device.shared(this.#output, this.#width),
    };
    const { layers, slice, config } = shard;
    for (let layer = layers.start; layer < layers.end; layer += 1) {
      if (config.layerKinds[layer]?.experts !== true) continue;
      for (let expert = slice.experts.start; expert < slice.experts.end; expert += 1) {
        const session = device.session(join(options.shardDirectory, GRAPHS.expert(layer, expert)));
        this.#experts.set(`${layer}/${expert}`, { session, bound: new BoundCache(device, KEPT_ROW_COUNTS) });
      }
    }
  }

  /** From `normed` [rows, hiddenSize] and `logits` [rows, experts] to this rank's part of the sum, `delta`. */
  run(layer: number, rowCount: number, normed: Float32Array, logits: Float32Array, delta: Float32Array): void {
    delta.fill(0);
    for (const [expert, routed] of routeRows(logits, rowCount, this.#config, this.#shard.slice.experts))
      this.#runOne(present(this.#experts.get(`${layer}/${expert}`), "a held expert"), routed, normed, delta);
  }

  #runOne({ session, bound }: Expert, { rows, weights }: Routed, normed: Float32Array, delta: Float32Array): void {
    const width = this.#width;
    for (const [index, row] of rows.entries())
      this.#input.set(normed.subarray(row * width, (row + 1) * width), index * width);
    const even = rowsToRun(rows.length, this.#rules);
    this.#input.fill(0, rows.length * width, even * width);
    const [binding] = bound.of(even, (graphs) =>
      graphs.bind(
        session,
        { [EXPERT_INPUT]: graphs.rows(this.#buffers.input, 0, even) },
        { [EXPERT_OUTPUT]: graphs.rows(this.#buffers.output, 0, even) },
      ),
    );
    present(binding, "an expert is one graph").run();
    for (const [index, row] of rows.entries()) {
      const weight = weights[index] ?? 0;
      const output = this.#output.subarray(index * width, (index + 1) * width);
      const sum = delta.subarray(row * width, (row + 1) * width);
      for (let at = 0; at < width; at += 1) sum[at] = (sum[at] ?? 0) + Math.fround(weight * (output[at] ?? 0));
    }
  }

  close(): void {
    for (const { bound } of this.#experts.values()) bound.close();
  }
}
