/**
 * Attention to check the library with, and what each case must give: in double precision, as a textbook has it, over keys
 * and values that were rounded to codes where the case says so.
 */
import { present } from "../../../core/assert.ts";
import { CODES_PER_SCALE, type KvDtype } from "../../../core/kv-cache.ts";
import { aModelConfig } from "../../../core/model-config-fixture.ts";
import type { ModelConfig } from "../../../core/model-config.ts";
import { type Slice, cutSlices } from "../../../core/slice.ts";

export type AttentionCase = {
  readonly rows: number;
  readonly capacity: number; // positions of the cache: at least rows, or with a window what keptPositions says
  readonly kvDtype: KvDtype;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headSize: number; // a multiple of 16
  readonly turns: boolean;
  readonly window?: number;
  readonly softcap?: number;
  readonly sinks: boolean;
};

export const configOf = ({ heads, kvHeads, headSize, turns, window, softcap, sinks }: AttentionCase): ModelConfig =>
  aModelConfig({
    headCount: heads,
    kvHeadCount: kvHeads,
    headSize,
    sinks,
    ...(softcap === undefined ? {} : { attentionSoftcap: softcap }),
    attentionKinds: [
      {
        ...(turns ? { rope: { theta: 100, rotarySize: headSize, scaling: { kind: "none" } } } : {}),
        ...(window === undefined ? {} : { window }),
      },
    ],
  });

export const sliceOf = (given: AttentionCase): Slice => present(cutSlices(configOf(given), [1])[0], "one slice");

export type AttentionInputs = {
  readonly qkv: Float32Array; // [rows, heads + 2 × kvHeads, headSize]
  readonly cosine: Float32Array; // [rows, headSize / 2]
  readonly sine: Float32Array;
  readonly sinks: Float32Array; // [heads]
};

export function inputsOf({ rows, heads, kvHeads, headSize }: AttentionCase): AttentionInputs {
  let state = rows * 7919 + headSize;
  const next = (scale: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return (state / 2 ** 32 - 0.5) * scale;
  };
  const qkv = Float32Array.from({ length: rows * (heads + 2 * kvHeads) * headSize }, () => next(4));
  const angles = Float32Array.from({ length: rows * (headSize / 2) }, (_, index) => {
    const [position, pair] = [Math.floor(index / (headSize / 2)), index % (headSize / 2)];
    return position * 100 ** ((-2 * pair) / headSize);
  });
  const sinks = Float32Array.from({ length: heads }, () => next(4));
  return { qkv, cosine: angles.map(Math.cos), sine: angles.map(Math.sin), sinks };
}

/**
 * What numbers are when they were kept as codes: for each group scale = largest |x| / 127, code = x / scale to the nearest
 * whole number, half to even; then code × scale. Every operation in single precision.
 */
export function asKept(values: readonly number[]): readonly number[] {
  const groups = Array.from({ length: Math.ceil(values.length / CODES_PER_SCALE) }, (_, group) =>
    values.slice(group * CODES_PER_SCALE, (group + 1) * CODES_PER_SCALE),
  );
  return groups.flatMap((group) => {
    const scale = Math.fround(Math.max(...group.map(Math.abs)) / 127);
    if (scale === 0) return group.map(() => 0);
    return group.map((value) => Math.fround(toEven(Math.fround(value / scale)) * scale));
  });
}

function toEven(value: number): number {
  const below = Math.floor(value);
  const above = value - below;
  if (above === 0.5) return below % 2 === 0 ? below : below + 1;
  return above < 0.5 ? below : below + 1;
}

/** [rows, heads × headSize] */
export function expectedOf(given: AttentionCase): Float64Array {
  const { rows, heads, kvHeads, headSize, turns, window = Number.POSITIVE_INFINITY, softcap, sinks } = given;
  const inputs = inputsOf(given);
  const half = headSize / 2;
  const headAt = (row: number, head: number): Float32Array => {
    const start = (row * (heads + 2 * kvHeads) + head) * headSize;
    return inputs.qkv.subarray(start, start + headSize);
  };
  const turned = (row: number, head: number): readonly number[] => {
    const values = [...headAt(row, head)];
    if (!turns) return values;
    return values.map((value, index) => {
      const pair = index % half;
      const [cos, sin] = [inputs.cosine[row * half + pair] ?? 0, inputs.sine[row * half + pair] ?? 0];
      const other = values[(index + half) % headSize] ?? 0;
      const [turned, added] = [Math.fround(value * cos), Math.fround(other * sin)];
      return Math.fround(index < half ? turned - added : turned + added);
    });
  };
  const kept = (values: readonly number[]) => (given.kvDtype === "int8" ? asKept(values) : values);
  const out = new Float64Array(rows * heads * headSize);
  for (let head = 0; head < heads; head += 1) {
    const kvHead = Math.floor((head * kvHeads) / heads);
    const keys = Array.from({ length: rows }, (_, row) => kept(turned(row, heads + kvHead)));
    const values = Array.from({ length: rows }, (_, row) => kept([...headAt(row, heads + kvHeads + kvHead)]));
    for (let row = 0; row < rows; row += 1) {
      const query = turned(row, head);
      const first = Math.max(0, row + 1 - window);
      const scores = keys.slice(first, row + 1).map((key) => {
        const score = key.reduce((sum, value, index) => sum + value * (query[index] ?? 0), 0) / Math.sqrt(headSize);
        return softcap === undefined ? score : softcap * Math.tanh(score / softcap);
      });
      const sink = sinks ? [inputs.sinks[head] ?? 0] : [];
      const top = Math.max(...scores, ...sink);
      const total = [...scores, ...sink].reduce((sum, score) => sum + Math.exp(score - top), 0);
      for (const [index, score] of scores.entries()) {
        for (const [at, value] of present(values[first + index], "a value for each row").entries()) {
          const place = (row * heads + head) * headSize + at;
          out[place] = (out[place] ?? 0) + (Math.exp(score - top) / total) * value;
        }
      }
    }
  }
  return out;
}
