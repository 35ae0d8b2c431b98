/**
 * The header of a safetensors file: 8 bytes little-endian length N, N bytes of JSON, then tensor data without holes.
 * Held to the format's own rules (github.com/huggingface/safetensors, "Format"): offsets follow from shape and dtype,
 * tile the data exactly and end where the file ends. A header that lies is refused, naming file and tensor, before a
 * byte of data is read.
 */
import { isJsonObject, parseJson, shown } from "../../core/json.ts";
import type { Range } from "../../core/ranges.ts";
import { type Result, ok, refuse } from "../../core/result.ts";

export const LENGTH_BYTES = 8;
/** The format's own limit. */
const HEADER_BYTES_MAX = 100_000_000;

/** Bits per element of every dtype that the format knows. */
export const DTYPE_BITS: Readonly<Record<string, number>> = {
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  BOOL: 8,
  I8: 8,
  U8: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  I64: 64,
  U64: 64,
  F64: 64,
  C64: 64,
};

export type TensorEntry = {
  readonly name: string;
  readonly path: string; // of its file
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: Range; // within the file
};

export type HeaderCode = "MalformedTensors";

const malformed = (path: string, detail: string) =>
  refuse(
    "MalformedTensors",
    `${path}: ${detail}; the file is damaged or was written wrongly, fetch or export it again`,
  );

/** Bytes of the JSON header, from the file's first eight bytes. */
export function headerBytesOf(path: string, first: Uint8Array, fileBytes: number): Result<number, HeaderCode> {
  if (first.length < LENGTH_BYTES) return malformed(path, `has ${fileBytes} bytes, too few for a safetensors header`);
  const length = Number(new DataView(first.buffer, first.byteOffset).getBigUint64(0, true));
  if (length > HEADER_BYTES_MAX)
    return malformed(path, `header length says ${length} bytes, the limit is ${HEADER_BYTES_MAX}`);
  if (length < 2 || length > fileBytes - LENGTH_BYTES)
    return malformed(path, `header length says ${length} bytes, the file has ${fileBytes - LENGTH_BYTES} after it`);
  return ok(length);
}

/** The tensors of a file of `fileBytes` bytes, by name. */
export function parseTensors(
  path: string,
  header: Uint8Array,
  fileBytes: number,
): Result<ReadonlyMap<string, TensorEntry>, HeaderCode> {
  const text = decodeUtf8(header);
  const json = text?.startsWith("{") === true ? parseJson(text) : undefined;
  if (!isJsonObject(json)) return malformed(path, "the header is no JSON object");
  const dataStart = LENGTH_BYTES + header.length;
  const tensors: TensorEntry[] = [];
  for (const [name, entry] of Object.entries(json)) {
    if (name === "__metadata__") {
      if (isJsonObject(entry) && Object.values(entry).every((value) => typeof value === "string")) continue;
      return malformed(path, "__metadata__ is not a map of texts");
    }
    const tensor = tensorOf(path, name, entry, dataStart);
    if (typeof tensor === "string") return malformed(path, `tensor ${shown(name)}: ${tensor}`);
    tensors.push(tensor);
  }
  const untiled = whereUntiled(tensors, dataStart, fileBytes);
  return untiled === undefined ? ok(new Map(tensors.map((tensor) => [tensor.name, tensor]))) : malformed(path, untiled);
}

/** The tensor, or what is wrong with its entry. */
function tensorOf(path: string, name: string, entry: unknown, dataStart: number): TensorEntry | string {
  if (!isJsonObject(entry)) return `is ${shown(entry)}, expected an object`;
  const { dtype, shape, data_offsets: offsets } = entry;
  const bits = typeof dtype === "string" && Object.hasOwn(DTYPE_BITS, dtype) ? DTYPE_BITS[dtype] : undefined;
  if (typeof dtype !== "string" || bits === undefined)
    return `dtype is ${shown(dtype)}, which the format does not know`;
  if (!Array.isArray(shape) || !shape.every(isCount))
    return `shape is ${shown(shape)}, expected a list of whole numbers`;
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount))
    return `data_offsets is ${shown(offsets)}, expected two whole numbers`;
  const [start = 0, end = 0]: readonly number[] = offsets;
  const elementCount = shape.reduce((product: number, length: number) => product * length, 1);
  const sizeBytes = (elementCount * bits) / 8;
  if (!Number.isSafeInteger(sizeBytes) || end - start !== sizeBytes)
    return `data_offsets ${shown(offsets)} hold ${end - start} bytes, but ${dtype} ${shown(shape)} takes ${sizeBytes}`;
  return { name, path, dtype, shape, bytes: { start: dataStart + start, end: dataStart + end } };
}

/** The first place where tensors overlap, leave a hole, or do not end where the file ends. */
function whereUntiled(tensors: readonly TensorEntry[], dataStart: number, fileBytes: number): string | undefined {
  let at = dataStart;
  let before = "the header";
  for (const { name, bytes } of tensors.toSorted(
    (a, b) => a.bytes.start - b.bytes.start || a.bytes.end - b.bytes.end,
  )) {
    if (bytes.start < at) return `tensor ${shown(name)}: data_offsets overlap ${before}`;
    if (bytes.start > at)
      return `tensor ${shown(name)}: data_offsets leave a hole of ${bytes.start - at} bytes after ${before}`;
    at = bytes.end;
    before = `tensor ${shown(name)}`;
  }
  return at === fileBytes ? undefined : `the tensors end at byte ${at}, the file at ${fileBytes}`;
}

const isCount = (value: unknown): value is number =>
  typeof value === "number" && Number.isSafeInteger(value) && value >= 0;

function decodeUtf8(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}
