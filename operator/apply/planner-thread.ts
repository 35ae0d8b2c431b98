/**
 * Plans in one thread of its own, one world at a time. A thread that ends costs the plan that it was at, which is
 * weather; the next world starts another. A world that is asked about again, which is what every look at a settled
 * model does, is answered from memory.
 */
import { deserialize, serialize } from "node:v8";
import { Worker } from "node:worker_threads";
import { Bug } from "../../core/assert.ts";
import type { Clock } from "../../core/clock.ts";
import { digestOf } from "../../core/digest.ts";
import type { Plan, World } from "../plan/types.ts";
import type { Planner } from "./planner.ts";

/** What the thread answers: a plan as bytes, or what went wrong. */
export type Answer =
  | { readonly ok: true; readonly plan: Uint8Array<ArrayBuffer> }
  | { readonly ok: false; readonly isBug: boolean; readonly detail: string };

export type PlannerThreadOptions = {
  readonly clock: Clock;
  readonly patienceMs?: number; // with one world
  readonly rememberedBytesMax?: number; // of plans
  readonly body?: URL;
};

const BODY = new URL("./planner-thread-body.ts", import.meta.url);
/** Ten times what the largest world that we promise anything about takes. */
const PATIENCE_MS = 150_000;
const REMEMBERED_BYTES_MAX = 64 << 20;

/** An abort without a reason makes one, with its stack. */
const ANSWERED = new Error("answered");

type Asked = { readonly resolve: (answer: Answer) => void; readonly reject: (error: Error) => void };

export class PlannerThread implements Planner {
  readonly #options: PlannerThreadOptions;
  readonly #remembered: Remembered;
  #thread: Worker | undefined;
  #asked: Asked | undefined;
  #turns: Promise<unknown> = Promise.resolve();
  #closed = false;

  constructor(options: PlannerThreadOptions) {
    this.#options = options;
    this.#remembered = new Remembered(options.rememberedBytesMax ?? REMEMBERED_BYTES_MAX);
  }

  async plan(world: World): Promise<Plan> {
    const bytes = serialize(world);
    const digest = digestOf(bytes);
    const known = this.#remembered.get(digest);
    if (known !== undefined) return deserialize(known) as Plan;
    const turn = this.#turns.then(() => this.#ask(bytes));
    this.#turns = turn.catch(() => undefined);
    const answer = await turn;
    if (answer.ok) {
      this.#remembered.set(digest, answer.plan);
      return deserialize(answer.plan) as Plan;
    }
    if (answer.isBug) throw new Bug(answer.detail);
    throw new Error(`planning failed: ${answer.detail}`);
  }

  /** Who still waits is refused. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#thread?.terminate();
    await this.#turns;
  }

  /** `world` is the thread's from then on. */
  async #ask(world: Uint8Array<ArrayBuffer>): Promise<Answer> {
    if (this.#closed) throw new Error("the planner is closed");
    const { clock, patienceMs = PATIENCE_MS } = this.#options;
    const thread = (this.#thread ??= this.#start());
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    this.#asked = { resolve, reject };
    const answered = new AbortController();
    clock.sleep(patienceMs, answered.signal).then(
      () => {
        this.#thread = undefined;
        reject(new Error(`no plan after ${patienceMs / 1000} s: its thread is started anew`));
        void thread.terminate();
      },
      () => undefined, // answered
    );
    thread.postMessage(world, [world.buffer]);
    try {
      return await promise;
    } finally {
      this.#asked = undefined;
      answered.abort(ANSWERED);
    }
  }

  #start(): Worker {
    const thread = new Worker(this.#options.body ?? BODY);
    const ended = (cause: unknown) => {
      if (this.#thread !== thread) return; // told already
      this.#thread = undefined;
      this.#asked?.reject(new Error("the planner's thread ended: it is started anew for the next plan", { cause }));
    };
    thread.on("message", (answer: Answer) => this.#asked?.resolve(answer));
    thread.on("error", ended);
    thread.on("exit", (code) => ended(new Error(`exit code ${code}`)));
    return thread;
  }
}

/** Plans as bytes by their world's digest, the least recently asked for given up first. */
class Remembered {
  readonly #bytesMax: number;
  readonly #plans = new Map<string, Uint8Array>();
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get(digest: string): Uint8Array | undefined {
    const plan = this.#plans.get(digest);
    if (plan === undefined) return undefined;
    this.#plans.delete(digest);
    this.#plans.set(digest, plan);
    return plan;
  }

  set(digest: string, plan: Uint8Array): void {
    this.#bytes += plan.byteLength - (this.#plans.get(digest)?.byteLength ?? 0);
    this.#plans.set(digest, plan);
    for (const [oldest, { byteLength }] of this.#plans) {
      if (this.#bytes <= this.#bytesMax) return;
      this.#plans.delete(oldest);
      this.#bytes -= byteLength;
    }
  }
}
