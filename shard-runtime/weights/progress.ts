/** How far fetching is, for status, health endpoints and progress bars. */
import type { Clock } from "../../core/clock.ts";
import { formatBytes } from "../../core/units.ts";

export type Progress = {
  readonly doneBytes: number;
  readonly totalBytes: number;
  readonly bytesPerSecond: number | undefined; // of late; undefined: not known yet
  readonly secondsLeft: number | undefined; // at that pace
};

/** Before so long, the pace is a guess. */
const PACE_MS_MIN = 500;
/** The pace of late is that of so many half seconds. */
const SAMPLE_MS = 500;
const SAMPLE_COUNT = 20;

type Sample = { readonly atMs: number; readonly doneBytes: number };

export class ProgressMeter {
  readonly #clock: Clock;
  readonly #report: ((progress: Progress) => void) | undefined;
  #totalBytes: number;
  #doneBytes = 0;
  /** Oldest first. */
  #samples: readonly Sample[] = [];

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
    const atMs = this.#clock.monotonicMs();
    const last = this.#samples.at(-1);
    if (last === undefined || atMs - last.atMs >= SAMPLE_MS)
      this.#samples = [...this.#samples, { atMs, doneBytes: this.#doneBytes }].slice(-SAMPLE_COUNT);
    this.#doneBytes += byteCount;
    this.#report?.(this.now());
  }

  now(): Progress {
    const doneBytes = this.#doneBytes;
    const totalBytes = Math.max(this.#totalBytes, doneBytes);
    const [oldest] = this.#samples;
    const spentMs = oldest === undefined ? 0 : this.#clock.monotonicMs() - oldest.atMs;
    const cameBytes = doneBytes - (oldest?.doneBytes ?? 0);
    if (spentMs < PACE_MS_MIN || cameBytes === 0)
      return { doneBytes, totalBytes, bytesPerSecond: undefined, secondsLeft: undefined };
    const bytesPerSecond = (cameBytes * 1000) / spentMs;
    return { doneBytes, totalBytes, bytesPerSecond, secondsLeft: (totalBytes - doneBytes) / bytesPerSecond };
  }
}

/** `412 MiB of 1.20 GiB, 85.2 MiB/s, 9 s left`; what is done has no pace. */
export function shownProgress({ doneBytes, totalBytes, bytesPerSecond, secondsLeft }: Progress): string {
  if (doneBytes >= totalBytes) return `${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`;
  const pace = bytesPerSecond === undefined ? "" : `, ${formatBytes(Math.round(bytesPerSecond))}/s`;
  const left = secondsLeft === undefined ? "" : `, ${shownSeconds(Math.ceil(secondsLeft))} left`;
  return `${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}${pace}${left}`;
}

function shownSeconds(seconds: number): string {
  if (seconds < 120) return `${seconds} s`;
  const minutes = Math.ceil(seconds / 60);
  return minutes < 120 ? `${minutes} min` : `${(minutes / 60).toFixed(1)} h`;
}
