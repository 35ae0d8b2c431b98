/**
 * A device with memory of its own, behind one of ONNX Runtime's providers. Buffers come from the provider's allocator;
 * rows move between them with three small graphs on the device itself, because the C API has no copy that all providers
 * and library versions offer.
 */
import { assert, present } from "../../core/assert.ts";
import {
  type Device,
  type DeviceBuffer,
  type DeviceKind,
  Sessions,
  floatsOf,
  placeOf,
  sharedBuffer,
} from "./device.ts";
import { GraphBuilder } from "./graph/onnx.ts";
import type { Pointer } from "./ort-api.ts";
import {
  ELEMENT_BYTES,
  ELEMENT_TYPES,
  type ElementType,
  type Ort,
  type OrtBinding,
  type OrtSession,
  OrtTensor,
  type Provider,
  type TensorArray,
  integers,
  tensorAt,
} from "./ort.ts";

export type DeviceTraits = {
  readonly kind: DeviceKind;
  readonly name: string;
  readonly provider: Provider;
  readonly memoryName: string; // as the provider's allocator calls its memory
  readonly addressable: boolean; // bytes can be added to an address; else it is a handle
  readonly attentionType: "f32" | "f16";
};

const DEVICE_ALLOCATOR = 0;
const DEFAULT_DEVICE_ID = 0;
const DEFAULT_MEMORY = 0;
/** Copies between buffers come back with every token; making their bindings costs more than running them. */
const KEPT_COPIES = 256;
/** Allocations are whole vectors of four f32, so that any of them can be zeroed as f32. */
const ALIGNMENT_BYTES = 16;

class DeviceMemory implements DeviceBuffer {
  readonly id: number;
  readonly type: ElementType;
  readonly rowCount: number;
  readonly width: number;
  readonly address: Pointer;

  constructor(id: number, type: ElementType, rowCount: number, width: number, address: Pointer) {
    this.id = id;
    this.type = type;
    this.rowCount = rowCount;
    this.width = width;
    this.address = address;
  }
}

export class ProviderDevice implements Device {
  readonly kind: DeviceKind;
  readonly name: string;
  readonly attentionType: "f32" | "f16";
  attentionRowCountMax = Number.MAX_SAFE_INTEGER;
  readonly #ort: Ort;
  readonly #traits: DeviceTraits;
  readonly #sessions: Sessions;
  readonly #gather: OrtSession;
  readonly #scatter: OrtSession;
  readonly #zeros: OrtSession;
  readonly #memory: Pointer;
  readonly #allocator: Pointer;
  readonly #held = new Map<number, DeviceMemory>();
  readonly #copies = new Map<string, RowCopy>();
  #nextId = 0;

  /** Throws where the provider cannot be had or has no device. */
  constructor(ort: Ort, traits: DeviceTraits) {
    const { api } = ort;
    this.kind = traits.kind;
    this.name = traits.name;
    this.attentionType = traits.attentionType;
    this.#ort = ort;
    this.#traits = traits;
    this.#sessions = new Sessions(ort, traits.provider);
    const own = new Sessions(ort, traits.provider);
    this.#gather = own.load(gatherGraph());
    this.#scatter = own.load(scatterGraph());
    this.#zeros = own.load(zerosGraph());
    this.#memory = api.make("CreateMemoryInfo", traits.memoryName, DEVICE_ALLOCATOR, DEFAULT_DEVICE_ID, DEFAULT_MEMORY);
    this.#allocator = api.make("CreateAllocator", this.#gather.pointer, this.#memory);
  }

  get onTheCpu(): readonly string[] {
    return this.#sessions.onTheCpu;
  }

  session(graph: string | Uint8Array): OrtSession {
    return this.#sessions.load(graph);
  }

  buffer(rowCount: number, width: number, type: ElementType = "f32"): DeviceBuffer {
    const byteLength = alignedLength(rowCount * width * ELEMENT_BYTES[type]);
    let buffer: DeviceMemory | undefined;
    try {
      const address = this.#ort.api.make("AllocatorAlloc", this.#allocator, byteLength);
      buffer = new DeviceMemory(this.#nextId, type, rowCount, width, address);
      this.#nextId += 1;
      this.#held.set(buffer.id, buffer);
      // WebGPU's drivers find only at the first use that there was no room.
      this.#zero(buffer, byteLength);
      return buffer;
    } catch (cause) {
      if (buffer !== undefined) this.#free(buffer);
      const size = `${Math.ceil(byteLength / 2 ** 20)} MiB`;
      const detail = `${this.name} has no room for a buffer of ${size}; give the model fewer slots or a shorter context`;
      throw new Error(`${detail}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
    }
  }

  constant(values: Float32Array, width: number, type: "f32" | "f16" = "f32"): DeviceBuffer {
    const from = this.shared(values, width);
    const buffer = this.buffer(from.rowCount, width, type);
    if (type === "f32") this.copyRows(from, 0, buffer, 0, from.rowCount);
    else {
      const dims = [from.rowCount, width];
      const [wide, half] = [this.tensor(from, 0, dims), this.tensor(buffer, 0, dims)];
      const binding = this.#sessions.load(halvesGraph()).bind({ wide }, { half });
      binding.run();
      for (const each of [binding, wide, half]) each.close();
    }
    return buffer;
  }

  shared(values: TensorArray, width: number): DeviceBuffer {
    return sharedBuffer(values, width);
  }

  tensor(buffer: DeviceBuffer, startRow: number, dims: readonly number[]): OrtTensor {
    const { start, count } = placeOf(buffer, startRow, dims);
    if (!(buffer instanceof DeviceMemory))
      return this.#ort.tensor(present(buffer.values, "shared").subarray(start, start + count), dims);
    if (startRow === 0 || this.#traits.addressable) return this.#view(buffer, start, dims);
    return this.#copied(buffer, startRow, dims, count);
  }

  #view(buffer: DeviceMemory, start: number, dims: readonly number[]): OrtTensor {
    const bytes = ELEMENT_BYTES[buffer.type];
    const address = buffer.address + BigInt(start * bytes);
    const byteLength = dims.reduce((a, b) => a * b, 1) * bytes;
    return new OrtTensor(
      this.#ort.api,
      tensorAt(this.#ort.api, this.#memory, address, byteLength, dims, buffer.type),
      buffer,
    );
  }

  /** Rows that cannot be viewed: a buffer of their own, filled before a run that reads them, emptied after one that writes. */
  #copied(buffer: DeviceMemory, startRow: number, dims: readonly number[], count: number): OrtTensor {
    assert(count % buffer.width === 0, "whole rows are copied");
    const rowCount = count / buffer.width;
    const own = this.buffer(rowCount, buffer.width, buffer.type);
    assert(own instanceof DeviceMemory, "a device's buffer");
    const view = this.#view(own, 0, dims);
    return new OrtTensor(this.#ort.api, view.value, own, {
      load: () => this.copyRows(buffer, startRow, own, 0, rowCount),
      store: () => this.copyRows(own, 0, buffer, startRow, rowCount),
      close: () => this.#free(own),
    });
  }

  copyRows(from: DeviceBuffer, fromRow: number, to: DeviceBuffer, toRow: number, rowCount: number): void {
    assert(from.type === "f32" && to.type === "f32" && from.width === to.width, "f32 rows of one width are copied");
    const source = placeOf(from, fromRow, [rowCount, from.width]);
    const target = placeOf(to, toRow, [rowCount, to.width]);
    if (!(from instanceof DeviceMemory) && !(to instanceof DeviceMemory)) {
      floatsOf(to).set(floatsOf(from).subarray(source.start, source.start + source.count), target.start);
      return;
    }
    if (this.#isViewable(to, toRow) || this.#isViewable(from, fromRow)) {
      this.#copy(from, fromRow, to, toRow, rowCount);
      return;
    }
    const between = this.buffer(rowCount, from.width);
    this.#copy(from, fromRow, between, 0, rowCount);
    this.#copy(between, 0, to, toRow, rowCount);
    assert(between instanceof DeviceMemory, "a device's buffer");
    this.#free(between);
  }

  #isViewable(buffer: DeviceBuffer, row: number): boolean {
    return row === 0 || this.#traits.addressable || !(buffer instanceof DeviceMemory);
  }

  #copy(from: DeviceBuffer, fromRow: number, to: DeviceBuffer, toRow: number, rowCount: number): void {
    const viewsTarget = this.#isViewable(to, toRow);
    const place = (buffer: DeviceBuffer, row: number) => (this.#isViewable(buffer, row) ? row : "any");
    const key =
      from instanceof DeviceMemory && to instanceof DeviceMemory
        ? [from.id, place(from, fromRow), to.id, place(to, toRow), rowCount].join(" ")
        : undefined;
    const known = key === undefined ? undefined : this.#copies.get(key);
    const copy = known ?? this.#bindCopy(from, fromRow, to, toRow, rowCount);
    copy.run(viewsTarget ? this.#firstRow(from, fromRow) : toRow);
    if (key === undefined) copy.close();
    else this.#keep(key, copy);
  }

  #firstRow(buffer: DeviceBuffer, row: number): number {
    return this.#isViewable(buffer, row) ? 0 : row;
  }

  #keep(key: string, copy: RowCopy): void {
    this.#copies.delete(key);
    this.#copies.set(key, copy);
    const [oldest] = this.#copies;
    if (this.#copies.size <= KEPT_COPIES || oldest === undefined) return;
    this.#copies.delete(oldest[0]);
    oldest[1].close();
  }

  /** Gathers into a target that can be viewed; otherwise scatters a source that can be. */
  #bindCopy(from: DeviceBuffer, fromRow: number, to: DeviceBuffer, toRow: number, rowCount: number): RowCopy {
    if (!this.#isViewable(to, toRow)) {
      const rows = new BigInt64Array(new ArrayBuffer(rowCount * 8));
      const whole = this.#rows(to, toRow, rowCount);
      const source = this.#rows(from, fromRow, rowCount);
      const indices = this.#ort.tensor(rows, [rowCount, 1]);
      const binding = this.#scatter.bind({ whole, indices, rows: source }, { out: whole });
      const setFirst = (first: number) => rows.forEach((_, index) => (rows[index] = BigInt(first + index)));
      return new RowCopy(binding, setFirst);
    }
    const rows = integers(rowCount);
    const source = this.#rows(from, fromRow, rowCount);
    const target = this.#rows(to, toRow, rowCount);
    const indices = this.#ort.tensor(rows, [rowCount]);
    const binding = this.#gather.bind({ whole: source, indices }, { out: target });
    return new RowCopy(binding, (first) => rows.forEach((_, index) => (rows[index] = first + index)));
  }

  /** A view of just those rows, or else the whole buffer. */
  #rows(buffer: DeviceBuffer, row: number, rowCount: number): OrtTensor {
    return this.#isViewable(buffer, row)
      ? this.tensor(buffer, row, [rowCount, buffer.width])
      : this.tensor(buffer, 0, [buffer.rowCount, buffer.width]);
  }

  #zero(buffer: DeviceMemory, byteLength: number): void {
    const count = byteLength / ELEMENT_BYTES.f32;
    const shape = new BigInt64Array(new ArrayBuffer(8)).fill(BigInt(count));
    const shapeTensor = this.#ort.tensor(shape, [1]);
    const value = tensorAt(this.#ort.api, this.#memory, buffer.address, byteLength, [count], "f32");
    const all = new OrtTensor(this.#ort.api, value, buffer);
    const binding = this.#zeros.bind({ shape: shapeTensor }, { out: all });
    binding.run();
    for (const each of [binding, shapeTensor, all]) each.close();
  }

  /** Bindings that refer to the memory go first. */
  #free(buffer: DeviceMemory): void {
    for (const [key, copy] of this.#copies) {
      const [from, , to] = key.split(" ");
      if (from !== String(buffer.id) && to !== String(buffer.id)) continue;
      this.#copies.delete(key);
      copy.close();
    }
    this.#held.delete(buffer.id);
    this.#ort.api.check("AllocatorFree", this.#allocator, buffer.address);
  }

  close(): void {
    for (const buffer of [...this.#held.values()]) this.#free(buffer);
    this.#ort.api.raw("ReleaseAllocator")(this.#allocator);
    this.#ort.api.raw("ReleaseMemoryInfo")(this.#memory);
  }
}

/** One kept binding of a copy; which rows it means is told at each run. */
class RowCopy {
  readonly #binding: OrtBinding;
  readonly #setFirst: (first: number) => void;

  constructor(binding: OrtBinding, setFirst: (first: number) => void) {
    this.#binding = binding;
    this.#setFirst = setFirst;
  }

  run(first: number): void {
    this.#setFirst(first);
    this.#binding.run();
  }

  close(): void {
    this.#binding.close();
    for (const tensor of new Set(this.#binding.tensors)) tensor.close();
  }
}

const alignedLength = (byteLength: number): number =>
  Math.max(1, Math.ceil(byteLength / ALIGNMENT_BYTES)) * ALIGNMENT_BYTES;

/** (whole [R, W], indices [n]) → (out [n, W]) */
function gatherGraph(): Uint8Array {
  const graph = new GraphBuilder("rows out");
  const inputs = [graph.input("whole", ["R", "W"]), graph.input("indices", ["n"], ELEMENT_TYPES.int32)];
  graph.node("Gather", inputs, ["out"], { axis: 0 });
  graph.output("out", ["n", "W"]);
  return graph.encode();
}

/** (whole [R, W], indices [n, 1], rows [n, W]) → (out [R, W]), in place where out is bound to the same memory. */
function scatterGraph(): Uint8Array {
  const graph = new GraphBuilder("rows in");
  const whole = graph.input("whole", ["R", "W"]);
  graph.node(
    "ScatterND",
    [whole, graph.input("indices", ["n", 1], ELEMENT_TYPES.int64), graph.input("rows", ["n", "W"])],
    ["out"],
  );
  graph.output("out", ["R", "W"]);
  return graph.encode();
}

/** (shape [1]) → (out [count]) */
function zerosGraph(): Uint8Array {
  const graph = new GraphBuilder("zeros");
  graph.node("ConstantOfShape", [graph.input("shape", [1], ELEMENT_TYPES.int64)], ["out"]);
  graph.output("out", ["count"]);
  return graph.encode();
}

/** (wide f32 [R, W]) → (half f16 [R, W]) */
function halvesGraph(): Uint8Array {
  const graph = new GraphBuilder("halves");
  graph.node("Cast", [graph.input("wide", ["R", "W"])], ["half"], { to: ELEMENT_TYPES.f16 });
  graph.output("half", ["R", "W"], ELEMENT_TYPES.f16);
  return graph.encode();
}
