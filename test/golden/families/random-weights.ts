/**
 * Checkpoints whose weights are a rule instead of a file: an element follows from (seed, tensor name, index) alone, so
 * tens of models cost no megabytes in the tree. tools/goldens/random_weights.py states the function and computes the same
 * bits; `sample` in weights.json holds the first values of one tensor, so a disagreement shows before any logit does.
 */
import { copyFile, mkdtemp, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type BuiltTensor, safetensors } from "../../../shard-runtime/weights/checkpoint-builder.ts";

type FloatDtype = "F32" | "F16" | "BF16";

/** Name with lists in braces (`layers.{0,1}.`), shape, dtype; values lie evenly in [centre - spread, centre + spread). */
type Line = readonly [pattern: string, shape: readonly number[], dtype: FloatDtype, centre: number, spread: number];

export type RandomWeights = {
  readonly seed: number;
  readonly sample: { readonly name: string; readonly values: readonly number[] }; // as stored, widened
  readonly tensors: readonly Line[];
};

/** A temporary folder with the config.json of `directory` and the weights that its weights.json describes. */
export async function randomCheckpoint(directory: string): Promise<string> {
  const weights: RandomWeights = JSON.parse(await readFile(join(directory, "weights.json"), "utf8"));
  const folder = await mkdtemp(join(tmpdir(), "tessellate-random-"));
  await copyFile(join(directory, "config.json"), join(folder, "config.json"));
  await writeFile(join(folder, "model.safetensors"), safetensors(randomTensors(weights)));
  return folder;
}

/** Every tensor, in the order of the file. */
export function randomTensors({ seed, tensors }: RandomWeights): readonly BuiltTensor[] {
  return tensors.flatMap(([pattern, shape, dtype, centre, spread]) =>
    expanded(pattern).map((name) => {
      const count = shape.reduce((product, length) => product * length, 1);
      return { name, dtype, shape, bytes: rounded(randomValues(seed, name, count, centre, spread), dtype) };
    }),
  );
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
