/** A stream of server-sent events to one client, at the pace at which it reads. */
import type { ServerResponse } from "node:http";
import { type Doors, within } from "../doors.ts";

/** A client that takes nothing for so long holds a slot that others wait for. */
const STALL_MS = 60_000;

export class EventStream {
  readonly #response: ServerResponse;
  readonly #clock: Doors["clock"];
  #begun = false;
  #lastMs: number;

  constructor(response: ServerResponse, clock: Doors["clock"]) {
    this.#response = response;
    this.#clock = clock;
    this.#lastMs = clock.monotonicMs();
  }

  /** Whether the status is out, so that an error can only come as an event. */
  get begun(): boolean {
    return this.#begun;
  }

  /** Milliseconds since anything was sent. */
  get quietMs(): number {
    return this.#clock.monotonicMs() - this.#lastMs;
  }

  begin(): void {
    if (this.#begun) return;
    this.#begun = true;
    // x-accel-buffering: reverse proxies that gather replies would turn a stream into one late block.
    this.#response.writeHead(200, {
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-cache",
      connection: "keep-alive",
      "x-accel-buffering": "no",
    });
    this.#response.socket?.setNoDelay(true);
    this.#response.flushHeaders();
  }

  async event(data: object): Promise<void> {
    await this.#write(`data: ${JSON.stringify(data)}\n\n`);
  }

  /** A line that clients pass over, so that proxies on the way do not take silence for death. */
  async ping(): Promise<void> {
    await this.#write(": waiting\n\n");
  }

  async end(): Promise<void> {
    await this.#write("data: [DONE]\n\n");
    this.#response.end();
  }

  async #write(text: string): Promise<void> {
    this.begin();
    this.#lastMs = this.#clock.monotonicMs();
    if (this.#response.destroyed || this.#response.write(text)) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const events = ["drain", "close"] as const;
    for (const event of events) this.#response.once(event, resolve);
    const outcome = await within(this.#clock, STALL_MS, promise);
    for (const event of events) this.#response.off(event, resolve);
    if (outcome === "late") this.#response.destroy();
  }
}
