import { assert } from "./assert.ts";

/** Half-open range of indexes, [start, end), 0-based. */
export type Range = { readonly start: number; readonly end: number };

/** Half-open range of transformer layers, [start, end), 0-based, never empty. */
export type LayerRange = Range;

export const lengthOf = (range: Range): number => range.end - range.start;

/**
 * Splits `count` things into one contiguous range per weight, in proportion to the weights, each at least `least`.
 * Largest remainder: the ranges cover [0, count) exactly and the result is a function of the arguments alone, so two
 * planners that see the same cluster agree.
 */
export function splitByWeights(count: number, weights: readonly number[], least = 1): readonly Range[] {
  assert(weights.length > 0 && weights.length * least <= count, "every part gets its least share");
  assert(
    weights.every((weight) => weight > 0),
    "weights are positive",
  );
  const spare = count - weights.length * least;
  const total = weights.reduce((a, b) => a + b, 0);
  const shares = weights.map((weight) => (weight * spare) / total);
  const counts = shares.map((share) => least + Math.floor(share));
  const byRemainder = shares
    .map((share, index) => ({ index, remainder: share - Math.floor(share) }))
    .sort((a, b) => b.remainder - a.remainder || a.index - b.index);
  let left = count - counts.reduce((a, b) => a + b, 0);
  for (const { index } of byRemainder) {
    if (left === 0) break;
    counts[index] = (counts[index] ?? 0) + 1;
    left -= 1;
  }
  let start = 0;
  return counts.map((length) => ({ start, end: (start += length) }));
}
