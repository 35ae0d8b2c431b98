/**
 * The way to the next segment's leader: one stream per pair of processes, kept open, shared by all sessions that go
 * there. What waits to be sent is bounded by asking {@link HandOffLink.congested} before a batch is made.
 */
import type { ClientDuplexStream } from "@grpc/grpc-js";
import type { Step } from "../../core/gen/proto/tessellate/shard/v1/Step.ts";
import type { StepRefusal__Output } from "../../core/gen/proto/tessellate/shard/v1/StepRefusal.ts";
import { type Refusal, refuse } from "../../core/result.ts";
import type { Client } from "../../core/wire/proto.ts";
import { refusalOf } from "../../core/wire/status.ts";
import type { Address } from "./open-request.ts";

/** Bytes that may wait in a link before sessions that use it pause. */
const QUEUE_BYTES_MAX = 16 << 20;
/** How long a link without sessions stays open. */
const IDLE_MS = 120_000;

/** Dials a rank; `bulk` says whether much goes to it only, or comes back at the same time. */
export type DialRank = (to: Address, bulk: "one-way" | "both-ways") => Client<"ShardRuntime">;

export type LinkEvents = {
  /** The next segment, or one behind it, refused a step. */
  onRefusal(refusal: StepRefusal__Output): void;
  /** The link is gone, and with it every session that used it. Told once. */
  onLost(link: HandOffLink, refusal: Refusal): void;
  /** A congested link is so no more. */
  onDrain(): void;
};

export class HandOffLink {
  readonly to: Address;
  userCount = 0;
  idleSinceMs = 0;
  readonly #client: Client<"ShardRuntime">;
  readonly #stream: ClientDuplexStream<Step, StepRefusal__Output>;
  readonly #events: LinkEvents;
  #queuedBytes = 0;
  #congested = false;
  #lost = false;

  constructor(to: Address, client: Client<"ShardRuntime">, events: LinkEvents) {
    this.to = to;
    this.#client = client;
    this.#events = events;
    this.#stream = client.Steps();
    this.#stream.on("data", (refusal: StepRefusal__Output) => events.onRefusal(refusal));
    this.#stream.on("error", (error) => this.#lose(refusalOf(error, `rank ${to.name} at ${to.address}`)));
    this.#stream.on("end", () => this.#lose(refuse("RankLost", `rank ${to.name} at ${to.address} ended the stream`)));
  }

  get lost(): boolean {
    return this.#lost;
  }

  get congested(): boolean {
    return this.#congested;
  }

  /** Hands a step over; `data` must not change afterwards. Sending on a lost link does nothing: its users were told. */
  send(step: Step, byteCount: number): void {
    if (this.#lost) return;
    this.#queuedBytes += byteCount;
    if (this.#queuedBytes > QUEUE_BYTES_MAX) this.#congested = true;
    this.#stream.write(step, () => {
      this.#queuedBytes -= byteCount;
      if (!this.#congested || this.#queuedBytes > QUEUE_BYTES_MAX / 2) return;
      this.#congested = false;
      this.#events.onDrain();
    });
  }

  close(): void {
    this.#lost = true;
    this.#stream.cancel();
    this.#client.close();
  }

  #lose(refusal: Refusal): void {
    if (this.#lost) return;
    this.close();
    this.#events.onLost(this, refusal);
  }
}

/** The links that are open, by name and address: an old address of a replaced rank lives on until its sessions end. */
export class HandOffLinks {
  readonly #dial: DialRank;
  readonly #events: LinkEvents;
  readonly #links = new Map<string, HandOffLink>();

  constructor(dial: DialRank, events: LinkEvents) {
    this.#dial = dial;
    this.#events = {
      ...events,
      onLost: (link, refusal) => {
        this.#forget(link);
        events.onLost(link, refusal);
      },
    };
  }

  /** The link to `to`, opened if need be; the caller counts as a user until {@link release}. */
  use(to: Address): HandOffLink {
    const key = keyOf(to);
    const link = this.#links.get(key) ?? new HandOffLink(to, this.#dial(to, "one-way"), this.#events);
    this.#links.set(key, link);
    link.userCount += 1;
    return link;
  }

  release(link: HandOffLink, nowMs: number): void {
    link.userCount -= 1;
    link.idleSinceMs = nowMs;
  }

  /** Closes links that nobody has used for a while. */
  sweep(nowMs: number): void {
    for (const link of this.#links.values())
      if (link.userCount === 0 && nowMs - link.idleSinceMs > IDLE_MS) {
        link.close();
        this.#forget(link);
      }
  }

  close(): void {
    for (const link of this.#links.values()) link.close();
    this.#links.clear();
  }

  #forget(link: HandOffLink): void {
    if (this.#links.get(keyOf(link.to)) === link) this.#links.delete(keyOf(link.to));
  }
}

const keyOf = (to: Address): string => `${to.name}@${to.address}`;
