/** The real clock. Constructed in `main.ts`, cli/ and tests only; whoever needs time is given one. */
import type { Clock } from "../clock.ts";

export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  // Not Node's own: for each pause that is cancelled that makes an error of its own, with a stack.
  sleep: (milliseconds, signal) =>
    new Promise((resolve, reject) => {
      if (signal?.aborted === true) return void reject(signal.reason);
      const cancelled = () => {
        clearTimeout(timer);
        reject(signal?.reason);
      };
      const timer = setTimeout(() => {
        signal?.removeEventListener("abort", cancelled);
        resolve();
      }, milliseconds);
      signal?.addEventListener("abort", cancelled, { once: true });
    }),
};
