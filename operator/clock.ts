/** The door to time, with the time of day: leases, events and conditions carry it. */
import type { Clock } from "../core/clock.ts";
import { systemClock as realClock } from "../core/wire/clock.ts";

export interface WallClock extends Clock {
  /** Milliseconds since 1970. For what people read; never for durations. */
  wallMs(): number;
}

/** The real clock. Constructed in `main.ts` and tests only. */
export const systemClock = (): WallClock => ({ ...realClock, wallMs: () => Date.now() });

/** A clock that stands until `advance` moves it; whoever sleeps wakes as it passes. For tests. */
export class StoppedClock implements WallClock {
  #nowMs = 0;
  readonly #startedAtMs: number;
  #sleepers: { readonly atMs: number; readonly wake: () => void }[] = [];

  constructor(startedAt = "2026-01-01T00:00:00Z") {
    this.#startedAtMs = Date.parse(startedAt);
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return this.#startedAtMs + this.#nowMs;
  }

  sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const sleeper = { atMs: this.#nowMs + milliseconds, wake: resolve };
      this.#sleepers.push(sleeper);
      signal?.addEventListener("abort", () => {
        this.#sleepers = this.#sleepers.filter((each) => each !== sleeper);
        reject(signal.reason);
      });
    });
  }

  /** When the next sleeper wakes, or undefined where nobody sleeps. */
  get nextMs(): number | undefined {
    return this.#sleepers.length === 0 ? undefined : Math.min(...this.#sleepers.map(({ atMs }) => atMs));
  }

  advance(milliseconds: number): void {
    this.#nowMs += milliseconds;
    const due = this.#sleepers.filter(({ atMs }) => atMs <= this.#nowMs).sort((a, b) => a.atMs - b.atMs);
    this.#sleepers = this.#sleepers.filter(({ atMs }) => atMs > this.#nowMs);
    for (const { wake } of due) wake();
  }
}
