/** How late an event loop is, from a timer that should have fired at a fixed pace. Pure. */
import { percentile } from "./figures.ts";

/** When a timer fired, and how much later than it should have. */
export type Late = {
  readonly atMs: number;
  readonly lateMs: number;
  readonly ownMs?: number; // of it while no other process kept it from running
};

/**
 * The lateness that something meets which comes at any moment, and not only when the timer is due: a loop that stood for
 * 100 ms made the timer late once, but all who came meanwhile wait, the last of them hardly at all. `everyMs` apart.
 */
export const metLateness = (samples: readonly Late[], everyMs: number): readonly number[] =>
  samples.flatMap(({ lateMs }) =>
    Array.from({ length: 1 + Math.max(0, Math.floor(lateMs / everyMs)) }, (_, index) => lateMs - index * everyMs),
  );

export type Window = { readonly startMs: number; readonly endMs: number };

/** The same loop as if it had had a core to itself. */
export const ofItsOwn = (samples: readonly Late[]): readonly Late[] =>
  samples.map(({ atMs, lateMs, ownMs = lateMs }) => ({ atMs, lateMs: ownMs }));

/** What was late within any of the windows: a timer that fires after one may have been due in it. */
export const within = (samples: readonly Late[], windows: readonly Window[]): readonly Late[] =>
  samples.filter(({ atMs, lateMs }) => windows.some(({ startMs, endMs }) => atMs >= startMs && atMs - lateMs <= endMs));

export type Lateness = { readonly p50: number; readonly p99: number; readonly most: number };

export function latenessOf(samples: readonly Late[], everyMs: number): Lateness {
  const met = metLateness(samples, everyMs);
  return { p50: percentile(met, 0.5), p99: percentile(met, 0.99), most: Math.max(0, ...samples.map((s) => s.lateMs)) };
}
