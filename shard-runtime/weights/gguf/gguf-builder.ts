/** Small GGUF files for tests. */
import type { GgufValue } from "./header.ts";

export type GgufTensor = {
  readonly name: string;
  readonly type: number; // GGUF's own number of the type
  readonly shape: readonly number[]; // outputs first
  readonly bytes: Uint8Array;
};

const ALIGNMENT = 32;

/** A file of version 3, as llama.cpp takes it. Whole numbers are written as u32 (in lists i32), others as f32. */
export function aGguf(file: {
  readonly metadata: Readonly<Record<string, GgufValue>>;
  readonly tensors: readonly GgufTensor[];
}): Uint8Array {
  const keys = Object.entries(file.metadata);
  const parts = [Buffer.from("GGUF"), u32(3), u64(file.tensors.length), u64(keys.length)];
  for (const [key, value] of keys) parts.push(text(key), valueBytes(value));
  let offset = 0;
  for (const { name, type, shape, bytes } of file.tensors) {
    parts.push(text(name), u32(shape.length), ...shape.toReversed().map(u64), u32(type), u64(offset));
    offset += padded(bytes).length;
  }
  const header = padded(Buffer.concat(parts));
  const data = file.tensors.map(({ bytes }, at) => (at === file.tensors.length - 1 ? bytes : padded(bytes)));
  return new Uint8Array(Buffer.concat([header, ...data]));
}

function padded(bytes: Uint8Array): Uint8Array {
  const out = new Uint8Array(Math.ceil(bytes.length / ALIGNMENT) * ALIGNMENT);
  out.set(bytes);
  return out;
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

function f32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return bytes;
}

const text = (value: string): Buffer => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)]);

function valueBytes(value: GgufValue): Buffer {
  if (typeof value !== "object") return Buffer.concat([u32(typeOf(value)), scalar(value)]);
  const [first = 0] = value;
  const isWhole = value.every((each) => typeof each !== "number" || Number.isInteger(each));
  const type = typeof first === "number" ? (isWhole ? 5 : 6) : typeOf(first);
  return Buffer.concat([u32(9), u32(type), u64(value.length), ...value.map((each) => scalar(each, type))]);
}

function typeOf(value: number | boolean | string): number {
  if (typeof value === "string") return 8;
  if (typeof value === "boolean") return 7;
  return Number.isInteger(value) ? 4 : 6;
}

function scalar(value: number | boolean | string, type = typeOf(value)): Buffer {
  if (typeof value === "string") return text(value);
  if (typeof value === "boolean") return Buffer.from([value ? 1 : 0]);
  return type === 6 ? f32(value) : u32(value >>> 0);
}
