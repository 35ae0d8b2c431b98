/**
 * How the rows of a batch are laid out for the engine: which of them run together, over which KV slots. Pure.
 *
 * Decoded rows of neighbouring slots are one run. A slot in between that has nothing to decode can ride along: its row is
 * computed at its own next position, where the next real step overwrites what it left. That costs a row, while another
 * run would read all weights again. A prefill chunk is a run of its own.
 */
import { present } from "../../core/assert.ts";

export type SlotRows = {
  readonly slot: number;
  readonly position: number; // of the first row
  readonly rowCount: number;
};

export type Run = {
  readonly rowOffset: number; // of its first row among all local rows
  readonly firstSlot: number;
  readonly sequenceCount: number; // neighbouring slots
  readonly rowsPerSequence: number;
  readonly lastPositions: readonly number[]; // of each sequence's last row
};

export type Layout = {
  readonly runs: readonly Run[];
  readonly localRows: Int32Array; // for every row of the batch, in order, where it lies among the local rows
  readonly localRowCount: number; // batch rows and those that ride along
};

/** Rows that may ride along between two that were asked for; beyond, reading the weights again is cheaper. */
const RIDE_ALONG_MAX = 3;

/**
 * `nextPositions[slot]` is where an idle slot's row would go, 0 for a free slot; a slot whose context is full cannot ride.
 */
export function layoutBatch(
  steps: readonly SlotRows[],
  nextPositions: readonly number[],
  contextLength: number,
): Layout {
  const starts: number[] = [];
  let rowCount = 0;
  for (const step of steps) {
    starts.push(rowCount);
    rowCount += step.rowCount;
  }
  const localRows = new Int32Array(rowCount);
  const runs: Run[] = [];
  let localRowCount = 0;

  const decoded = [...steps.entries()]
    .filter(([, step]) => step.rowCount === 1)
    .sort(([, a], [, b]) => a.slot - b.slot);
  const canRide = (slot: number) => (nextPositions[slot] ?? contextLength) < contextLength;
  for (const group of groupNeighbours(decoded, canRide)) {
    const firstSlot = present(group[0], "a group has a row")[1].slot;
    const sequenceCount = present(group.at(-1), "a group has a row")[1].slot - firstSlot + 1;
    const lastPositions = nextPositions.slice(firstSlot, firstSlot + sequenceCount);
    for (const [index, step] of group) {
      lastPositions[step.slot - firstSlot] = step.position;
      localRows[starts[index] ?? 0] = localRowCount + step.slot - firstSlot;
    }
    runs.push({ rowOffset: localRowCount, firstSlot, sequenceCount, rowsPerSequence: 1, lastPositions });
    localRowCount += sequenceCount;
  }
  for (const [index, step] of steps.entries()) {
    if (step.rowCount === 1) continue;
    for (let row = 0; row < step.rowCount; row += 1) localRows[(starts[index] ?? 0) + row] = localRowCount + row;
    runs.push({
      rowOffset: localRowCount,
      firstSlot: step.slot,
      sequenceCount: 1,
      rowsPerSequence: step.rowCount,
      lastPositions: [step.position + step.rowCount - 1],
    });
    localRowCount += step.rowCount;
  }
  return { runs, localRows, localRowCount };
}

type Indexed = readonly [index: number, step: SlotRows];

/** Cuts rows, sorted by slot, wherever the gap is too wide or someone in it cannot ride. */
function groupNeighbours(
  rows: readonly Indexed[],
  canRide: (slot: number) => boolean,
): readonly (readonly Indexed[])[] {
  const groups: Indexed[][] = [];
  for (const row of rows) {
    const group = groups.at(-1);
    const before = group?.at(-1)?.[1].slot;
    const between =
      before === undefined ? [] : Array.from({ length: row[1].slot - before - 1 }, (_, gap) => before + 1 + gap);
    if (group !== undefined && between.length <= RIDE_ALONG_MAX && between.every(canRide)) group.push(row);
    else groups.push([row]);
  }
  return groups;
}
