/**
 * Which waiting steps make the next batch. Batching is local: whenever a segment's engine is free, its leader takes what
 * waits, and no one else is asked.
 *
 * Decoded rows go together, because one row more costs next to nothing where reading the weights is the price. Prefill
 * rows cost in proportion, so beside decoded rows only so many go along that others' tokens are not held up for long.
 * Whoever has waited longest is always served: decoded rows come again and again, and would starve a prompt otherwise.
 */
import { assert } from "../../core/assert.ts";

export type Waiting = {
  readonly session: string;
  readonly rowCount: number; // ≥ 1
  /** Token ids can be cut anywhere; hidden rows are hashed as they came, and must be run as they came. */
  readonly divisible: boolean;
};

/** `rowCount` of the first rows of the step at `index` of what waits. */
export type Taken = { readonly index: number; readonly rowCount: number };

export type Budget = {
  readonly rowsMax: number; // of one batch; no indivisible step may be longer
  readonly prefillRowsBesideDecode: number; // 1..rowsMax
  readonly decodeRowsMax?: number; // ≥ 1, see core/pace.ts; left out: rowsMax
};

/**
 * `waiting` is in order of arrival; a session's steps run in their order, one a batch. Empty only where nothing waits.
 * What is taken has the waiting list's order.
 */
export function nextBatch(waiting: readonly Waiting[], budget: Budget): readonly Taken[] {
  const heads = firstOfEachSession(waiting);
  const oldest = heads[0];
  if (oldest === undefined) return [];
  const taken: Taken[] = [];
  let left = budget.rowsMax;
  const take = (head: Head, rowCount: number): void => {
    taken.push({ index: head.index, rowCount });
    left -= rowCount;
  };

  // Both kinds are there: a prompt that waited longest keeps its room, even from so many decoded rows as would fill it.
  const decodes = heads.filter((head) => head.rowCount === 1);
  const prefills = heads.filter((head) => head.rowCount > 1);
  const prefillMax = decodes.length === 0 ? budget.rowsMax : budget.prefillRowsBesideDecode;
  const reserved = oldest.rowCount > 1 ? partOf(oldest, prefillMax, true) : 0;
  for (const head of decodes.slice(0, budget.decodeRowsMax)) if (left > reserved) take(head, 1);

  let prefillLeft = Math.min(left, prefillMax);
  for (const head of prefills) {
    const rowCount = head === oldest ? reserved : partOf(head, Math.min(left, prefillLeft), false);
    if (rowCount === 0) continue;
    take(head, rowCount);
    prefillLeft -= rowCount;
  }
  assert(left >= 0, "a batch keeps its budget");
  return taken.sort((a, b) => a.index - b.index);
}

type Head = Waiting & { readonly index: number };

function firstOfEachSession(waiting: readonly Waiting[]): readonly Head[] {
  const seen = new Set<string>();
  const heads: Head[] = [];
  for (const [index, step] of waiting.entries()) {
    if (seen.has(step.session)) continue;
    seen.add(step.session);
    heads.push({ ...step, index });
  }
  return heads;
}

/**
 * How many of a prompt chunk's rows to take within `room`; `must`: at least something, and all of it if it cannot be cut.
 * A cut never makes a part of one row: a single row runs as a decoded one, whose attention differs in the last bit, and
 * what a session computes must not depend on who else was there.
 */
function partOf(head: Waiting, room: number, must: boolean): number {
  if (head.rowCount <= room) return head.rowCount;
  if (!head.divisible) return must ? head.rowCount : 0;
  const part = head.rowCount - room === 1 ? room - 1 : room;
  if (part >= 2) return part;
  return must ? Math.min(head.rowCount, head.rowCount === 3 ? 3 : 2) : 0;
}
