/**
 * The engine's thread as it waits for a shard. It takes as long to start as everything that a rank does before it knows
 * what to load, so a rank starts it first of all and both go on side by side.
 */
import { Worker } from "node:worker_threads";

let spare: Worker | undefined;

const start = (): Worker => new Worker(new URL("./engine-thread-body.ts", import.meta.url));

/** Starts a thread for the next {@link takeWorker}. It does not keep the process alive. */
export function prepareWorker(): void {
  if (spare !== undefined) return;
  spare = start();
  spare.unref();
}

/** The one that was prepared, or a new one: it waits for a message, the options of the shard that it is to load. */
export function takeWorker(): Worker {
  const worker = spare ?? start();
  spare = undefined;
  worker.ref();
  return worker;
}
