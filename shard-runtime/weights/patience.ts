/**
 * How long a reader puts up with weather: a bounded number of failures without progress, with exponential back-off and
 * full jitter between them, and never sooner than the server asks for.
 */
import type { Clock } from "../../core/clock.ts";

/** The bytes do not come, though nothing says that they never will. `cause` is the last attempt's. */
export class SourceUnavailable extends Error {
  override name = "SourceUnavailable";
}

/** One attempt that failed for now. `retryAfterMs` is the server's own wish. */
export class Weather extends Error {
  override name = "Weather";
  readonly retryAfterMs: number | undefined;
  constructor(message: string, options: { readonly cause?: unknown; readonly retryAfterMs?: number | undefined } = {}) {
    super(message, options);
    this.retryAfterMs = options.retryAfterMs;
  }
}

/** Failures in a row, and where another source can be asked instead. */
const ATTEMPT_COUNT = 6;
export const ATTEMPT_COUNT_OF_SEVERAL = 3;
const FIRST_WAIT_MS = 250;
const WAIT_MS_MAX = 10_000;
const RETRY_AFTER_MS_MAX = 120_000;
/** Attacker: a server that sends a byte per connection must not keep us for ever. */
const PROGRESS_BYTES = 64 << 10;

export type PatienceOptions = {
  readonly clock: Clock;
  readonly where: string;
  readonly signal?: AbortSignal | undefined;
  readonly random?: () => number; // [0, 1)
  readonly attemptCount?: number | undefined; // ATTEMPT_COUNT where absent
};

/**
 * How long to wait after a failure, milliseconds; undefined: give up. Pure. `random` is within [0, 1): ranks that failed
 * together must not come back together.
 */
export function waitMsAfter(
  failureCount: number,
  { attemptCount, wishMs = 0, random }: { attemptCount: number; wishMs?: number | undefined; random: number },
): number | undefined {
  if (failureCount >= attemptCount || wishMs > RETRY_AFTER_MS_MAX) return undefined;
  return Math.max(Math.min(WAIT_MS_MAX, FIRST_WAIT_MS * 2 ** failureCount) * (0.5 + random / 2), wishMs);
}

export class Patience {
  readonly #options: PatienceOptions;
  #failureCount = 0;

  constructor(options: PatienceOptions) {
    this.#options = options;
  }

  /** Waits until the next attempt is due, or throws {@link SourceUnavailable}. `byteCount`: what the failed attempt brought. */
  async outlast(failure: unknown, byteCount: number): Promise<void> {
    const { clock, where, signal, random = Math.random, attemptCount = ATTEMPT_COUNT } = this.#options;
    signal?.throwIfAborted();
    this.#failureCount = byteCount >= PROGRESS_BYTES ? 1 : this.#failureCount + 1;
    const wishMs = failure instanceof Weather ? failure.retryAfterMs : undefined;
    const waitMs = waitMsAfter(this.#failureCount, { attemptCount, wishMs, random: random() });
    if (waitMs === undefined)
      throw new SourceUnavailable(
        `${where}: ${this.#failureCount} attempts failed, the last with: ${describe(failure)}; check the server and the way to it`,
        { cause: failure },
      );
    await clock.sleep(waitMs, signal);
  }
}

/** fetch says "fetch failed" and keeps the reason in its cause. */
function describe(failure: unknown): string {
  if (!(failure instanceof Error)) return String(failure);
  const cause = failure.cause;
  return cause instanceof Error && cause.message !== "" ? `${failure.message} (${cause.message})` : failure.message;
}
