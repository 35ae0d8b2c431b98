/**
 * The header of a GGUF file: metadata and where each tensor lies (github.com/ggml-org/ggml, docs/gguf.md). Comes from
 * anywhere, so every count and length is held against the bytes there are before anything is made for it.
 */
import { shown } from "../../../core/json.ts";
import { type Result, ok, refuse } from "../../../core/result.ts";
import type { TensorEntry } from "../safetensors.ts";
import { nameOfUnread, sizesOfType } from "./block-types.ts";

/** Real ones are under 20 MiB, nearly all of it vocabulary. */
export const GGUF_HEADER_BYTES_MAX = 128 << 20;
/** Attacker: a list of single bytes takes eight times as much here as in the file. Real ones have under two million. */
const LISTED_COUNT_MAX = 8 << 20;
const TENSOR_COUNT_MAX = 1_000_000;
const KEY_COUNT_MAX = 100_000;
const AXIS_COUNT_MAX = 4;
const ALIGNMENT_MAX = 1 << 20;

export type GgufValue = number | boolean | string | readonly number[] | readonly boolean[] | readonly string[];

export type GgufHeader = {
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: ReadonlyMap<string, TensorEntry>; // shapes as in safetensors: outputs first
};

/**
 * The header, or "short" where `bytes`, the file's first, end before it does. `where` names the file. Refused as
 * MalformedTensors, with what is wrong.
 */
export function parseGgufHeader(
  where: string,
  path: string,
  bytes: Uint8Array,
  fileBytes: number,
): Result<GgufHeader | "short", "MalformedTensors"> {
  const cursor = new Cursor(bytes, fileBytes);
  try {
    return ok(readHeader(path, cursor, fileBytes));
  } catch (error) {
    if (error instanceof Short) return ok("short");
    if (!(error instanceof Malformed)) throw error;
    return refuse(
      "MalformedTensors",
      `${where}: ${error.message}; the file is damaged or was written wrongly, fetch or export it again`,
    );
  }
}

class Short extends Error {}
class Malformed extends Error {}

class Cursor {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #fileBytes: number;
  at = 0;
  listedCount = 0; // of all lists

  constructor(bytes: Uint8Array, fileBytes: number) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#fileBytes = fileBytes;
  }

  /** The place of the next `count` bytes, which are then behind. */
  take(count: number, what: string): number {
    const { at } = this;
    if (at + count > this.#fileBytes)
      throw new Malformed(`${what} takes ${count} bytes at byte ${at}, but the file ends at ${this.#fileBytes}`);
    if (at + count > this.#bytes.length) throw new Short();
    this.at += count;
    return at;
  }

  u32(what: string): number {
    return this.#view.getUint32(this.take(4, what), true);
  }

  /** A 64-bit count or offset that a double holds. */
  u64(what: string): number {
    const value = Number(this.#view.getBigUint64(this.take(8, what), true));
    if (!Number.isSafeInteger(value)) throw new Malformed(`${what} is ${value}, beyond every file`);
    return value;
  }

  text(what: string): string {
    const length = this.u64(`the length of ${what}`);
    const at = this.take(length, what);
    return new TextDecoder().decode(this.#bytes.subarray(at, at + length));
  }

  number(type: number, what: string): number {
    const { read, size } = NUMBERS[type] ?? { read: undefined, size: 0 };
    if (read === undefined) throw new Malformed(`${what} has the type ${type}, which the format does not know`);
    return read(this.#view, this.take(size, what));
  }
}

type ReadNumber = (view: DataView, at: number) => number;

/** Types of metadata that are numbers; 7 is a truth value, 8 a text, 9 a list. */
const NUMBERS: Readonly<Record<number, { readonly size: number; readonly read: ReadNumber }>> = {
  0: { size: 1, read: (view, at) => view.getUint8(at) },
  1: { size: 1, read: (view, at) => view.getInt8(at) },
  2: { size: 2, read: (view, at) => view.getUint16(at, true) },
  3: { size: 2, read: (view, at) => view.getInt16(at, true) },
  4: { size: 4, read: (view, at) => view.getUint32(at, true) },
  5: { size: 4, read: (view, at) => view.getInt32(at, true) },
  6: { size: 4, read: (view, at) => view.getFloat32(at, true) },
  7: { size: 1, read: (view, at) => view.getUint8(at) },
  10: { size: 8, read: (view, at) => Number(view.getBigUint64(at, true)) },
  11: { size: 8, read: (view, at) => Number(view.getBigInt64(at, true)) },
  12: { size: 8, read: (view, at) => view.getFloat64(at, true) },
};
const BOOLEAN = 7;
const TEXT = 8;
const LIST = 9;

function readHeader(path: string, cursor: Cursor, fileBytes: number): GgufHeader {
  if (cursor.u32("the magic number") !== 0x46554747) throw new Malformed(`does not begin with "GGUF"`);
  const version = cursor.u32("the version");
  if (version !== 2 && version !== 3) throw new Malformed(`version is ${version}, read are 2 and 3 (little-endian)`);
  const tensorCount = countOf(cursor, "tensors", TENSOR_COUNT_MAX);
  const keyCount = countOf(cursor, "keys", KEY_COUNT_MAX);
  const metadata = new Map<string, GgufValue>();
  for (let index = 0; index < keyCount; index += 1) {
    const key = cursor.text(`key ${index}`);
    metadata.set(key, readValue(cursor, shown(key)));
  }
  const infos: TensorInfo[] = [];
  for (let index = 0; index < tensorCount; index += 1) infos.push(readInfo(cursor, index));
  const alignment = metadata.get("general.alignment") ?? 32;
  if (typeof alignment !== "number" || !(alignment >= 1 && alignment <= ALIGNMENT_MAX) || alignment % 1 !== 0)
    throw new Malformed(`general.alignment is ${shown(alignment)}`);
  const dataStart = Math.ceil(cursor.at / alignment) * alignment;
  return { metadata, tensors: placed(path, infos, dataStart, fileBytes) };
}

function countOf(cursor: Cursor, what: string, max: number): number {
  const count = cursor.u64(`the number of ${what}`);
  if (count > max) throw new Malformed(`has ${count} ${what}, at most ${max} are read`);
  return count;
}

function readValue(cursor: Cursor, key: string): GgufValue {
  const type = cursor.u32(`the type of ${key}`);
  if (type === TEXT) return cursor.text(key);
  if (type !== LIST) return type === BOOLEAN ? cursor.number(type, key) !== 0 : cursor.number(type, key);
  const of = cursor.u32(`the type of ${key}`);
  const length = cursor.u64(`the length of ${key}`);
  cursor.listedCount += length;
  if (cursor.listedCount > LISTED_COUNT_MAX)
    throw new Malformed(`with ${key}, a list of ${length}, more than ${LISTED_COUNT_MAX} values are listed`);
  const list = <T>(read: () => T): readonly T[] => {
    const values: T[] = [];
    for (let index = 0; index < length; index += 1) values.push(read());
    return values;
  };
  if (of === TEXT) return list(() => cursor.text(key));
  if (of === BOOLEAN) return list(() => cursor.number(of, key) !== 0);
  return list(() => cursor.number(of, key));
}

type TensorInfo = {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: string;
  readonly offset: number;
  readonly sizeBytes: number | undefined; // undefined: a type that is not read
};

function readInfo(cursor: Cursor, index: number): TensorInfo {
  const name = cursor.text(`the name of tensor ${index}`);
  const what = `tensor ${shown(name)}`;
  const axisCount = cursor.u32(`the axes of ${what}`);
  if (axisCount > AXIS_COUNT_MAX)
    throw new Malformed(`${what} has ${axisCount} axes, at most ${AXIS_COUNT_MAX} are read`);
  const lengths = Array.from({ length: axisCount }, () => cursor.u64(`the shape of ${what}`));
  const type = cursor.u32(`the type of ${what}`);
  const offset = cursor.u64(`the offset of ${what}`);
  const sizes = sizesOfType(type);
  const valueCount = lengths.reduce((product, length) => product * length, 1);
  const shape = lengths.toReversed();
  if (sizes === undefined) return { name, shape, dtype: nameOfUnread(type), offset, sizeBytes: undefined };
  const sizeBytes = (valueCount / sizes.valueCount) * sizes.byteCount;
  if ((lengths[0] ?? 1) % sizes.valueCount !== 0 || !Number.isSafeInteger(sizeBytes))
    throw new Malformed(`${what} has shape ${shown(shape)}, whose rows are no whole blocks of ${sizes.valueCount}`);
  return { name, shape, dtype: sizes.name, offset, sizeBytes };
}

/** The tensors within the file: none reaches into the next, none beyond the end. */
function placed(
  path: string,
  infos: readonly TensorInfo[],
  dataStart: number,
  fileBytes: number,
): ReadonlyMap<string, TensorEntry> {
  const tensors = new Map<string, TensorEntry>();
  const sorted = infos.toSorted((a, b) => a.offset - b.offset);
  for (const [index, { name, shape, dtype, offset, sizeBytes }] of sorted.entries()) {
    const start = dataStart + offset;
    const next = sorted[index + 1];
    const limit = next === undefined ? fileBytes : dataStart + next.offset;
    const end = start + (sizeBytes ?? Math.max(0, limit - start));
    const what = `tensor ${shown(name)}`;
    if (tensors.has(name)) throw new Malformed(`${what} is there twice`);
    if (end > limit)
      throw new Malformed(
        next === undefined
          ? `${what} ends at byte ${end}, the file at ${fileBytes}`
          : `${what} reaches into tensor ${shown(next.name)}`,
      );
    tensors.set(name, { name, path, dtype, shape, bytes: { start, end } });
  }
  return tensors;
}
