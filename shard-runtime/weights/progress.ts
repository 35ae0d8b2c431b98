/** How far fetching is, for status, health endpoints and progress bars. */
import type { Clock } from "../../core/clock.ts";

export type Progress = {
  readonly doneBytes: number;
  readonly totalBytes: number;
  readonly secondsLeft: number | undefined; // undefined: not known yet
};

/** Before so long, the pace is a guess. */
const PACE_MS_MIN = 500;

export class ProgressMeter {
  readonly #clock: Clock;
  readonly #report: ((progress: Progress) => void) | undefined;
  #totalBytes: number;
  #doneBytes = 0;
  #startedMs: number | undefined;

  constructor(clock: Clock, totalBytes: number, report?: (progress: Progress) => void) {
    this.#clock = clock;
    this.#totalBytes = totalBytes;
    this.#report = report;
  }

  /** Another total, known better now than at the start. */
  expect(totalBytes: number): void {
    this.#totalBytes = totalBytes;
  }

  advance(byteCount: number): void {
    this.#startedMs ??= this.#clock.monotonicMs();
    this.#doneBytes += byteCount;
    this.#report?.(this.now());
  }

  now(): Progress {
    const spentMs = this.#clock.monotonicMs() - (this.#startedMs ?? Number.POSITIVE_INFINITY);
    const leftBytes = Math.max(0, this.#totalBytes - this.#doneBytes);
    const secondsLeft =
      spentMs >= PACE_MS_MIN && this.#doneBytes > 0 ? (leftBytes * spentMs) / this.#doneBytes / 1000 : undefined;
    return { doneBytes: this.#doneBytes, totalBytes: Math.max(this.#totalBytes, this.#doneBytes), secondsLeft };
  }
}
