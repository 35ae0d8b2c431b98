/**
 * Keeps a copy of all objects of one kind, and says what changed. List in pages, then watch; whatever breaks, it goes
 * on from what it has: a broken or silent connection is made anew, a resource version that is too old leads to a new
 * list, and what vanished meanwhile is reported from the difference. What is older than what is known already (an event
 * told twice, a list from a server that lags) is left aside: the copy never goes back in time.
 *
 * **How long it can be blind.** A silence ends by itself: the server ends each watch after a few minutes, sends a
 * bookmark about every minute, and a connection without a byte for `silenceMs` (90 s) is given up. But a watch that
 * speaks and leaves something out cannot be caught by listening. So every `checkMs` (60 s for each 500 objects, at most
 * 5 min) the names and versions of all objects are listed, and whatever the watch has not told `graceMs` (2 s) later
 * leads to a new list. Hence no change goes unseen for longer than `checkMs` + `graceMs` + the time of two lists,
 * whatever the network between does to the watch, while lists are answered; see {@link blindMsMax}.
 */
import type { Clock } from "../../core/clock.ts";
import { isJsonObject, shown } from "../../core/json.ts";
import { turns } from "../turns.ts";
import { BackOff } from "./back-off.ts";
import { ApiError, type KubeClient, isStatus } from "./client.ts";
import { type Change, HandlerFailed, ObjectsHeld } from "./objects-held.ts";
import { type KubeObject, type Resource, asKubeObject, keyOf, pathOf } from "./objects.ts";
import { isOlder } from "./versions.ts";
import { Garbled, linesOf, parseEvent } from "./watch-lines.ts";

export type { Change } from "./objects-held.ts";

export type ReflectorOptions = {
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly resource: Resource;
  readonly namespace?: string | undefined; // left out: all
  readonly labelSelector?: string;
  /** Told of every change, in order, the first list included. What it throws is a bug of ours and ends the reflector. */
  readonly onChange: (change: Change) => void;
  /** Told of everything that went wrong and is being retried. */
  readonly onTrouble?: (detail: string) => void;
  readonly indexBy?: (object: KubeObject) => string | undefined;
  readonly isMetadataOnly?: boolean; // names, labels and versions are all that is wanted of each object
  readonly pageCount?: number; // objects in a page of a list
  readonly watchSeconds?: number; // after which the server ends a watch; jittered upwards by as much again
  readonly silenceMs?: number; // without a byte, after which a connection is given up
  readonly checkMs?: number; // between checks of the whole copy; left out: by the number of objects
  readonly graceMs?: number; // for the watch to tell what a check has found
  readonly backOff?: { readonly leastMs: number; readonly mostMs: number };
};

/** A watch that lived this long was no failure, even if not a byte came. */
const LIVED_MS = 1_000;
const SILENCE_MS = 90_000; // the server's bookmarks come every 60 s, give or take one
/** What the loop stands still for while a page is parsed is a few milliseconds so. */
const PAGE_COUNT = 100;
const CHECK_MS = 60_000; // for each so many objects:
const CHECK_COUNT = 500;
const CHECK_MS_MAX = 300_000;
const GRACE_MS = 2_000;
/** So many lists in a row that are older than what is known: the server was restored from a backup, and is right. */
const BACKWARDS_COUNT_MAX = 5;
/** Names and versions are all that a check needs; the server leaves the rest away. */
const METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
const METADATA_OF_ONE = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";

/** For how long at most a reflector of `objectCount` objects misses a change, while lists are answered in `listMs`. */
export function blindMsMax(
  { checkMs, graceMs = GRACE_MS }: Pick<ReflectorOptions, "checkMs" | "graceMs">,
  objectCount: number,
  listMs: number,
): number {
  return (checkMs ?? checkMsOf(objectCount)) + graceMs + 2 * listMs;
}

const checkMsOf = (objectCount: number): number =>
  Math.min(CHECK_MS_MAX, CHECK_MS * Math.max(1, Math.ceil(objectCount / CHECK_COUNT)));

type Listed = { readonly objects: ReadonlyMap<string, KubeObject>; readonly version: string };

export class Reflector {
  readonly #options: ReflectorOptions;
  readonly #held: ObjectsHeld;
  readonly #backOff: BackOff;
  readonly #firstList = Promise.withResolvers<void>();
  #resourceVersion: string | undefined; // undefined: a list is due
  #newest: string | undefined; // the highest version heard of
  #backwardsCount = 0;
  #synced = false;
  #lastContactMs: number;
  #distrusted: AbortController | undefined; // of the watch that runs
  /** The server forgot a list before its last page was asked for: the next is asked for in one. */
  #pagesExpired = false;
  /** Lists and watches started so far, and checks that found something left out. */
  readonly counts = { lists: 0, watches: 0, checks: 0, missed: 0 };

  constructor(options: ReflectorOptions) {
    this.#options = options;
    this.#held = new ObjectsHeld(options.onChange, options.indexBy ?? (() => undefined));
    this.#backOff = new BackOff(options.backOff ?? { leastMs: 200, mostMs: 30_000 });
    this.#lastContactMs = options.clock.monotonicMs();
  }

  /** Resolves once the first list is complete. */
  get firstList(): Promise<void> {
    return this.#firstList.promise;
  }

  get plural(): string {
    return this.#options.resource.plural;
  }

  get synced(): boolean {
    return this.#synced;
  }

  /** How long ago the server was last heard of. */
  get staleMs(): number {
    return this.#options.clock.monotonicMs() - this.#lastContactMs;
  }

  get(key: string): KubeObject | undefined {
    return this.#held.get(key);
  }

  all(): readonly KubeObject[] {
    return this.#held.all();
  }

  /** The objects for which `indexBy` says `value`. */
  indexed(value: string): readonly KubeObject[] {
    return this.#held.indexed(value);
  }

  /** Lists and watches until `signal` aborts. Rejects only where `onChange` throws. */
  async run(signal: AbortSignal): Promise<void> {
    const ended = new AbortController();
    const checking = this.#keepChecking(AbortSignal.any([signal, ended.signal]));
    try {
      await this.#follow(signal);
    } finally {
      ended.abort();
      await checking;
    }
  }

  async #follow(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        if (this.#resourceVersion === undefined) await this.#list(signal);
        else await this.#watch(this.#resourceVersion, signal);
      } catch (error) {
        if (error instanceof HandlerFailed) throw error.cause;
        if (signal.aborted) return;
        this.#failed(error);
        if (error instanceof LeftOut) continue;
        const { retryAfterMs = 0 } = error instanceof ApiError ? error : {};
        await this.#options.clock.sleep(Math.max(retryAfterMs, this.#backOff.nextMs()), signal).catch(() => undefined);
      }
    }
  }

  #failed(error: unknown): void {
    this.#trouble(error);
    // What the server sent cannot be trusted to be complete: begin anew.
    if (isStatus(error, 410) || error instanceof Garbled || error instanceof LeftOut) this.#resourceVersion = undefined;
  }

  #trouble(error: unknown): void {
    const detail = error instanceof Error ? error.message : String(error);
    this.#options.onTrouble?.(`${this.#options.resource.plural}: ${detail}`);
  }

  async #list(signal: AbortSignal): Promise<void> {
    this.counts.lists += 1;
    const { objects, version } = await this.#pages(signal, this.#options.isMetadataOnly ? METADATA_ONLY : undefined);
    if (isOlder(version, this.#newest) && (this.#backwardsCount += 1) < BACKWARDS_COUNT_MAX)
      throw new Error(`a list as of ${version} is older than ${this.#newest}, which was seen already`);
    this.#backwardsCount = 0;
    this.#backOff.reset();
    await this.#held.replaceAll(objects, turns(this.#options.clock, signal));
    this.#newest = version;
    this.#resourceVersion = version;
    this.#synced = true;
    this.#firstList.resolve();
  }

  /** Everything there is, at one moment. `accept` may ask for less of each object. */
  async #pages(signal: AbortSignal, accept?: string): Promise<Listed> {
    const { client, resource, namespace, labelSelector, clock, pageCount = PAGE_COUNT } = this.#options;
    const path = pathOf(resource, { namespace });
    const limit = this.#pagesExpired ? undefined : pageCount;
    this.#pagesExpired = false;
    const rest = turns(clock, signal);
    const objects = new Map<string, KubeObject>();
    let next: string | undefined;
    let version: unknown;
    do {
      const query = { limit, continue: next, labelSelector };
      const how = accept === undefined ? {} : { accept };
      const page = await client.request({ method: "GET", path, query, signal, ...how }).catch((error: unknown) => {
        this.#pagesExpired = next !== undefined && isStatus(error, 410);
        throw error;
      });
      this.#lastContactMs = clock.monotonicMs();
      const metadata = isJsonObject(page) ? page["metadata"] : undefined;
      const found = isJsonObject(page) ? page["items"] : undefined;
      const items = found === null ? [] : found; // how a server writes that there are none, where only names are asked for
      if (!isJsonObject(metadata) || !Array.isArray(items)) throw new Error(`a list came as ${shown(page)}`);
      for (const item of items) {
        const object = asKubeObject(item);
        objects.set(keyOf(object), object);
        const turn = rest();
        if (turn !== undefined) await turn;
      }
      version = metadata["resourceVersion"];
      next = typeof metadata["continue"] === "string" && metadata["continue"] !== "" ? metadata["continue"] : undefined;
    } while (next !== undefined);
    if (typeof version !== "string") throw new Error("a list came without a resource version");
    return { objects, version };
  }

  async #watch(resourceVersion: string, signal: AbortSignal): Promise<void> {
    this.counts.watches += 1;
    const { client, clock, resource, namespace, labelSelector, watchSeconds = 300 } = this.#options;
    const { silenceMs = SILENCE_MS } = this.#options;
    const startedAtMs = clock.monotonicMs();
    const givenUp = new AbortController();
    this.#distrusted = givenUp;
    const timer = setTimeout(() => givenUp.abort(new Error(`not a byte for ${silenceMs} ms`)), silenceMs);
    try {
      const timeoutSeconds = Math.ceil(watchSeconds * (1 + Math.random()));
      const query = { watch: true, allowWatchBookmarks: true, resourceVersion, timeoutSeconds, labelSelector };
      const path = pathOf(resource, { namespace });
      const either = AbortSignal.any([signal, givenUp.signal]);
      const how = this.#options.isMetadataOnly ? { accept: METADATA_OF_ONE } : {};
      const response = await client.open({ method: "GET", path, query, signal: either, lane: "apart", ...how });
      for await (const line of linesOf(response, () => this.#heard(timer))) {
        if (givenUp.signal.aborted) break;
        this.#take(line);
      }
      givenUp.signal.throwIfAborted();
    } catch (error) {
      if (error instanceof HandlerFailed) throw error;
      throw givenUp.signal.aborted ? givenUp.signal.reason : error;
    } finally {
      clearTimeout(timer);
      this.#distrusted = undefined;
      if (clock.monotonicMs() - startedAtMs >= LIVED_MS) this.#backOff.reset();
    }
    // Ended in good order, which is how every watch ends. Only one that ended at once, silent, is waited for.
    if (clock.monotonicMs() - startedAtMs < LIVED_MS) {
      await clock.sleep(this.#backOff.nextMs(), signal).catch(() => undefined);
    }
  }

  #heard(timer: NodeJS.Timeout): void {
    timer.refresh();
    this.#backOff.reset();
    this.#lastContactMs = this.#options.clock.monotonicMs();
  }

  #take(line: string): void {
    const event = parseEvent(line);
    const { version } = event;
    // Events come in the order of their versions: what is not newer than the last was told before, or is a ghost.
    if (version === this.#newest || isOlder(version, this.#newest)) return;
    if (event.type === "DELETED") this.#held.remove(keyOf(event.object), event.object);
    else if (event.type !== "BOOKMARK") this.#held.put(event.object);
    this.#newest = version;
    this.#resourceVersion = version;
  }

  async #keepChecking(signal: AbortSignal): Promise<void> {
    const { clock, checkMs } = this.#options;
    let pauseMs: number | undefined;
    for (;;) {
      await clock.sleep(pauseMs ?? checkMs ?? checkMsOf(this.#held.size), signal).catch(() => undefined);
      if (signal.aborted) return;
      pauseMs = undefined;
      if (this.#resourceVersion === undefined) continue; // a list is due anyway
      try {
        const detail = await this.#leftOut(signal);
        if (detail !== undefined) this.#distrust(detail);
      } catch (error) {
        if (signal.aborted) return;
        this.#trouble(error);
        pauseMs = this.#options.backOff?.leastMs ?? LIVED_MS; // an unanswered check is no check
      }
    }
  }

  /** What the watch has not told although it is so, in words. */
  async #leftOut(signal: AbortSignal): Promise<string | undefined> {
    const { clock, graceMs = GRACE_MS } = this.#options;
    this.counts.checks += 1;
    const listCount = this.counts.lists;
    return this.#held.whileNoting(async (removed) => {
      const newest = this.#newest;
      const { objects, version } = await this.#pages(signal, METADATA_ONLY);
      if (isOlder(version, newest)) return `a list as of ${version} is older than ${newest}`;
      await clock.sleep(graceMs, signal);
      if (this.counts.lists !== listCount) return undefined; // all was listed anew meanwhile
      return this.#held.behind([...objects.values()], version, removed);
    });
  }

  #distrust(detail: string): void {
    this.counts.missed += 1;
    const reason = new LeftOut(`the watch left something out: ${detail}`);
    if (this.#distrusted === undefined)
      this.#failed(reason); // between two watches
    else this.#distrusted.abort(reason);
  }
}

/** A check found what the watch should have told. */
class LeftOut extends Error {}
