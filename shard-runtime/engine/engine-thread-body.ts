/** What runs on the engine's own thread: one engine, one call at a time. See engine-thread.ts for the other side. */
import { parentPort } from "node:worker_threads";
import { present } from "../../core/assert.ts";
import { RefusalError, valueOrThrow } from "../../core/result.ts";
import type { Batch, Output, ShardEngine } from "./engine.ts";
import { type EngineCall, type EngineLoad, type EngineReply, SIGNAL } from "./engine-thread.ts";
import { loadEngine } from "./ort-engine.ts";
import { keepLibrary } from "./ort.ts";
import { waitWhile } from "./wait-while.ts";

const port = present(parentPort, "this file runs as a thread");
const signal = new Int32Array(new SharedArrayBuffer(4));

const send = (reply: EngineReply, transfer: readonly ArrayBuffer[] = []) => port.postMessage(reply, transfer);

function sendFailure(cause: unknown): void {
  const message = cause instanceof Error ? cause.message : String(cause);
  send(cause instanceof RefusalError ? { reply: "failed", code: cause.code, message } : { reply: "failed", message });
}

/** Runs a batch and sleeps through every exchange. */
function run(engine: ShardEngine, batch: Batch, exchangeTimeoutMs: number): Output {
  const forward = engine.forward(batch);
  for (let exchangeIndex = 0; ; exchangeIndex += 1) {
    const next = forward.next();
    if (next.done === true) return next.value;
    Atomics.store(signal, 0, SIGNAL.waiting);
    send({ reply: "exchange", exchangeIndex, partial: next.value });
    if (waitWhile(signal, SIGNAL.waiting, exchangeTimeoutMs) === "timed-out")
      throw new Error(`the ranks of this segment did not add up within ${exchangeTimeoutMs} ms`);
    if (Atomics.load(signal, 0) === SIGNAL.failed)
      throw new Error("an exchange between the ranks of this segment failed");
  }
}

async function serve(options: EngineLoad): Promise<void> {
  const engine = await loadEngine({ ...options, shareMemory: true });
  port.on("message", (call: EngineCall) => {
    try {
      if (call.call === "close") {
        engine.close();
        port.close();
      } else if (call.call === "run") {
        const output = run(engine, call.batch, options.exchangeTimeoutMs);
        send({ reply: "done", output }, transferable(output));
      } else {
        if (call.call === "acquire") valueOrThrow(engine.acquire(call.session));
        else engine.release(call.session);
        send({ reply: "done" });
      }
    } catch (cause) {
      sendFailure(cause);
    }
  });
  send({ reply: "loaded", facts: engine.facts, signal: signal.buffer });
}

/** Buffers that move to the other thread instead of being copied; the shared empty one stays. */
function transferable(output: Output): readonly ArrayBuffer[] {
  return [output.hidden, output.logits].flatMap(({ buffer }) =>
    buffer instanceof ArrayBuffer && buffer.byteLength > 0 ? [buffer] : [],
  );
}

// While nobody knows yet what to load: later its pages would wait behind those of the shard.
keepLibrary();

port.once("message", (options: EngineLoad) =>
  serve(options).catch((cause: unknown) => {
    sendFailure(cause);
    port.close();
  }),
);
