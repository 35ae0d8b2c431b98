/**
 * The engine on its own thread, so that the event loop that serves gRPC never waits for arithmetic. Calls go over in
 * messages, one at a time and in order. An all-reduce happens in shared memory: the engine's thread leaves its partial
 * sum there and sleeps on a word of it, this thread exchanges and adds, and wakes it.
 */
import type { Worker } from "node:worker_threads";
import { assert } from "../../core/assert.ts";
import { RefusalError, refuse } from "../../core/result.ts";
import type { Batch, EngineFacts, Output } from "./engine.ts";
import { takeWorker } from "./engine-worker.ts";
import type { EngineOptions } from "./ort-engine.ts";
import { keepLibrary } from "./ort.ts";

export type EngineThreadOptions = Omit<EngineOptions, "shareMemory"> & {
  readonly exchangeTimeoutMs?: number; // how long the engine waits for one all-reduce; default 60,000
};

/**
 * One all-reduce, called on the main thread while the engine waits. `partial` is this rank's share, f32
 * [rows, hiddenSize], in shared memory: put the sum over all ranks, added in rank order (reduce.ts), into it and
 * resolve. A rejection fails the batch with the same error. `exchangeIndex` counts from 0 within the batch.
 */
export type Exchange = (partial: Float32Array, exchangeIndex: number) => Promise<void>;

export interface EngineThread {
  readonly facts: EngineFacts;
  readonly freeSlotCount: number; // of what was acquired and released so far, calls under way included
  /** Rejects with a RefusalError: NoFreeSlot. A session that has a slot keeps it. */
  acquire(session: string): Promise<void>;
  /** Never refuses: releasing a session that has no slot is not an error. */
  release(session: string): Promise<void>;
  /**
   * Runs one batch. Calls of all kinds run in the order in which they were made. `exchange` must be given where the
   * segment has more than one rank. Rejects with a RefusalError (code of EngineCode) where the engine refuses; every
   * session is then as it was before, and so it is where an exchange fails.
   */
  run(batch: Batch, exchange?: Exchange): Promise<Output>;
  /** Finishes what runs (10 s at most), fails what waits with `EngineClosed`, frees the engine and ends the thread. */
  close(): Promise<void>;
  /** Resolves when the thread has ended, with the error that ended it unless it was closed. */
  readonly ended: Promise<Error | undefined>;
}

/** What goes to the thread first. */
export type EngineLoad = EngineThreadOptions & { readonly exchangeTimeoutMs: number };

/** What goes to the thread after that. */
export type EngineCall =
  | { readonly call: "acquire" | "release"; readonly session: string }
  | { readonly call: "run"; readonly batch: Batch }
  | { readonly call: "close" };

/** What comes back: for each call a `done` or a `failed`, before that any number of `exchange`. */
export type EngineReply =
  | { readonly reply: "loaded"; readonly facts: EngineFacts; readonly signal: SharedArrayBuffer }
  | { readonly reply: "done"; readonly output?: Output }
  | { readonly reply: "failed"; readonly code?: string; readonly message: string }
  | { readonly reply: "exchange"; readonly exchangeIndex: number; readonly partial: Float32Array };

/** States of the shared word, an i32. */
export const SIGNAL = { waiting: 0, added: 1, failed: 2 } as const;

const EXCHANGE_TIMEOUT_MS = 60_000;
const CLOSE_TIMEOUT_MS = 10_000;

type Waiting = {
  readonly call: EngineCall;
  readonly exchange: Exchange | undefined;
  readonly resolve: (output: Output | undefined) => void;
  readonly reject: (cause: unknown) => void;
  exchangeFailure?: unknown;
};

/** Starts the thread and loads the shard. Rejects with a RefusalError that names file or device, or with weather. */
export async function startEngineThread(options: EngineThreadOptions): Promise<EngineThread> {
  keepLibrary(options.libraryPath);
  const thread = takeWorker();
  thread.postMessage({ exchangeTimeoutMs: EXCHANGE_TIMEOUT_MS, ...options } satisfies EngineLoad);
  const loaded = await new Promise<Extract<EngineReply, { reply: "loaded" }>>((resolve, reject) => {
    thread.once("error", reject);
    thread.once("exit", () => reject(new Error("the engine's thread ended while it loaded the shard")));
    thread.once("message", (reply: EngineReply) => {
      if (reply.reply === "loaded") resolve(reply);
      else reject(reply.reply === "failed" ? errorOf(reply) : new Error("the engine's thread spoke out of turn"));
    });
  }).catch(async (cause: unknown) => {
    await thread.terminate();
    throw cause;
  });
  // Not all listeners: the thread's own are among them, and without those no message comes any more.
  for (const event of ["error", "exit", "message"]) thread.removeAllListeners(event);
  return new ThreadProxy(thread, loaded);
}

const errorOf = ({ code, message }: Extract<EngineReply, { reply: "failed" }>): Error =>
  code === undefined ? new Error(message) : new RefusalError(refuse(code, message));

class ThreadProxy implements EngineThread {
  readonly facts: EngineFacts;
  readonly ended: Promise<Error | undefined>;
  readonly #thread: Worker;
  readonly #signal: Int32Array;
  readonly #waiting: Waiting[] = []; // the first one is with the thread
  readonly #sessions = new Set<string>();
  #closing: Promise<void> | undefined;
  #failure: Error | undefined;

  constructor(thread: Worker, loaded: Extract<EngineReply, { reply: "loaded" }>) {
    this.#thread = thread;
    this.facts = loaded.facts;
    this.#signal = new Int32Array(loaded.signal);
    thread.on("message", (reply: EngineReply) => this.#receive(reply));
    thread.on("error", (cause) => {
      this.#failure ??= cause instanceof Error ? cause : new Error(String(cause));
    });
    this.ended = new Promise((resolve) => {
      thread.on("exit", (exitCode) => {
        if (this.#closing === undefined)
          this.#failure ??= new Error(`the engine's thread ended by itself with exit code ${exitCode}`);
        this.#failAll(this.#failure ?? closed());
        resolve(this.#failure);
      });
    });
  }

  get freeSlotCount(): number {
    return this.facts.slotCount - this.#sessions.size;
  }

  async acquire(session: string): Promise<void> {
    const had = this.#sessions.has(session);
    this.#sessions.add(session);
    try {
      await this.#call({ call: "acquire", session });
    } catch (cause) {
      if (!had) this.#sessions.delete(session);
      throw cause;
    }
  }

  async release(session: string): Promise<void> {
    this.#sessions.delete(session);
    await this.#call({ call: "release", session });
  }

  async run(batch: Batch, exchange?: Exchange): Promise<Output> {
    assert(exchange !== undefined || this.facts.rankCount === 1, "ranks of a segment exchange partial sums");
    const output = await this.#call({ call: "run", batch }, exchange);
    assert(output !== undefined, "a batch has an output");
    return output;
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const running = this.#waiting[0];
    for (const call of this.#waiting.splice(1)) call.reject(closed());
    const timer = setTimeout(() => void this.#thread.terminate(), CLOSE_TIMEOUT_MS);
    if (running === undefined) this.#thread.postMessage({ call: "close" } satisfies EngineCall);
    await this.ended;
    clearTimeout(timer);
  }

  #call(call: EngineCall, exchange?: Exchange): Promise<Output | undefined> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    if (this.#closing !== undefined) return Promise.reject(closed());
    return new Promise((resolve, reject) => {
      this.#waiting.push({ call, exchange, resolve, reject });
      if (this.#waiting.length === 1) this.#thread.postMessage(call);
    });
  }

  #receive(reply: EngineReply): void {
    const current = this.#waiting[0];
    if (current === undefined || reply.reply === "loaded") return;
    if (reply.reply === "exchange") {
      this.#startExchange(current, reply.partial, reply.exchangeIndex);
      return;
    }
    this.#waiting.shift();
    const next = this.#waiting[0]?.call ?? (this.#closing === undefined ? undefined : ({ call: "close" } as const));
    if (next !== undefined) this.#thread.postMessage(next);
    if (reply.reply === "done") current.resolve(reply.output);
    else current.reject(current.exchangeFailure ?? errorOf(reply));
  }

  #startExchange(current: Waiting, partial: Float32Array, exchangeIndex: number): void {
    const { exchange } = current;
    assert(exchange !== undefined, "only a segment of several ranks exchanges");
    Promise.resolve()
      .then(() => exchange(partial, exchangeIndex))
      .then(
        () => this.#wake(current, SIGNAL.added),
        (cause: unknown) => {
          current.exchangeFailure = cause;
          this.#wake(current, SIGNAL.failed);
        },
      );
  }

  /** An exchange that ends after its batch was given up must not wake the next one. */
  #wake(current: Waiting, state: number): void {
    if (this.#waiting[0] !== current) return;
    Atomics.store(this.#signal, 0, state);
    Atomics.notify(this.#signal, 0);
  }

  #failAll(cause: Error): void {
    for (const call of this.#waiting.splice(0)) call.reject(cause);
  }
}

const closed = (): RefusalError => new RefusalError(refuse("EngineClosed", "this rank is closing; ask another"));
