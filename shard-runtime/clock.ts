/** The real clock. Constructed in `main.ts` and tests only. */
import { setTimeout as after } from "node:timers/promises";
import type { Clock } from "../core/clock.ts";

export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  async sleep(milliseconds, signal) {
    await after(milliseconds, undefined, signal === undefined ? {} : { signal });
  },
};
