/**
 * How many decoded rows a batch takes at most. An engine that is free takes all that waits, so in a chain of many
 * segments all sessions end up in one batch that goes from engine to engine, while the others have nothing to do: a chain
 * of forty nodes served less than half of what it could. Spread evenly, as many rows come while a batch runs as leave:
 * sessions × batch ÷ round, where a round is the time from one departure of a session to its next. Twice that is taken
 * and the rest waits for the next batch, so a crowd falls apart within a few rounds. An engine that is the slowest of its
 * chain is never held back by this: its batches are most of a round.
 */
const SLACK = 2;
/** Departures, and batches, of which the averages speak. */
const ROUNDS_REMEMBERED = 32;
const BATCHES_REMEMBERED = 8;

export class Pace {
  #roundMs = 0;
  #batchMs = 0;
  #lastMs = 0;

  /** A session's step has left, so long after its step before. */
  left(ms: number): void {
    this.#roundMs += (ms - this.#roundMs) / (this.#roundMs === 0 ? 1 : ROUNDS_REMEMBERED);
  }

  /** A batch took so long. */
  ran(ms: number): void {
    this.#batchMs += (ms - this.#batchMs) / (this.#batchMs === 0 ? 1 : BATCHES_REMEMBERED);
    this.#lastMs = ms;
  }

  /** Of so many sessions; ≥ 1, and without a limit until a session has come round. */
  rowsMax(sessionCount: number): number {
    if (this.#roundMs === 0) return Number.POSITIVE_INFINITY;
    const share = Math.max(this.#batchMs, this.#lastMs) / this.#roundMs;
    return Math.max(1, Math.ceil(SLACK * sessionCount * share));
  }
}
