/** Waiting for what other processes do and nobody tells of, by looking again and again. */
import { setTimeout as after } from "node:timers/promises";

export type Patience = { readonly timeoutMs?: number; readonly everyMs?: number };

/**
 * What `look` finds once it `holds`. An error of either counts as "not yet".
 * Throws after `timeoutMs`, saying what was waited for, what was found last, and the last error as the cause.
 */
export async function untilFound<T>(
  what: string,
  look: () => Promise<T> | T,
  holds: (found: T) => boolean,
  { timeoutMs = 60_000, everyMs = 100 }: Patience = {},
): Promise<T> {
  const deadlineMs = performance.now() + timeoutMs;
  let last: { readonly found?: T; readonly cause?: unknown } = {};
  for (;;) {
    try {
      const found = await look();
      last = { found };
      if (holds(found)) return found;
    } catch (cause) {
      last = { ...last, cause };
    }
    if (performance.now() > deadlineMs) {
      const found = "found" in last ? `; found last: ${JSON.stringify(last.found)}` : "";
      throw new Error(`waited ${timeoutMs} ms for ${what}${found}`, "cause" in last ? { cause: last.cause } : {});
    }
    await after(everyMs);
  }
}

/** Waits until `holds` is true; otherwise as `untilFound`. */
export async function until(
  what: string,
  holds: () => Promise<boolean> | boolean,
  patience: Patience = {},
): Promise<void> {
  await untilFound(what, holds, (held) => held, patience);
}
