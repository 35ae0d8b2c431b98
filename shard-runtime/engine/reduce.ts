/**
 * The sum over the ranks of a segment. Floating-point addition is not associative, so every rank adds in the same order,
 * that of the ranks, and rounds to f32 after each: then all go on with the same bits, wherever they run.
 */
import { assert } from "../../core/assert.ts";

/** Writes partials[0] + partials[1] + … to `target`, which may be one of them. All have the same length. */
export function sumInRankOrder(partials: readonly Float32Array[], target: Float32Array): void {
  assert(
    partials.every((partial) => partial.length === target.length),
    "partial sums have one length",
  );
  for (let i = 0; i < target.length; i += 1) {
    let sum = partials[0]?.[i] ?? 0;
    for (let rank = 1; rank < partials.length; rank += 1) sum = Math.fround(sum + (partials[rank]?.[i] ?? 0));
    target[i] = sum;
  }
}
