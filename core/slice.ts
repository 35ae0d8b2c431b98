/**
 * How the ranks of one tensor-parallel segment share each layer: query heads, FFN columns and vocabulary rows, in any
 * uneven proportion. Planner (bytes) and engine (tensors) call the same functions, so what was planned is what is loaded.
 */
import type { Range } from "./ranges.ts";

/** One rank's part of every layer of its segment. */
export type Slice = {
  readonly rankIndex: number;
  readonly rankCount: number;
  readonly heads: Range; // query heads
  /**
   * The model's KV head behind each KV head that this rank holds, in order. Query head `heads.start + i` reads local KV
   * head `floor(i / headsPerKvHead)`. One appears twice where a rank's groups are of unlike size.
   */
  readonly kvHeads: readonly number[];
  readonly headsPerKvHead: number;
  readonly columns: Range; // FFN columns
  readonly vocabulary: Range; // rows of embedding and head
  readonly shareMillionths: number; // of the segment's work; over the ranks they sum to exactly 1,000,000
};
