/**
 * Weights as small unsigned integers of which neighbouring inputs of one output share a scale and a zero point: what
 * GPTQ, AWQ and compressed-tensors store, each in its own order. Unpacked they are all the same.
 */
import { lengthOf } from "../../../core/ranges.ts";
import type { TensorBlocks } from "../../engine/tensor-source.ts";
import type { TensorEntry } from "../safetensors.ts";
import { isReadable, widen } from "../widen.ts";
import { type Encoding, type Rect, type TensorLookup, type Window, refusal } from "./encoding.ts";

/** Of a rectangle of outputs × inputs: a value is (integer - zero point) × scale of its group. */
export type GroupedIntegers = {
  readonly bits: 4 | 8;
  readonly integers: Uint8Array; // [outputs, inputs]
  readonly zeroPoints: Uint8Array; // [outputs, groups]
  readonly scales: Float32Array; // [outputs, groups]
  readonly groupOf: Uint32Array; // [inputs]
};

export interface PackedIntegers {
  readonly scattered: boolean;
  windows(rect: Rect): readonly Window[];
  unpack(rect: Rect, raw: readonly Uint8Array[]): GroupedIntegers;
}

/** `inputCount` is the whole tensor's. */
export const integerEncoding = (packed: PackedIntegers, inputCount: number): Encoding => ({
  transposed: false,
  scattered: packed.scattered,
  windows: (rect) => packed.windows(rect),
  decode: (rect, raw) => valuesOf(packed.unpack(rect, raw)),
  blocks: (rect, raw) => blocksOf(packed.unpack(rect, raw), rect, inputCount),
});

export function valuesOf({ integers, zeroPoints, scales, groupOf }: GroupedIntegers): Float32Array {
  const inputCount = groupOf.length;
  const out = new Float32Array(integers.length);
  const outputCount = inputCount === 0 ? 0 : integers.length / inputCount;
  const groupCount = outputCount === 0 ? 0 : scales.length / outputCount;
  const runs = runsOf(groupOf);
  for (let output = 0, at = 0; output < outputCount; output += 1)
    for (const { group, count } of runs) {
      const zero = zeroPoints[output * groupCount + group] ?? 0;
      const scale = scales[output * groupCount + group] ?? 0;
      for (const end = at + count; at < end; at += 1) out[at] = ((integers[at] ?? 0) - zero) * scale;
    }
  return out;
}

/** Neighbouring inputs of one group. */
function runsOf(groupOf: Uint32Array): readonly { readonly group: number; readonly count: number }[] {
  const runs: { group: number; count: number }[] = [];
  for (const group of groupOf) {
    const last = runs.at(-1);
    if (last?.group === group) last.count += 1;
    else runs.push({ group, count: 1 });
  }
  return runs;
}

const BLOCK_SIZES = [128, 64, 32, 16] as const;

/**
 * The same numbers in blocks: the longest that no group's end and no end of the rectangle cuts. A group of several blocks
 * gives each of them its scale. Undefined where there are none, or a zero point does not fit into the bits.
 */
export function blocksOf(grouped: GroupedIntegers, { columns }: Rect, inputCount: number): TensorBlocks | undefined {
  const { bits, integers, zeroPoints, scales, groupOf } = grouped;
  const width = lengthOf(columns);
  const blockSize = BLOCK_SIZES.find(
    (size) => inputCount % size === 0 && columns.start % size === 0 && width % size === 0 && isConstant(groupOf, size),
  );
  if (blockSize === undefined || width === 0 || zeroPoints.some((zero) => zero >= 1 << bits)) return undefined;
  const outputCount = integers.length / width;
  const groupCount = scales.length / outputCount;
  const blockCount = width / blockSize;
  const blockScales = new Float32Array(outputCount * blockCount);
  const zeroBytes = Math.ceil((blockCount * bits) / 8);
  const blockZeros = new Uint8Array(outputCount * zeroBytes);
  for (let output = 0; output < outputCount; output += 1)
    for (let block = 0; block < blockCount; block += 1) {
      const group = output * groupCount + (groupOf[block * blockSize] ?? 0);
      blockScales[output * blockCount + block] = scales[group] ?? 0;
      const at = output * zeroBytes + Math.floor((block * bits) / 8);
      const zero = zeroPoints[group] ?? 0;
      blockZeros[at] = (blockZeros[at] ?? 0) | (bits === 4 && block % 2 === 1 ? zero << 4 : zero);
    }
  const values = bits === 8 ? integers : nibblePairs(integers);
  const isCentred = zeroPoints.every((zero) => zero === 1 << (bits - 1));
  return { bits, blockSize, values, scales: blockScales, ...(isCentred ? {} : { zeroPoints: blockZeros }) };
}

/** Whether inputs of one block are always of one group. */
function isConstant(groupOf: Uint32Array, blockSize: number): boolean {
  for (let input = 0; input < groupOf.length; input += 1)
    if (groupOf[input] !== groupOf[input - (input % blockSize)]) return false;
  return true;
}

/** Two 4-bit values to a byte, the earlier one low. */
export function nibblePairs(values: Uint8Array): Uint8Array {
  const pairs = new Uint8Array(values.length / 2);
  for (let index = 0; index < pairs.length; index += 1)
    pairs[index] = (values[2 * index] ?? 0) | ((values[2 * index + 1] ?? 0) << 4);
  return pairs;
}

/** The entry of a tensor that must be there with this dtype and one of these shapes. Throws RefusalError. */
export async function partOf(
  lookup: TensorLookup,
  name: string,
  dtypes: readonly string[],
  ...shapes: readonly (readonly number[])[]
): Promise<TensorEntry> {
  const entry = await optionalPartOf(lookup, name, dtypes, ...shapes);
  if (entry !== undefined) return entry;
  throw refusal("MissingTensor", `${lookup.missing(name)}; its neighbours say that it must be there`);
}

/** As {@link partOf}, or undefined where there is none. */
export async function optionalPartOf(
  lookup: TensorLookup,
  name: string,
  dtypes: readonly string[],
  ...shapes: readonly (readonly number[])[]
): Promise<TensorEntry | undefined> {
  const entry = await lookup.find(name);
  if (entry === undefined) return undefined;
  if (!dtypes.includes(entry.dtype))
    throw refusal(
      "UnsupportedDtype",
      `${lookup.where(entry)} has dtype ${entry.dtype}, expected ${dtypes.join(" or ")} after quantization_config; use the unquantised checkpoint`,
    );
  if (!shapes.some((shape) => String(shape) === String(entry.shape)))
    throw refusal(
      "WrongShape",
      `${lookup.where(entry)} has shape [${entry.shape.join(",")}], expected [${(shapes[0] ?? []).join(",")}] after config.json; the two are not of one model`,
    );
  return entry;
}

export const FLOATS = ["F16", "BF16", "F32"] as const;

/** All of a window's floats as f32. */
export function floatsOf({ dtype, name }: TensorEntry, raw: Uint8Array): Float32Array {
  if (!isReadable(dtype)) throw refusal("UnsupportedDtype", `tensor ${name} has dtype ${dtype}`);
  const out = new Float32Array(raw.length / (dtype === "F32" ? 4 : 2));
  widen(dtype, raw, 0, out, 0, out.length);
  return out;
}

/** 32-bit words of bytes at offset 0 of their buffer. */
export const wordsOf = (raw: Uint8Array): Uint32Array => new Uint32Array(raw.buffer, raw.byteOffset, raw.length / 4);

/**
 * The group of each input of `rect`, from an index that a checkpoint brings. Throws RefusalError `MalformedTensors`: an
 * index beyond the groups would read another output's scale.
 */
export function groupsFrom(where: string, raw: Uint8Array, groupCount: number): Uint32Array {
  const groupOf = wordsOf(raw);
  const beyond = groupOf.find((group) => group >= groupCount);
  if (beyond === undefined) return groupOf;
  throw refusal(
    "MalformedTensors",
    `${where} names group ${beyond} of ${groupCount}; the file was written wrongly, fetch or export it again`,
  );
}

/** The group of each input where neighbours share one. */
export const groupsOfNeighbours = ({ columns }: Rect, groupSize: number): Uint32Array =>
  Uint32Array.from({ length: lengthOf(columns) }, (_, index) => Math.floor((columns.start + index) / groupSize));
