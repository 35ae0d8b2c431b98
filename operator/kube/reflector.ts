/**
 * Keeps a copy of all objects of one kind, and says what changed. List in pages, then watch; whatever breaks, it goes
 * on from what it has: a broken or silent connection is made anew, a resource version that is too old leads to a new
 * list, and what vanished meanwhile is reported from the difference.
 *
 * Three things end a silence: the server ends each watch after a few minutes, it sends a bookmark about every minute,
 * and a connection without a byte for longer than that is given up. So the copy is stale for at most `silenceMs`.
 */
import { StringDecoder } from "node:string_decoder";
import type { Clock } from "../../core/clock.ts";
import { isJsonObject, parseJson, shown } from "../../core/json.ts";
import { BackOff } from "./back-off.ts";
import { ApiError, type KubeClient, type Query, isStatus } from "./client.ts";
import { type KubeObject, type Resource, asKubeObject, keyOf, pathOf } from "./objects.ts";

export type Change =
  | { readonly type: "added"; readonly object: KubeObject }
  | { readonly type: "changed"; readonly object: KubeObject; readonly before: KubeObject }
  | { readonly type: "deleted"; readonly object: KubeObject };

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
  readonly pageCount?: number; // objects in a page of a list
  readonly watchSeconds?: number; // after which the server ends a watch; jittered upwards by as much again
  readonly silenceMs?: number; // without a byte, after which a connection is given up
  readonly backOff?: { readonly leastMs: number; readonly mostMs: number };
};

/** A watch that lived this long was no failure, even if not a byte came. */
const LIVED_MS = 1_000;
const LINE_LENGTH_MAX = 32 << 20;

export class Reflector {
  readonly #options: ReflectorOptions;
  readonly #objects = new Map<string, KubeObject>();
  readonly #index = new Map<string, Map<string, KubeObject>>();
  readonly #backOff: BackOff;
  readonly #firstList = Promise.withResolvers<void>();
  #resourceVersion: string | undefined; // undefined: a list is due
  #synced = false;
  #lastContactMs: number;
  /** Lists and watches started so far. */
  readonly counts = { lists: 0, watches: 0 };

  constructor(options: ReflectorOptions) {
    this.#options = options;
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
    return this.#objects.get(key);
  }

  all(): readonly KubeObject[] {
    return [...this.#objects.values()];
  }

  /** The objects for which `indexBy` says `value`. */
  indexed(value: string): readonly KubeObject[] {
    return [...(this.#index.get(value)?.values() ?? [])];
  }

  /** Lists and watches until `signal` aborts. Rejects only where `onChange` throws. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        if (this.#resourceVersion === undefined) await this.#list(signal);
        else await this.#watch(this.#resourceVersion, signal);
      } catch (error) {
        if (error instanceof HandlerFailed) throw error.cause;
        if (signal.aborted) return;
        this.#failed(error);
        const { retryAfterMs = 0 } = error instanceof ApiError ? error : {};
        await this.#options.clock.sleep(Math.max(retryAfterMs, this.#backOff.nextMs()), signal).catch(() => undefined);
      }
    }
  }

  #failed(error: unknown): void {
    const detail = error instanceof Error ? error.message : String(error);
    this.#options.onTrouble?.(`${this.#options.resource.plural}: ${detail}`);
    // What the server sent cannot be trusted to be complete: begin anew.
    if (isStatus(error, 410) || error instanceof Garbled) this.#resourceVersion = undefined;
  }

  async #list(signal: AbortSignal): Promise<void> {
    this.counts.lists += 1;
    const found = new Map<string, KubeObject>();
    const { pageCount = 500 } = this.#options;
    let next: string | undefined;
    let resourceVersion: unknown;
    do {
      const page = await this.#request({ limit: pageCount, continue: next }, signal);
      const metadata = isJsonObject(page) ? page["metadata"] : undefined;
      const items = isJsonObject(page) ? page["items"] : undefined;
      if (!isJsonObject(metadata) || !Array.isArray(items)) throw new Error(`a list came as ${shown(page)}`);
      for (const item of items) {
        const object = asKubeObject(item);
        found.set(keyOf(object), object);
      }
      resourceVersion = metadata["resourceVersion"];
      next = typeof metadata["continue"] === "string" && metadata["continue"] !== "" ? metadata["continue"] : undefined;
    } while (next !== undefined);
    if (typeof resourceVersion !== "string") throw new Error("a list came without a resource version");
    this.#backOff.reset();
    for (const key of [...this.#objects.keys()]) if (!found.has(key)) this.#remove(key);
    for (const object of found.values()) this.#put(object);
    this.#resourceVersion = resourceVersion;
    this.#synced = true;
    this.#firstList.resolve();
  }

  async #request(query: Query, signal: AbortSignal): Promise<unknown> {
    const { client, resource, namespace, labelSelector, clock } = this.#options;
    const path = pathOf(resource, { namespace });
    const answer = await client.request({ method: "GET", path, query: { ...query, labelSelector }, signal });
    this.#lastContactMs = clock.monotonicMs();
    return answer;
  }

  async #watch(resourceVersion: string, signal: AbortSignal): Promise<void> {
    this.counts.watches += 1;
    const {
      client,
      clock,
      resource,
      namespace,
      labelSelector,
      watchSeconds = 300,
      silenceMs = 150_000,
    } = this.#options;
    const startedAtMs = clock.monotonicMs();
    const silence = new AbortController();
    const timer = setTimeout(() => silence.abort(new Error(`not a byte for ${silenceMs} ms`)), silenceMs);
    try {
      const timeoutSeconds = Math.ceil(watchSeconds * (1 + Math.random()));
      const query = { watch: true, allowWatchBookmarks: true, resourceVersion, timeoutSeconds, labelSelector };
      const path = pathOf(resource, { namespace });
      const response = await client.open({
        method: "GET",
        path,
        query,
        signal: AbortSignal.any([signal, silence.signal]),
      });
      for await (const line of linesOf(response, () => this.#heard(timer))) this.#take(line);
    } catch (error) {
      if (error instanceof HandlerFailed) throw error;
      throw silence.signal.aborted ? silence.signal.reason : error;
    } finally {
      clearTimeout(timer);
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
    const event = parseJson(line);
    if (!isJsonObject(event) || !isJsonObject(event["object"])) throw new Garbled(`a watch sent ${shown(line)}`);
    const { type, object } = event;
    if (type === "ERROR") {
      const status = isJsonObject(object) ? Number(object["code"] ?? 0) : 0;
      throw new ApiError(status, "Watch", `the watch ended with ${shown(object)}`);
    }
    if (type === "BOOKMARK") {
      this.#resourceVersion = versionOf(object);
      return;
    }
    const read = objectIn(object);
    if (type === "DELETED") this.#remove(keyOf(read), read);
    else if (type === "ADDED" || type === "MODIFIED") this.#put(read);
    else throw new Garbled(`a watch sent an event of the unknown type ${shown(type)}`);
    this.#resourceVersion = versionOf(object);
  }

  #put(object: KubeObject): void {
    const key = keyOf(object);
    const before = this.#objects.get(key);
    if (before?.metadata.resourceVersion === object.metadata.resourceVersion && before !== undefined) return;
    if (before !== undefined && before.metadata.uid !== object.metadata.uid) {
      this.#remove(key); // deleted and made anew while nobody watched: two objects, two stories
      this.#put(object);
      return;
    }
    this.#objects.set(key, object);
    if (before !== undefined) this.#unindex(key, before);
    const value = this.#options.indexBy?.(object);
    if (value !== undefined) {
      const entries = this.#index.get(value) ?? new Map<string, KubeObject>();
      this.#index.set(value, entries.set(key, object));
    }
    this.#tell(before === undefined ? { type: "added", object } : { type: "changed", object, before });
  }

  #remove(key: string, last?: KubeObject): void {
    const before = this.#objects.get(key);
    if (before === undefined) return;
    this.#objects.delete(key);
    this.#unindex(key, before);
    this.#tell({ type: "deleted", object: last ?? before });
  }

  #unindex(key: string, object: KubeObject): void {
    const value = this.#options.indexBy?.(object);
    const entries = value === undefined ? undefined : this.#index.get(value);
    entries?.delete(key);
    if (value !== undefined && entries?.size === 0) this.#index.delete(value);
  }

  #tell(change: Change): void {
    try {
      this.#options.onChange(change);
    } catch (cause) {
      throw new HandlerFailed("a change handler threw", { cause });
    }
  }
}

/** What came over the watch makes no sense, so what came before may have been incomplete. */
class Garbled extends Error {}

/** Our own handler threw: no weather, so not to be retried. */
class HandlerFailed extends Error {}

function objectIn(value: unknown): KubeObject {
  try {
    return asKubeObject(value);
  } catch (cause) {
    throw new Garbled(`a watch sent ${shown(value)}`, { cause });
  }
}

function versionOf(object: unknown): string {
  const metadata = isJsonObject(object) ? object["metadata"] : undefined;
  const version = isJsonObject(metadata) ? metadata["resourceVersion"] : undefined;
  if (typeof version !== "string") throw new Garbled("a watch sent an object without a resource version");
  return version;
}

/** Complete lines of a stream; a last line without an end is half an event, and dropped. */
async function* linesOf(stream: AsyncIterable<Buffer>, onBytes: () => void): AsyncGenerator<string> {
  const decoder = new StringDecoder("utf8");
  let rest = "";
  for await (const chunk of stream) {
    onBytes();
    rest += decoder.write(chunk);
    let end = rest.indexOf("\n");
    let start = 0;
    for (; end >= 0; end = rest.indexOf("\n", start)) {
      const line = rest.slice(start, end);
      start = end + 1;
      if (line.trim() !== "") yield line;
    }
    rest = rest.slice(start);
    if (rest.length > LINE_LENGTH_MAX)
      throw new Garbled(`a watch sent a line longer than ${LINE_LENGTH_MAX} characters`);
  }
}
