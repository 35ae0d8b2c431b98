/**
 * Bytes a second that this machine's memory gives to so many threads: two large blocks compared byte by byte, which the C
 * library does with the widest instructions there are, on every thread at once.
 */
import { Worker } from "node:worker_threads";
import type { Clock } from "../../core/clock.ts";

const BLOCK_BYTES = 128 << 20; // of each of two blocks; larger than caches
const ROUND_COUNT = 6;

const BODY = `
const { parentPort, workerData } = require("node:worker_threads");
const { blockBytes } = workerData;
const [one, other] = [Buffer.alloc(blockBytes, 1), Buffer.alloc(blockBytes, 1)];
parentPort.on("message", () => parentPort.postMessage(one.compare(other)));
parentPort.postMessage("ready");
`;

/** The best of some rounds: whoever else used the machine meanwhile only makes a round slower. */
export async function measureBandwidth(threadCount: number, clock: Clock): Promise<number> {
  const workers = Array.from(
    { length: threadCount },
    () => new Worker(BODY, { eval: true, workerData: { blockBytes: BLOCK_BYTES } }),
  );
  try {
    await Promise.all(workers.map(answer));
    let best = 0;
    for (let round = 0; round < ROUND_COUNT; round += 1) {
      const startMs = clock.monotonicMs();
      await Promise.all(
        workers.map((worker) => {
          const answered = answer(worker);
          worker.postMessage("compare");
          return answered;
        }),
      );
      const seconds = (clock.monotonicMs() - startMs) / 1000;
      best = Math.max(best, (2 * BLOCK_BYTES * threadCount) / seconds);
    }
    return Math.round(best);
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
}

const answer = (worker: Worker): Promise<void> =>
  new Promise((resolve, reject) => {
    worker.once("message", () => resolve());
    worker.once("error", reject);
  });
