/**
 * Where a shard computes: the processor, or a GPU through one of ONNX Runtime's providers. Buffers of rows stay where
 * the device is, from graph to graph; what the host reads and writes (token rows coming in, partial sums, hidden rows
 * and logits going out) is shared with it.
 *
 * A tensor over a buffer's first rows is the memory itself everywhere. Over later rows it is so where the device's
 * addresses can be added to; elsewhere (WebGPU's buffers are handles) it is a copy, loaded before each run that reads it
 * and stored after each run that writes it. Callers notice nothing but time, so what is large and changed in place (a
 * slot's keys and values) gets a buffer of its own.
 */
import { assert, present } from "../../core/assert.ts";
import {
  ELEMENT_BYTES,
  type ElementType,
  type Ort,
  type OrtSession,
  type OrtTensor,
  type Provider,
  type TensorArray,
  elementTypeOf,
} from "./ort.ts";

export const DEVICE_KINDS = ["cpu", "webgpu", "cuda", "coreml", "directml"] as const;
export type DeviceKind = (typeof DEVICE_KINDS)[number];

/** Row-major values [rowCount, width]. */
export interface DeviceBuffer {
  readonly type: ElementType;
  readonly rowCount: number;
  readonly width: number;
  /** The values themselves where they are in our memory: always of a shared buffer, of every buffer on the cpu. */
  readonly values?: TensorArray;
}

export interface Device {
  readonly kind: DeviceKind;
  /** What computes, for the drift class: `cpu-x64-avx512vnni`, `webgpu-vulkan-…`. */
  readonly name: string;
  /** What attention computes in, and so what keys and values are kept as. */
  readonly attentionType: "f32" | "f16";
  /** Rows of one session that attention may be given at once here; attention-check.ts finds out for a model. */
  attentionRowCountMax: number;
  /** Operators of the sessions so far that the device left to the processor, sorted. */
  readonly onTheCpu: readonly string[];
  /** Loads a graph (a file, or its bytes) to run on the device. Throws an Error that names the file. */
  session(graph: string | Uint8Array): OrtSession;
  /** Memory of the device, zeroed. Throws where there is not enough. */
  buffer(rowCount: number, width: number, type?: ElementType): DeviceBuffer;
  /** Values that never change, put on the device once: f32 there too, or rounded to f16. */
  constant(values: Float32Array, width: number, type?: "f32" | "f16"): DeviceBuffer;
  /**
   * A buffer over `values`, which must lie outside the JavaScript heap (`floats`, `integers`, a SharedArrayBuffer):
   * native code copies them at each run where the device is elsewhere. Int32 and the like are for small inputs.
   */
  shared(values: TensorArray, width: number): DeviceBuffer;
  /** Rows from `startRow` on, as many as `dims` say, as a tensor to bind. The caller closes it. */
  tensor(buffer: DeviceBuffer, startRow: number, dims: readonly number[]): OrtTensor;
  /** Rows [fromRow, fromRow + rowCount) of one f32 buffer to another; they must not be the same rows. */
  copyRows(from: DeviceBuffer, fromRow: number, to: DeviceBuffer, toRow: number, rowCount: number): void;
  /** Frees the buffers. Sessions end with their Ort. */
  close(): void;
}

/** Rows of `buffer`, f32 [rowCount, width], read back from wherever they are. For tests and for what is rarely read. */
export function readRows(device: Device, buffer: DeviceBuffer, startRow: number, rowCount: number): Float32Array {
  const values = new Float32Array(new ArrayBuffer(rowCount * buffer.width * 4));
  device.copyRows(buffer, startRow, device.shared(values, buffer.width), 0, rowCount);
  return values;
}

/** The rows' place among a buffer's values. Throws (a Bug) where they are not all in it. */
export function placeOf(
  buffer: DeviceBuffer,
  startRow: number,
  dims: readonly number[],
): { start: number; count: number } {
  const start = startRow * buffer.width;
  const count = dims.reduce((a, b) => a * b, 1);
  assert(startRow >= 0 && start + count <= buffer.rowCount * buffer.width, "a tensor lies within its buffer");
  return { start, count };
}

/** Sessions of one provider, and what it could not run. */
export class Sessions {
  readonly #ort: Ort;
  readonly #provider: Provider | undefined;
  readonly #onTheCpu = new Set<string>();

  constructor(ort: Ort, provider?: Provider) {
    this.#ort = ort;
    this.#provider = provider;
  }

  get onTheCpu(): readonly string[] {
    return [...this.#onTheCpu].sort();
  }

  load(graph: string | Uint8Array): OrtSession {
    const session = this.#ort.session(graph, this.#provider);
    for (const operator of session.onTheCpu) this.#onTheCpu.add(operator);
    return session;
  }
}

/** A shared buffer is the same on every device. */
export function sharedBuffer(values: TensorArray, width: number): DeviceBuffer {
  assert(width > 0 && values.length % width === 0, "a buffer has whole rows");
  return { type: elementTypeOf(values), rowCount: values.length / width, width, values };
}

const ARRAYS = {
  f32: Float32Array,
  f16: Uint16Array,
  int8: Int8Array,
  uint8: Uint8Array,
  int32: Int32Array,
  int64: BigInt64Array,
} as const;

/** Bytes: a line of the processor's cache. */
const ALIGNMENT = 64;
const SLAB_BYTES_MAX = 64 << 20;
const SLAB_BUFFER_COUNT = 32;

/** The processor, or a provider that takes and gives the host's own memory: every buffer is ours. */
export class HostDevice implements Device {
  readonly kind: DeviceKind;
  readonly name: string;
  readonly attentionType = "f32";
  attentionRowCountMax = Number.MAX_SAFE_INTEGER;
  readonly #ort: Ort;
  readonly #sessions: Sessions;
  #slab = new ArrayBuffer(0);
  #taken = 0; // bytes of it

  constructor(ort: Ort, kind: DeviceKind, name: string, provider?: Provider) {
    this.#ort = ort;
    this.kind = kind;
    this.name = name;
    this.#sessions = new Sessions(ort, provider);
  }

  get onTheCpu(): readonly string[] {
    return this.#sessions.onTheCpu;
  }

  session(graph: string | Uint8Array): OrtSession {
    return this.#sessions.load(graph);
  }

  buffer(rowCount: number, width: number, type: ElementType = "f32"): DeviceBuffer {
    const valueCount = rowCount * width;
    const { slab, start } = this.#take(valueCount * ELEMENT_BYTES[type]);
    return { type, rowCount, width, values: new ARRAYS[type](slab, start, valueCount) };
  }

  /** PERF: each large ArrayBuffer makes the collector look through everything; a cache of keys and values has hundreds. */
  #take(sizeBytes: number): { slab: ArrayBuffer; start: number } {
    const start = Math.ceil(this.#taken / ALIGNMENT) * ALIGNMENT;
    if (start + sizeBytes <= this.#slab.byteLength) {
      this.#taken = start + sizeBytes;
      return { slab: this.#slab, start };
    }
    this.#slab = new ArrayBuffer(Math.max(sizeBytes, Math.min(SLAB_BYTES_MAX, SLAB_BUFFER_COUNT * sizeBytes)));
    this.#taken = sizeBytes;
    return { slab: this.#slab, start: 0 };
  }

  constant(values: Float32Array, width: number, type: "f32" | "f16" = "f32"): DeviceBuffer {
    assert(type === "f32", "attention on the host is f32");
    return sharedBuffer(values, width);
  }

  shared(values: TensorArray, width: number): DeviceBuffer {
    return sharedBuffer(values, width);
  }

  tensor(buffer: DeviceBuffer, startRow: number, dims: readonly number[]): OrtTensor {
    const { start, count } = placeOf(buffer, startRow, dims);
    return this.#ort.tensor(valuesOf(buffer).subarray(start, start + count), dims);
  }

  copyRows(from: DeviceBuffer, fromRow: number, to: DeviceBuffer, toRow: number, rowCount: number): void {
    const source = placeOf(from, fromRow, [rowCount, from.width]);
    const target = placeOf(to, toRow, [rowCount, from.width]);
    floatsOf(to).set(floatsOf(from).subarray(source.start, source.start + source.count), target.start);
  }

  close(): void {
    // Arrays go when nobody refers to them.
  }
}

const valuesOf = (buffer: DeviceBuffer): TensorArray => present(buffer.values, "the host's buffers have their values");

export function floatsOf(buffer: DeviceBuffer): Float32Array {
  const values = valuesOf(buffer);
  assert(values instanceof Float32Array, "rows that are copied are f32");
  return values;
}
