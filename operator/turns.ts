/** Work that takes long lets whoever else waits for the loop have a turn, again and again. */
import { setImmediate as soon } from "node:timers/promises";
import type { Clock } from "../core/clock.ts";

/** To be asked between any two pieces of the work: what to await, if anything. */
export type Turn = () => Promise<void> | undefined;

const TURN_MS = 5;

/**
 * Lets one go on at a time, each in a round of the loop of its own: of many who were answered at once, each does a
 * little, and whoever else waits comes between them.
 */
export function oneByOne(): () => Promise<void> {
  let last: Promise<void> = Promise.resolve();
  return () => (last = last.then(() => soon()));
}

/** Nothing to await, or, where {@link TURN_MS} have passed since the last time, everybody else. */
export function turns(clock: Clock, signal?: AbortSignal): Turn {
  let sinceMs = clock.monotonicMs();
  return () => {
    if (clock.monotonicMs() - sinceMs < TURN_MS) return undefined;
    return soon(undefined, signal === undefined ? {} : { signal }).then(() => {
      sinceMs = clock.monotonicMs();
    });
  };
}
