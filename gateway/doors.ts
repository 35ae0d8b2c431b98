/** The gateway's doors to the weather. Only `main.ts` and tests construct them; everything else is handed one of these. */
import type { Clock } from "../core/clock.ts";
import { type Refusal, RefusalError, refuse } from "../core/result.ts";
import type { Wire } from "./session/types.ts";

/** One line of the process's log. Prompts, answers and keys never go in. */
export type Log = (event: string, fields: Readonly<Record<string, string | number | boolean | undefined>>) => void;

export type Doors = {
  readonly clock: Clock;
  readonly unixMs: () => number; // wall clock: for epochs and what is shown to people, never for durations
  readonly random: (byteCount: number) => Uint8Array;
  readonly wire: Wire;
  readonly log: Log;
};

/**
 * The outcome of `work`, or "late" after `milliseconds`, or "aborted" once `signal` is. The work goes on unheard in the
 * latter two; it must not reject.
 */
export async function within<T>(
  clock: Clock,
  milliseconds: number,
  work: Promise<T>,
  signal?: AbortSignal,
): Promise<T | "late" | "aborted"> {
  if (signal?.aborted === true) return "aborted";
  // Not AbortSignal.any: it would hang one more dependant on a long-lived signal with every token.
  const over = new AbortController();
  const abort = (): void => over.abort();
  signal?.addEventListener("abort", abort, { once: true });
  const end = clock.sleep(milliseconds, over.signal).then(
    () => "late" as const,
    () => "aborted" as const,
  );
  try {
    return await Promise.race([work, end]);
  } finally {
    signal?.removeEventListener("abort", abort);
    over.abort();
  }
}

const CANCELLED = refuse("Cancelled", "the client went away");

/** Why nobody wants the answer any more: the refusal that the signal was aborted with, else that the client left. */
export const whyAborted = (signal: AbortSignal): Refusal =>
  signal.reason instanceof RefusalError ? refuse(signal.reason.code, signal.reason.message) : CANCELLED;
