/** The door to time. Only `main.ts` and tests construct one; whoever needs time is given it. */
export interface Clock {
  /** Milliseconds from some fixed moment; never goes back. For durations only. */
  monotonicMs(): number;
  /** Resolves after `milliseconds`; rejects with the signal's reason when it aborts first. */
  sleep(milliseconds: number, signal?: AbortSignal): Promise<void>;
}
