/**
 * How many decoded rows a batch takes at most. An engine that is free takes all that waits, so in a chain of many
 * segments all sessions end up in one batch that goes from engine to engine, while the others have nothing to do: a chain
 * of forty nodes served less than half of what it could. Spread evenly, as many rows come while a batch runs as leave:
 * sessions × batch ÷ round, where a round is the time from one departure of a session to its next. Twice that is taken
 * and the rest waits for the next batch, so a crowd falls apart within a few rounds. An engine that is the slowest of its
 * chain is never held back by this: its batches are most of a round. Only the ratio of times counts, so any one unit will
 * do: ranks go by milliseconds, the planner's simulation by seconds.
 */
const SLACK = 2;
/** Departures, and batches, of which the averages speak. */
const ROUNDS_REMEMBERED = 32;
const BATCHES_REMEMBERED = 8;

export class Pace {
  #round = 0;
  #batch = 0;
  #last = 0;

  /** A session's step has left, so long after its step before. */
  left(time: number): void {
    this.#round += (time - this.#round) / (this.#round === 0 ? 1 : ROUNDS_REMEMBERED);
  }

  /** A batch took so long. */
  ran(time: number): void {
    this.#batch += (time - this.#batch) / (this.#batch === 0 ? 1 : BATCHES_REMEMBERED);
    this.#last = time;
  }

  /** Of so many sessions; ≥ 1, and without a limit until a session has come round. */
  rowsMax(sessionCount: number): number {
    if (this.#round === 0) return Number.POSITIVE_INFINITY;
    const share = Math.max(this.#batch, this.#last) / this.#round;
    return Math.max(1, Math.ceil(SLACK * sessionCount * share));
  }
}
