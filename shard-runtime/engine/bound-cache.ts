/**
 * Bindings tie a graph to views of our buffers for one arrangement of rows. Making one costs more calls than running it,
 * so arrangements that come back are kept, up to a number; the least recently used goes first.
 */
import type { Device, DeviceBuffer } from "./device.ts";
import type { Bound, OrtBinding, OrtSession, OrtTensor } from "./ort.ts";

export const evenAbove = (count: number): number => count + (count % 2);

/** Which operators give a row the same bits whatever rows come with it, and so may be given any number of them. */
export type RowRules = {
  readonly products: boolean; // false: rows come in pairs, see segment-runner.ts
  readonly attention: boolean; // false: a single row comes twice, see attention.ts
};

/** How many rows the graphs run over where `count` are wanted. */
export const rowsToRun = (count: number, rules: RowRules): number => (rules.products ? count : evenAbove(count));

/** The bindings of one arrangement, and the tensors made for them. */
export class BoundGraphs {
  readonly #device: Device;
  readonly #tensors: OrtTensor[] = [];
  readonly #bindings: OrtBinding[] = [];

  constructor(device: Device) {
    this.#device = device;
  }

  get bindings(): readonly OrtBinding[] {
    return this.#bindings;
  }

  /** Rows [start, start + rowCount) of a buffer as [rowCount, width], or as one batch of them. */
  rows(buffer: DeviceBuffer, start: number, rowCount: number, asBatch = false): OrtTensor {
    return this.tensor(buffer, start, asBatch ? [1, rowCount, buffer.width] : [rowCount, buffer.width]);
  }

  tensor(buffer: DeviceBuffer, startRow: number, dims: readonly number[]): OrtTensor {
    const tensor = this.#device.tensor(buffer, startRow, dims);
    this.#tensors.push(tensor);
    return tensor;
  }

  bind(session: OrtSession, inputs: Bound, outputs: Bound): void {
    this.#bindings.push(session.bind(inputs, outputs));
  }

  close(): void {
    for (const binding of this.#bindings) binding.close();
    for (const tensor of this.#tensors) tensor.close();
  }
}

export class BoundCache {
  readonly #device: Device;
  readonly #countMax: number;
  readonly #kept = new Map<number, BoundGraphs>();

  /** Keeps at most `countMax` arrangements. */
  constructor(device: Device, countMax: number) {
    this.#device = device;
    this.#countMax = countMax;
  }

  /** The bindings that `make` made for `key`, in its order; valid until the next call. */
  of(key: number, make: (graphs: BoundGraphs) => void): readonly OrtBinding[] {
    let graphs = this.#kept.get(key);
    if (graphs === undefined) {
      const [oldest] = this.#kept;
      if (this.#kept.size >= this.#countMax && oldest !== undefined) {
        this.#kept.delete(oldest[0]);
        oldest[1].close();
      }
      graphs = new BoundGraphs(this.#device);
      make(graphs);
    } else this.#kept.delete(key);
    this.#kept.set(key, graphs);
    return graphs.bindings;
  }

  close(): void {
    for (const graphs of this.#kept.values()) graphs.close();
    this.#kept.clear();
  }
}
