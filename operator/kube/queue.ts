/**
 * Keys to be looked at. A key that is already waiting is not added twice; one that is being worked on waits until that
 * is done, so the same object is never reconciled twice at a time; one that failed comes back later and later.
 *
 * What somebody changed goes before what is merely to be looked at again, such as every model after a node has changed:
 * a thousand of those do not keep the one waiting that a person looks at. What is under way, such as a model whose ranks
 * have become ready, goes before what has not begun: of a thousand models each is done soon after its turn came, and not
 * all of them at the end. Every eighth is of those behind all the same.
 * What is idle, such as how many shards a node holds, waits until nothing else has been to do for a moment, or for two
 * minutes: while a thousand models start, a node's figures change with each of them.
 */
import type { Clock } from "../../core/clock.ts";
import { BackOff } from "./back-off.ts";

export type Urgency = "first" | "now" | "later" | "idle";

const IDLE_MS_MAX = 120_000;
/** Between two looks of which one leads to the other, such as when a pod is made and when it is ready. */
const QUIET_MS = 1_000;
const RANKS: Readonly<Record<Urgency, number>> = { first: 3, now: 2, later: 1, idle: 0 };

/**
 * So many at a time are in work that are not urgent: whoever takes keys is sixteen, and most of them are there at once
 * for what somebody changes, whatever else waits for plans or for the API server.
 */
const UNHURRIED_COUNT_MAX = 4;
/** So many in a row that are more urgent let one through that is less. */
const URGENT_COUNT_MAX = 7;

export class WorkQueue {
  readonly #clock: Clock;
  readonly #onTake: (key: string, waitedMs: number) => void;
  readonly #waiting: Readonly<Record<Urgency, Set<string>>> = {
    first: new Set(), // each in order of arrival
    now: new Set(),
    later: new Set(),
    idle: new Set(),
  };
  /** To be looked at, waiting or changed while in work; and since when. */
  readonly #dirty = new Map<string, { readonly urgency: Urgency; readonly sinceMs: number }>();
  readonly #inWork = new Map<string, Urgency>();
  readonly #backOffs = new Map<string, BackOff>();
  /** By urgency and key: a pause of little urgency, though it ends first, takes nothing from one that is urgent. */
  readonly #later = new Map<string, { readonly atMs: number; readonly cancel: AbortController }>();
  readonly #takers: ((key: string | undefined) => void)[] = [];
  readonly #ended = new AbortController();
  #closed = false;
  #firstCount = 0;
  #urgentCount = 0;
  #urgentAtMs = Number.NEGATIVE_INFINITY; // when something urgent was last begun or done
  #listensForQuiet = false;

  /** `onTake` hears how long each key has waited. */
  constructor(clock: Clock, onTake: (key: string, waitedMs: number) => void = () => undefined) {
    this.#clock = clock;
    this.#onTake = onTake;
  }

  /** Keys that wait, those in work not counted. */
  get depth(): number {
    return this.urgentDepth + this.#waiting.later.size + this.#waiting.idle.size;
  }

  /** Keys that wait because somebody changed something. */
  get urgentDepth(): number {
    return this.#waiting.first.size + this.#waiting.now.size;
  }

  /** Whether nothing urgent waits, and none was begun or done a moment ago. */
  get isQuiet(): boolean {
    return this.urgentDepth === 0 && this.#clock.monotonicMs() - this.#urgentAtMs >= QUIET_MS;
  }

  add(key: string, urgency: Urgency = "now"): void {
    const known = this.#dirty.get(key);
    if (this.#closed || (known !== undefined && RANKS[known.urgency] >= RANKS[urgency])) return;
    this.#dirty.set(key, { urgency, sinceMs: this.#clock.monotonicMs() });
    if (this.#inWork.has(key)) return;
    if (known !== undefined) this.#waiting[known.urgency].delete(key); // it has become more urgent
    this.#waiting[urgency].add(key);
    this.#giveOut();
  }

  /** Adds `key` in `milliseconds`, or earlier where it is due earlier anyway, and as urgently. */
  addAfter(key: string, milliseconds: number, urgency: Urgency = "now"): void {
    if (this.#closed) return;
    const atMs = this.#clock.monotonicMs() + milliseconds;
    const place = `${urgency} ${key}`;
    const known = this.#later.get(place);
    if (known !== undefined && known.atMs <= atMs) return;
    this.#cancel(place);
    const cancel = new AbortController();
    this.#later.set(place, { atMs, cancel });
    this.#clock.sleep(milliseconds, cancel.signal).then(
      () => {
        if (cancel.signal.aborted) return; // another took its place as it ended
        this.#later.delete(place);
        this.add(key, urgency);
      },
      () => undefined, // cancelled
    );
  }

  /** Adds `key` after a pause that grows with each failure until {@link forget}, `leastMs` at least. Returns the pause. */
  addAfterFailure(key: string, leastMs = 0): number {
    const backOff = this.#backOffs.get(key) ?? new BackOff({ leastMs: 50, mostMs: 60_000 });
    this.#backOffs.set(key, backOff);
    const pauseMs = Math.max(leastMs, backOff.nextMs());
    this.addAfter(key, pauseMs);
    return pauseMs;
  }

  /** `key` went well: its next failure is its first. */
  forget(key: string): void {
    this.#backOffs.delete(key);
  }

  /** The next key, as soon as there is one; undefined once the queue is closed. Say {@link done} afterwards. */
  take(): Promise<string | undefined> {
    if (this.#closed) return Promise.resolve(undefined);
    return new Promise((resolve) => {
      this.#takers.push(resolve);
      this.#giveOut();
    });
  }

  done(key: string): void {
    if (isUrgent(this.#inWork.get(key))) this.#urgentAtMs = this.#clock.monotonicMs();
    this.#inWork.delete(key);
    const dirty = this.#dirty.get(key);
    if (dirty !== undefined && !this.#closed) this.#waiting[dirty.urgency].add(key);
    this.#giveOut();
  }

  close(): void {
    this.#closed = true;
    this.#ended.abort();
    for (const keys of Object.values(this.#waiting)) keys.clear();
    for (const { cancel } of this.#later.values()) cancel.abort();
    for (const taker of this.#takers.splice(0)) taker(undefined);
  }

  #giveOut(): void {
    for (let taker = this.#takers[0]; taker !== undefined; taker = this.#takers[0]) {
      const key = this.#next();
      if (key === undefined) break;
      this.#takers.shift();
      taker(this.#begin(key));
    }
    this.#listenForQuiet();
  }

  /** Whoever waits for work gets what is idle once it is quiet. */
  #listenForQuiet(): void {
    if (this.#listensForQuiet || this.#closed || this.#waiting.idle.size === 0) return;
    this.#listensForQuiet = true;
    this.#clock.sleep(QUIET_MS, this.#ended.signal).then(
      () => {
        this.#listensForQuiet = false;
        this.#giveOut();
      },
      () => undefined, // closed
    );
  }

  #next(): string | undefined {
    const { first, now, later, idle } = this.#waiting;
    const isFull = [...this.#inWork.values()].filter((each) => !isUrgent(each)).length >= UNHURRIED_COUNT_MAX;
    const isOverdue = this.#isOverdue(idle);
    const hasLate = !isFull && (later.size > 0 || isOverdue);
    const isTurnOfLater = !isFull && (this.urgentDepth === 0 || (this.#urgentCount >= URGENT_COUNT_MAX && hasLate));
    const isTurnOfNow = first.size === 0 || (this.#firstCount >= URGENT_COUNT_MAX && now.size > 0);
    const isTurnOfIdle = isOverdue || (later.size === 0 && this.isQuiet);
    const keys = isTurnOfLater ? (isTurnOfIdle ? idle : later) : isTurnOfNow ? now : first;
    const [key] = keys;
    if (key === undefined) return undefined;
    this.#urgentCount = isTurnOfLater ? 0 : this.#urgentCount + 1;
    if (!isTurnOfLater) this.#firstCount = isTurnOfNow ? 0 : this.#firstCount + 1;
    keys.delete(key);
    return key;
  }

  #cancel(place: string): void {
    this.#later.get(place)?.cancel.abort(CANCELLED);
    this.#later.delete(place);
  }

  #isOverdue(idle: ReadonlySet<string>): boolean {
    const [oldest] = idle;
    const sinceMs = oldest === undefined ? undefined : this.#dirty.get(oldest)?.sinceMs;
    return sinceMs !== undefined && this.#clock.monotonicMs() - sinceMs >= IDLE_MS_MAX;
  }

  #begin(key: string): string {
    const nowMs = this.#clock.monotonicMs();
    const { urgency, sinceMs } = this.#dirty.get(key) ?? { urgency: "now", sinceMs: nowMs };
    this.#onTake(key, nowMs - sinceMs);
    this.#dirty.delete(key);
    this.#inWork.set(key, urgency);
    if (isUrgent(urgency)) this.#urgentAtMs = nowMs;
    this.#cancel(`later ${key}`); // this look is that look; whoever takes the key says when the next is due
    return key;
  }
}

/** An abort without a reason makes one, with its stack: as dear as the rest of a pause. */
const CANCELLED = new Error("no longer wanted");

const isUrgent = (urgency: Urgency | undefined): boolean => urgency === "first" || urgency === "now";
