/** Checkpoint dtypes to f32. All three widen exactly: every f16 and bf16 is an f32, not-a-numbers and subnormals too. */
import { assert, never } from "../../core/assert.ts";

export const READABLE_DTYPES = ["F32", "F16", "BF16"] as const;
export type ReadableDtype = (typeof READABLE_DTYPES)[number];

export const isReadable = (dtype: string): dtype is ReadableDtype =>
  READABLE_DTYPES.some((readable) => readable === dtype);

export const elementBytes = (dtype: ReadableDtype): number => (dtype === "F32" ? 4 : 2);

/**
 * Writes `count` elements of `bytes`, from byte `offset` on, to `out` from `at` on. `bytes` starts at offset 0 of its
 * buffer and `offset` is a multiple of the element's size.
 */
export function widen(
  dtype: ReadableDtype,
  bytes: Uint8Array,
  offset: number,
  out: Float32Array,
  at: number,
  count: number,
): void {
  assert(bytes.byteOffset === 0 && offset % elementBytes(dtype) === 0, "elements lie at multiples of their size");
  switch (dtype) {
    case "F32":
      out.set(new Float32Array(bytes.buffer, offset, count), at);
      return;
    case "BF16": {
      const from = new Uint16Array(bytes.buffer, offset, count);
      const bits = new Uint32Array(out.buffer, out.byteOffset + at * 4, count);
      for (let index = 0; index < count; index += 1) bits[index] = (from[index] ?? 0) << 16;
      return;
    }
    case "F16": {
      const from = new Uint16Array(bytes.buffer, offset, count);
      const bits = new Uint32Array(out.buffer, out.byteOffset + at * 4, count);
      for (let index = 0; index < count; index += 1) bits[index] = F16_BITS[from[index] ?? 0] ?? 0;
      return;
    }
    default:
      never(dtype);
  }
}

/** f32 bits of every f16 (IEEE 754 binary16: 1 sign, 5 exponent, 10 fraction bits). PERF: 256 KiB, in place of shifts per element. */
const F16_BITS = Uint32Array.from({ length: 1 << 16 }, (_, half) => {
  const sign = (half & 0x8000) << 16;
  const exponent = (half >> 10) & 31;
  const fraction = half & 0x3ff;
  if (exponent === 31) return sign | 0x7f800000 | (fraction << 13);
  if (exponent > 0) return sign | ((exponent + 112) << 23) | (fraction << 13);
  if (fraction === 0) return sign;
  const shift = Math.clz32(fraction) - 21; // a subnormal f16 is a normal f32
  return sign | ((113 - shift) << 23) | (((fraction << shift) & 0x3ff) << 13);
});

/** The value of every f16, by its bits. */
export const F16_VALUES = new Float32Array(F16_BITS.buffer);
