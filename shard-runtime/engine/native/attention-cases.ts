/** Attention to check the library with, and what each case must give: in double precision, as a textbook has it. */
import { present } from "../../../core/assert.ts";
import { aModelConfig } from "../../../core/model-config-fixture.ts";
import type { ModelConfig } from "../../../core/model-config.ts";
import { type Slice, cutSlices } from "../../../core/slice.ts";

export type AttentionCase = {
  readonly rows: number;
  readonly capacity: number; // positions of the cache, at least rows
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
  readonly cosine: Float32Array; // [capacity, headSize / 2]
  readonly sine: Float32Array;
  readonly sinks: Float32Array; // [heads]
};

export function inputsOf({ rows, capacity, heads, kvHeads, headSize }: AttentionCase): AttentionInputs {
  let state = rows * 7919 + headSize;
  const next = (scale: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return (state / 2 ** 32 - 0.5) * scale;
  };
  const qkv = Float32Array.from({ length: rows * (heads + 2 * kvHeads) * headSize }, () => next(4));
  const angles = Float32Array.from({ length: capacity * (headSize / 2) }, (_, index) => {
    const [position, pair] = [Math.floor(index / (headSize / 2)), index % (headSize / 2)];
    return position * 100 ** ((-2 * pair) / headSize);
  });
  const sinks = Float32Array.from({ length: heads }, () => next(4));
  return { qkv, cosine: angles.map(Math.cos), sine: angles.map(Math.sin), sinks };
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
      return index < half ? value * cos - other * sin : value * cos + other * sin;
    });
  };
  const out = new Float64Array(rows * heads * headSize);
  for (let head = 0; head < heads; head += 1) {
    const kvHead = Math.floor((head * kvHeads) / heads);
    const keys = Array.from({ length: rows }, (_, row) => turned(row, heads + kvHead));
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
        const values = headAt(first + index, heads + kvHeads + kvHead);
        for (const [at, value] of values.entries()) {
          const place = (row * heads + head) * headSize + at;
          out[place] = (out[place] ?? 0) + (Math.exp(score - top) / total) * value;
        }
      }
    }
  }
  return out;
}
