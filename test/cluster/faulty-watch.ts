/** One watch on its way through the faulty proxy, line by line. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { createInterface } from "node:readline";
import type { Fault } from "./faulty-proxy.ts";

const IDLE_MS = 300;
const REMEMBERED_COUNT_MAX = 50;
const DRIBBLE_MS = 20;
const DRIBBLE_BYTES = 200;
const GONE = { kind: "Status", apiVersion: "v1", status: "Failure", code: 410, reason: "Expired", message: "injected" };

export class WatchThrough {
  readonly response: ServerResponse;
  readonly #answer: IncomingMessage;
  readonly #slow: boolean;
  readonly #told: string[] = [];
  #next: { readonly fault: Fault; readonly happened: () => void } | undefined; // for the next event
  #idle: NodeJS.Timeout | undefined;
  #frozen = false;
  #writing = Promise.resolve();

  constructor(answer: IncomingMessage, response: ServerResponse, slow: boolean) {
    this.response = response;
    this.#answer = answer;
    this.#slow = slow;
    response.writeHead(200, { "content-type": "application/json" });
    response.flushHeaders();
    createInterface({ input: answer }).on("line", (line) => this.#line(line));
    answer.on("error", () => this.end());
    answer.on("end", () => !this.#frozen && this.end());
    response.on("close", () => answer.destroy());
  }

  /** In good order. */
  end(): void {
    if (!this.#frozen) this.#writing = this.#writing.then(() => void this.response.end());
    this.#answer.destroy();
  }

  /** Nothing more comes, not even an end. */
  freeze(): void {
    this.#frozen = true;
  }

  /** Happens with the next event; an idle-kill, once there was none for a while. */
  inject(fault: Fault, happened: () => void): void {
    if (fault !== "idle-kill") {
      this.#next = { fault, happened };
      return;
    }
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => {
      happened();
      this.response.socket?.destroy();
    }, IDLE_MS);
  }

  #line(line: string): void {
    if (this.#frozen || this.response.writableEnded) return;
    this.#idle?.refresh();
    const next = line.includes('"type":"BOOKMARK"') ? undefined : this.#next;
    if (next !== undefined) {
      this.#next = undefined;
      next.happened();
    }
    switch (next?.fault) {
      case "dropped":
        return;
      case "told-twice":
        this.#write(line);
        for (const each of this.#told) this.#write(each);
        this.#write(line);
        break;
      case "ghosts":
        for (const each of this.#told) this.#write(each);
        this.#write(line);
        break;
      case "gone-within":
        this.#write(JSON.stringify({ type: "ERROR", object: GONE }));
        this.end();
        return;
      case "half-line":
        this.#writing = this.#writing.then(() => void this.response.write(line.slice(0, line.length / 2)));
        this.end();
        return;
      default:
        this.#write(line);
    }
    this.#told.push(line);
    if (this.#told.length > REMEMBERED_COUNT_MAX) this.#told.shift();
  }

  #write(line: string): void {
    const bytes = Buffer.from(`${line}\n`);
    this.#writing = this.#writing.then(async () => {
      const step = this.#slow ? DRIBBLE_BYTES : bytes.length;
      for (let start = 0; start < bytes.length && !this.response.destroyed; start += step) {
        this.response.write(bytes.subarray(start, start + step));
        if (this.#slow) await new Promise((resolve) => setTimeout(resolve, DRIBBLE_MS));
      }
    });
  }
}
