/**
 * Whether a free engine waits a moment for sessions that are about to come back. A batch of eight costs little more than
 * a batch of one; once sessions have fallen into groups that take turns (seven, then one, then seven…) nothing would ever
 * join them again, and each group pays for reading all weights.
 *
 * Never for more than a fraction of a batch, and not beyond an even share of the sessions: in a chain of S segments S
 * groups keep every segment busy, and fewer would leave engines idle.
 */
export type Situation = {
  readonly nowMs: number;
  readonly waitingCount: number; // sessions that have a step to run now
  /** When each session that is away (its token with the gateway, its rows with other segments) should be back. */
  readonly returnsAtMs: readonly number[];
  readonly segmentCount: number;
  readonly batchMs: number; // what the last batch took
};

const FRACTION = 0.25;
const WAIT_MS_MAX = 10;
/** A timer cannot wait less. */
const WAIT_MS_MIN = 1;

/** Milliseconds to wait before the next batch is made; 0: run what waits. */
export function lingerMs({ nowMs, waitingCount, returnsAtMs, segmentCount, batchMs }: Situation): number {
  const roomMs = Math.min(WAIT_MS_MAX, FRACTION * batchMs);
  if (waitingCount === 0 || roomMs < WAIT_MS_MIN) return 0;
  // Who is long overdue (its client stopped, its gateway is slow today) is not waited for.
  const expected = returnsAtMs.filter((atMs) => atMs >= nowMs - roomMs).sort((a, b) => a - b);
  const wantedCount = Math.ceil((waitingCount + expected.length) / segmentCount) - waitingCount;
  const inTime = expected.filter((atMs) => atMs <= nowMs + roomMs).slice(0, Math.max(0, wantedCount));
  const lastMs = inTime.at(-1);
  return lastMs === undefined ? 0 : Math.min(roomMs, Math.max(WAIT_MS_MIN, 1.5 * (lastMs - nowMs)));
}
