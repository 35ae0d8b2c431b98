/**
 * Which waiting steps make the next batch, and whether an engine waits a moment for more: the rules of the runtime's own
 * schedule, over the simulation's steps. Packages may not import each other, so they are said twice; test/bench/
 * simulate-schedule.test.ts holds the two to each other.
 */
import type { Budget } from "./house.ts";

export type SimulatedStep<Owner> = {
  readonly owner: Owner; // a session: its steps run in order, one a batch
  readonly rowCount: number;
  readonly position: number; // of the first row
  readonly sample: boolean;
  readonly divisible: boolean; // token ids can be cut anywhere, hidden rows must be run as they came
};

/** Takes the next batch out of what waits, in order of arrival. Empty only where nothing waits. */
export function takeBatch<Owner, Step extends SimulatedStep<Owner>>(
  waiting: Step[],
  { rowsMax, prefillRowsBesideDecode, decodeRowsMax = rowsMax }: Budget,
): readonly Step[] {
  // PERF: nearly always. A session that decodes has one row at most, so nobody is here twice.
  if (waiting.every(({ rowCount }) => rowCount === 1)) return waiting.splice(0, Math.min(rowsMax, decodeRowsMax));
  const heads = firstOfEach(waiting);
  const oldest = heads[0];
  if (oldest === undefined) return [];
  const decodeCount = heads.filter(({ rowCount }) => rowCount === 1).length;
  const prefillMax = decodeCount === 0 ? rowsMax : prefillRowsBesideDecode;
  const reserved = oldest.rowCount > 1 ? rowsWithin(oldest, prefillMax, true) : 0;
  const decodes = Math.min(decodeCount, rowsMax - reserved, decodeRowsMax);
  let [decodeLeft, left] = [decodes, rowsMax - decodes];
  let prefillLeft = Math.min(left, prefillMax);
  const rows = new Map<Step, number>();
  for (const head of heads) {
    if (head.rowCount === 1) {
      if (decodeLeft-- > 0) rows.set(head, 1);
      continue;
    }
    const rowCount = head === oldest ? reserved : rowsWithin(head, Math.min(left, prefillLeft), false);
    if (rowCount === 0) continue;
    rows.set(head, rowCount);
    left -= rowCount;
    prefillLeft -= rowCount;
  }
  return cut(waiting, rows);
}

function firstOfEach<Owner, Step extends SimulatedStep<Owner>>(waiting: readonly Step[]): readonly Step[] {
  const seen = new Set<Owner>();
  return waiting.filter(({ owner }) => !seen.has(owner) && seen.add(owner));
}

/** A cut never makes a part of one row. */
function rowsWithin({ rowCount, divisible }: SimulatedStep<unknown>, room: number, must: boolean): number {
  if (rowCount <= room) return rowCount;
  if (!divisible) return must ? rowCount : 0;
  const part = rowCount - room === 1 ? room - 1 : room;
  if (part >= 2) return part;
  return must ? Math.min(rowCount, rowCount === 3 ? 3 : 2) : 0;
}

function cut<Owner, Step extends SimulatedStep<Owner>>(waiting: Step[], rows: ReadonlyMap<Step, number>): Step[] {
  const taken: Step[] = [];
  let kept = 0;
  for (const step of waiting) {
    const rowCount = rows.get(step);
    if (rowCount === step.rowCount) {
      taken.push(step);
      continue;
    }
    if (rowCount === undefined) {
      waiting[kept++] = step;
      continue;
    }
    taken.push({ ...step, rowCount, sample: false });
    waiting[kept++] = { ...step, rowCount: step.rowCount - rowCount, position: step.position + rowCount };
  }
  waiting.length = kept;
  return taken;
}

const LINGER_SHARE = 0.25; // of what the last batch took
const LINGER_SECONDS_MAX = 0.01;
const LINGER_SECONDS_MIN = 0.001;

export type LingerView = {
  readonly now: number;
  readonly waitingCount: number;
  readonly returnsAt: readonly number[];
  readonly segmentCount: number;
  readonly batchSeconds: number;
};

/** Seconds to wait before the next batch is made; 0: run what waits. */
export function lingerSeconds({ now, waitingCount, returnsAt, segmentCount, batchSeconds }: LingerView): number {
  const room = Math.min(LINGER_SECONDS_MAX, LINGER_SHARE * batchSeconds);
  if (waitingCount === 0 || room < LINGER_SECONDS_MIN) return 0;
  const expected = returnsAt.filter((at) => at >= now - room);
  const wanted = Math.ceil((waitingCount + expected.length) / segmentCount) - waitingCount;
  if (wanted <= 0) return 0;
  const inTime = expected.filter((at) => at <= now + room).sort((a, b) => a - b);
  const last = inTime[Math.min(wanted, inTime.length) - 1];
  return last === undefined ? 0 : Math.min(room, Math.max(LINGER_SECONDS_MIN, 1.5 * (last - now)));
}
