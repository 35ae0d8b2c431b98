/**
 * Checkpoints whose weights are a rule instead of a file: an element follows from (seed, tensor name, index) alone, so
 * tens of models cost no megabytes in the tree. tools/goldens/random_weights.py states the function and computes the same
 * bits; `sample` in weights.json holds the first values of one tensor, so a disagreement shows before any logit does.
 */
import { copyFile, mkdtemp, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { never } from "../../../core/assert.ts";
import { type BuiltTensor, safetensors } from "../../../shard-runtime/weights/checkpoint-builder.ts";

type FloatDtype = "F32" | "F16" | "BF16";

/** Codes of quantised tensors; what each kind means is told beside the same rules in Python. */
export type Rule =
  | { readonly kind: "bytes" | "e4m3"; readonly mask?: number; readonly plus?: number }
  | { readonly kind: "word"; readonly value: number }
  | { readonly kind: "from"; readonly first: number; readonly count: number }
  | { readonly kind: "steps"; readonly of: number }
  | { readonly kind: "values"; readonly values: readonly number[] }
  | {
      readonly kind: "blocks";
      readonly per: number; // values of a block
      readonly size: number; // its bytes
      readonly halves: readonly (readonly [offset: number, centre: number, spread: number])[];
      readonly exponents?: readonly (readonly [offset: number, first: number, count: number])[];
    };

/** Name with lists in braces (`layers.{0,1}.`), shape, dtype; values lie evenly in [centre - spread, centre + spread). */
type Line =
  | readonly [pattern: string, shape: readonly number[], dtype: FloatDtype, centre: number, spread: number]
  | readonly [pattern: string, shape: readonly number[], dtype: string, rule: Rule];

export type RandomWeights = {
  readonly seed: number;
  readonly sample:
    | { readonly name: string; readonly values: readonly number[] } // as stored, widened
    | { readonly role: string; readonly rows: readonly (readonly number[])[] }; // what quantised numbers mean
  readonly tensors: readonly Line[];
  readonly ggufHeader?: string; // base64; the data of the tensors follows, each padded
};

const GGUF_ALIGNMENT = 32;

/** A temporary folder with the config.json of `directory` and the weights that its weights.json describes. */
export async function randomCheckpoint(directory: string): Promise<string> {
  const weights: RandomWeights = JSON.parse(await readFile(join(directory, "weights.json"), "utf8"));
  const folder = await mkdtemp(join(tmpdir(), "tessellate-random-"));
  await copyFile(join(directory, "config.json"), join(folder, "config.json"));
  const tensors = randomTensors(weights);
  if (weights.ggufHeader === undefined) await writeFile(join(folder, "model.safetensors"), safetensors(tensors));
  else await writeFile(join(folder, "model.gguf"), gguf(weights.ggufHeader, tensors));
  return folder;
}

function gguf(header: string, tensors: readonly BuiltTensor[]): Uint8Array {
  const padding = (length: number) => new Uint8Array((GGUF_ALIGNMENT - (length % GGUF_ALIGNMENT)) % GGUF_ALIGNMENT);
  return Buffer.concat([
    Buffer.from(header, "base64"),
    ...tensors.flatMap(({ bytes }) => [bytes, padding(bytes.length)]),
  ]);
}

/** Every tensor, in the order of the file. */
export function randomTensors({ seed, tensors }: RandomWeights): readonly BuiltTensor[] {
  return tensors.flatMap((line) =>
    expanded(line[0]).map((name) => {
      const [, shape, dtype] = line;
      const count = shape.reduce((product, length) => product * length, 1);
      const bytes =
        line.length === 4
          ? ruledBytes(line[3], seed, name, count, dtype === "I32" ? 4 : 1)
          : rounded(randomValues(seed, name, count, line[3], line[4]), line[2]);
      return { name, dtype, shape, bytes };
    }),
  );
}

function ruledBytes(rule: Rule, seed: number, name: string, count: number, elementBytes: number): Uint8Array {
  const words = (values: Iterable<number>) => new Uint8Array(Uint32Array.from(values).buffer);
  switch (rule.kind) {
    case "values":
      return new Uint8Array(BigInt64Array.from(rule.values, BigInt).buffer);
    case "steps":
      return words(Array.from({ length: count }, (_, index) => Math.floor(index / rule.of)));
    case "word":
      return words(new Array<number>(count).fill(rule.value));
    case "bytes":
      return randomBytes(seed, name, count * elementBytes, rule.mask, rule.plus);
    case "e4m3": // the two not-a-numbers become the largest numbers
      return randomBytes(seed, name, count).map((code) => ((code & 127) === 127 ? code ^ 1 : code));
    case "from":
      return randomBytes(seed, name, count).map((byte) => rule.first + (byte % rule.count));
    case "blocks": {
      const blockCount = count / rule.per;
      const bytes = randomBytes(seed, name, blockCount * rule.size);
      for (const [offset, centre, spread] of rule.halves) {
        const halves = rounded(randomValues(seed, `${name}@${offset}`, blockCount, centre, spread), "F16");
        for (let block = 0; block < blockCount; block += 1)
          bytes.set(halves.subarray(block * 2, block * 2 + 2), block * rule.size + offset);
      }
      for (const [offset, first, choices] of rule.exponents ?? [])
        for (let at = offset; at < bytes.length; at += rule.size) bytes[at] = first + ((bytes[at] ?? 0) % choices);
      return bytes;
    }
    default:
      return never(rule);
  }
}

function randomBytes(seed: number, name: string, count: number, mask = 0xffffffff, plus = 0): Uint8Array {
  const words = randomBits(seed, name, Math.ceil(count / 4)).map((word) => (word & mask) + plus);
  return new Uint8Array(words.buffer, 0, count);
}

/** `count` values in storage order. */
export function randomValues(seed: number, name: string, count: number, centre: number, spread: number): Float32Array {
  const bits = randomBits(seed, name, count);
  const [centre32, spread32] = [Math.fround(centre), Math.fround(spread)];
  // The product of two f32 is exact in f64, and their sum rounds once: each step is what f32 arithmetic gives.
  return Float32Array.from(bits, (word) => centre32 + Math.fround(spread32 * ((word >>> 8) / 2 ** 23 - 1)));
}

export function randomBits(seed: number, name: string, count: number): Uint32Array {
  const key = keyOf(seed, name);
  return Uint32Array.from({ length: count }, (_, index) => mix(mix(index) ^ key));
}

/** FNV-1a. */
function keyOf(seed: number, name: string): number {
  let key = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(`${seed}/${name}`)) key = Math.imul(key ^ byte, 0x01000193);
  return key;
}

/** The last step of MurmurHash3. */
function mix(x: number): number {
  x ^= x >>> 16;
  x = Math.imul(x, 0x85ebca6b);
  x ^= x >>> 13;
  x = Math.imul(x, 0xc2b2ae35);
  return x ^ (x >>> 16);
}

/** Every name of a pattern, the last list running fastest. */
export function expanded(pattern: string): readonly string[] {
  const list = /\{([\d,]+)\}/.exec(pattern);
  if (list === null) return [pattern];
  const [braces, numbers = ""] = list;
  return numbers.split(",").flatMap((number) => expanded(pattern.replace(braces, number)));
}

/** As the dtype stores them, little-endian, ties to even. */
export function rounded(values: Float32Array, dtype: FloatDtype): Uint8Array {
  if (dtype === "F32") return new Uint8Array(values.buffer.slice(0));
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const toSixteenBits = dtype === "BF16" ? bfloat16Of : float16Of;
  return new Uint8Array(Uint16Array.from(words, toSixteenBits).buffer);
}

const bfloat16Of = (word: number): number => (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;

/** f16 bits of f32 bits, for finite values below 65,504; the small ones become subnormal. */
function float16Of(word: number): number {
  const sign = (word >>> 16) & 0x8000;
  const exponent = (word >>> 23) & 255;
  if (exponent < 102) return sign; // below half of the least subnormal
  const fraction = (word & 0x7fffff) | 0x800000;
  const shift = exponent > 112 ? 13 : 126 - exponent;
  const kept = fraction >>> shift;
  const rest = fraction & ((1 << shift) - 1);
  const half = 1 << (shift - 1);
  const up = rest > half || (rest === half && (kept & 1) === 1) ? 1 : 0;
  // A carry out of the fraction raises the exponent by itself, which is what rounding up to a power of two means.
  return sign | ((exponent > 112 ? (exponent - 113) << 10 : 0) + kept + up);
}
