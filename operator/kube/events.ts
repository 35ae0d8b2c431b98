/**
 * Events for people: what the operator did to an object, and how its conditions turned. The same event again within a
 * few minutes raises the count of the first. An event that cannot be written is not worth an error.
 */
import { randomBytes } from "node:crypto";
import type { WallClock } from "../clock.ts";
import type { KubeClient } from "./client.ts";
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
const REMEMBERED_COUNT_MAX = 1_000;

type Known = { readonly name: string; readonly namespace: string; count: number; atMs: number };

export class EventRecorder {
  readonly #client: KubeClient;
  readonly #clock: WallClock;
  readonly #instance: string;
  readonly #known = new Map<string, Known>();
  readonly #onTrouble: (detail: string) => void;

  /** `instance`: this process, such as its pod's name. */
  constructor(client: KubeClient, clock: WallClock, instance: string, onTrouble: (detail: string) => void = () => {}) {
    this.#client = client;
    this.#clock = clock;
    this.#instance = instance;
    this.#onTrouble = onTrouble;
  }

  /** Writes an event about `object`. Never throws. */
  async record(resource: Resource, object: KubeObject, happening: Happening): Promise<void> {
    try {
      await this.#write(resource, object, { ...happening, note: happening.note.slice(0, NOTE_LENGTH_MAX) });
    } catch (error) {
      this.#onTrouble(`event ${happening.reason}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  async #write(resource: Resource, object: KubeObject, happening: Happening): Promise<void> {
    const { name, namespace, uid } = object.metadata;
    const key = JSON.stringify([uid, happening.reason, happening.note]);
    const nowMs = this.#clock.wallMs();
    const known = this.#known.get(key);
    if (known !== undefined && nowMs - known.atMs < SERIES_MS) {
      known.count += 1;
      known.atMs = nowMs;
      await this.#client.patch(EVENTS, known, { series: { count: known.count, lastObservedTime: microTime(nowMs) } });
      return;
    }
    const event = await this.#client.create(EVENTS, {
      metadata: { name: `${name}.${randomBytes(6).toString("hex")}`, namespace: namespace ?? "default" },
      eventTime: microTime(nowMs),
      reportingController: "tessellate.dev/operator",
      reportingInstance: this.#instance,
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
