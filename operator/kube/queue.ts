/**
 * Keys to be looked at. A key that is already waiting is not added twice; one that is being worked on waits until that
 * is done, so the same object is never reconciled twice at a time; one that failed comes back later and later.
 */
import type { Clock } from "../../core/clock.ts";
import { BackOff } from "./back-off.ts";

export class WorkQueue {
  readonly #clock: Clock;
  readonly #waiting: string[] = []; // in order of arrival
  readonly #dirty = new Set<string>(); // to be looked at: waiting, or changed while in work
  readonly #inWork = new Set<string>();
  readonly #backOffs = new Map<string, BackOff>();
  readonly #later = new Map<string, { readonly atMs: number; readonly cancel: AbortController }>();
  readonly #takers: ((key: string | undefined) => void)[] = [];
  #closed = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Keys that wait, those in work not counted. */
  get depth(): number {
    return this.#waiting.length;
  }

  add(key: string): void {
    if (this.#closed || this.#dirty.has(key)) return;
    this.#dirty.add(key);
    if (this.#inWork.has(key)) return;
    this.#offer(key);
  }

  /** Adds `key` in `milliseconds`, or earlier where it is due earlier anyway. */
  addAfter(key: string, milliseconds: number): void {
    if (this.#closed) return;
    const atMs = this.#clock.monotonicMs() + milliseconds;
    const known = this.#later.get(key);
    if (known !== undefined && known.atMs <= atMs) return;
    known?.cancel.abort();
    const cancel = new AbortController();
    this.#later.set(key, { atMs, cancel });
    this.#clock.sleep(milliseconds, cancel.signal).then(
      () => {
        this.#later.delete(key);
        this.add(key);
      },
      () => undefined, // cancelled
    );
  }

  /** Adds `key` after a pause that grows with each failure until {@link forget}. Returns the pause. */
  addAfterFailure(key: string): number {
    const backOff = this.#backOffs.get(key) ?? new BackOff({ leastMs: 50, mostMs: 60_000 });
    this.#backOffs.set(key, backOff);
    const pauseMs = backOff.nextMs();
    this.addAfter(key, pauseMs);
    return pauseMs;
  }

  /** `key` went well: its next failure is its first. */
  forget(key: string): void {
    this.#backOffs.delete(key);
  }

  /** The next key, as soon as there is one; undefined once the queue is closed. Say {@link done} afterwards. */
  take(): Promise<string | undefined> {
    const key = this.#waiting.shift();
    if (key !== undefined) return Promise.resolve(this.#begin(key));
    if (this.#closed) return Promise.resolve(undefined);
    return new Promise((resolve) => this.#takers.push(resolve));
  }

  done(key: string): void {
    this.#inWork.delete(key);
    if (this.#dirty.has(key)) this.#offer(key);
  }

  close(): void {
    this.#closed = true;
    this.#waiting.length = 0;
    for (const { cancel } of this.#later.values()) cancel.abort();
    for (const taker of this.#takers.splice(0)) taker(undefined);
  }

  #offer(key: string): void {
    if (this.#closed) return;
    const taker = this.#takers.shift();
    if (taker) taker(this.#begin(key));
    else this.#waiting.push(key);
  }

  #begin(key: string): string {
    this.#dirty.delete(key);
    this.#inWork.add(key);
    return key;
  }
}
