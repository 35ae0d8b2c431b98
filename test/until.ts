import { setTimeout as after } from "node:timers/promises";

/**
 * Waits until `holds` is true, for what other processes do and nobody tells of. Errors of `holds` count as "not yet".
 * Throws after `timeoutMs`, saying what was waited for and the last error.
 */
export async function until(
  what: string,
  holds: () => Promise<boolean> | boolean,
  { timeoutMs = 60_000, everyMs = 100 }: { readonly timeoutMs?: number; readonly everyMs?: number } = {},
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  let last: unknown;
  for (;;) {
    try {
      if (await holds()) return;
    } catch (error) {
      last = error;
    }
    if (performance.now() > deadline) {
      throw new Error(`waited ${timeoutMs} ms for ${what}`, last === undefined ? {} : { cause: last });
    }
    await after(everyMs);
  }
}
