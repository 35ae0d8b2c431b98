/**
 * Events for people: what the operator did to an object, and how its conditions turned. The same event again within a
 * few minutes raises the count of the first. An event that cannot be written is not worth an error, and nobody waits for
 * one: they are written one after the other, warnings first, and what is normal waits while there is work to do. Each
 * bears the time at which it happened.
 */
import { randomBytes } from "node:crypto";
import type { WallClock } from "../clock.ts";
import { type KubeClient, isStatus } from "./client.ts";
import { microTime } from "./lease.ts";
import { EVENTS, type KubeObject, apiVersionOf, type Resource } from "./objects.ts";

export type Happening = {
  readonly type: "Normal" | "Warning";
  readonly reason: string; // CamelCase
  readonly action: string; // CamelCase: what was being done
  readonly note: string;
};

const SERIES_MS = 6 * 60_000;
const NOTE_LENGTH_MAX = 1_000;
const REMEMBERED_COUNT_MAX = 4_000;
/** More than this are not worth their memory. */
const WAITING_COUNT_MAX = 20_000;
const BUSY_MS_MAX = 120_000;
const LOOK_MS = 100;

type Waiting = {
  readonly resource: Resource;
  readonly object: KubeObject;
  readonly happening: Happening;
  readonly atMs: number; // since 1970
};

export type EventRecorderOptions = {
  readonly client: Pick<KubeClient, "create" | "patch">;
  readonly clock: WallClock;
  readonly instance: string; // this process, such as its pod's name
  readonly onTrouble?: (detail: string) => void;
  /** While this holds, events of what is normal wait: two minutes at most. */
  readonly isBusy?: () => boolean;
};

const isNormal = ({ happening }: Waiting): boolean => happening.type === "Normal";

type Known = { readonly name: string; readonly namespace: string; count: number; atMs: number };

export class EventRecorder {
  readonly #options: EventRecorderOptions;
  readonly #known = new Map<string, Known>();
  readonly #waiting: Waiting[] = [];
  #writing: Promise<void> | undefined;
  #closed = false;

  constructor(options: EventRecorderOptions) {
    this.#options = options;
  }

  /** An event about `object` is written soon. Never throws. */
  record(resource: Resource, object: KubeObject, happening: Happening): void {
    if (this.#closed || this.#waiting.length >= WAITING_COUNT_MAX) return;
    const atMs = this.#options.clock.wallMs();
    const note = happening.note.slice(0, NOTE_LENGTH_MAX);
    // Of the object only what names it: whole models would be kept alive.
    const { name, namespace, uid } = object.metadata;
    const metadata = { name, ...(namespace === undefined ? {} : { namespace }), ...(uid === undefined ? {} : { uid }) };
    const waiting = { resource, object: { metadata }, happening: { ...happening, note }, atMs };
    const place = isNormal(waiting) ? -1 : this.#waiting.findIndex(isNormal);
    this.#waiting.splice(place < 0 ? this.#waiting.length : place, 0, waiting);
    this.#writing ??= this.#writeAll().finally(() => (this.#writing = undefined));
  }

  /** Resolves once all that was recorded has been written, or could not be. */
  async written(): Promise<void> {
    while (this.#writing !== undefined) await this.#writing;
  }

  /** Resolves once nothing is written any more; what waited is dropped. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.written();
  }

  async #writeAll(): Promise<void> {
    const { clock, isBusy = () => false } = this.#options;
    for (let next = this.#waiting[0]; next !== undefined && !this.#closed; next = this.#waiting[0]) {
      if (isNormal(next) && isBusy() && clock.wallMs() - next.atMs < BUSY_MS_MAX) {
        await clock.sleep(LOOK_MS);
        continue; // a warning may have come meanwhile
      }
      const { reason } = next.happening;
      this.#waiting.shift();
      await this.#write(next).catch((error: unknown) => {
        const detail = error instanceof Error ? error.message : String(error);
        this.#options.onTrouble?.(`event ${reason}: ${detail}`);
      });
    }
    if (this.#closed) this.#waiting.length = 0;
  }

  async #write({ resource, object, happening, atMs: nowMs }: Waiting): Promise<void> {
    const { client, instance } = this.#options;
    const { name, namespace, uid } = object.metadata;
    const key = JSON.stringify([uid, happening.reason, happening.note]);
    const known = this.#known.get(key);
    if (known !== undefined && nowMs - known.atMs < SERIES_MS) {
      known.count += 1;
      known.atMs = nowMs;
      const series = { count: known.count, lastObservedTime: microTime(nowMs) };
      const isThere = await client.patch(EVENTS, known, { series }).then(
        () => true,
        (error: unknown) => {
          if (isStatus(error, 404)) return false; // events do not live for long, and anybody may clear them away
          throw error;
        },
      );
      if (isThere) return;
    }
    const event = await client.create(EVENTS, {
      metadata: { name: `${name}.${randomBytes(6).toString("hex")}`, namespace: namespace ?? "default" },
      eventTime: microTime(nowMs),
      reportingController: "tessellate.dev/operator",
      reportingInstance: instance,
      ...happening,
      regarding: {
        apiVersion: apiVersionOf(resource),
        kind: resource.kind,
        name,
        ...(namespace === undefined ? {} : { namespace }),
        ...(uid === undefined ? {} : { uid }),
      },
    });
    if (this.#known.size >= REMEMBERED_COUNT_MAX) this.#known.clear();
    this.#known.set(key, {
      name: event.metadata.name,
      namespace: event.metadata.namespace ?? "default",
      count: 1,
      atMs: nowMs,
    });
  }
}
