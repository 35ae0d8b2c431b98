/** The real clock. Constructed in `main.ts`, cli/ and tests only; whoever needs time is given one. */
import { setTimeout as after } from "node:timers/promises";
import type { Clock } from "../clock.ts";

export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  async sleep(milliseconds, signal) {
    await after(milliseconds, undefined, signal === undefined ? {} : { signal });
  },
};
