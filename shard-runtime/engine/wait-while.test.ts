import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { expect } from "chai";
import { waitWhile } from "./wait-while.ts";

/** Wakes whoever sleeps on the word three times for nothing, then changes it. */
const NOTIFIER = `
  const { workerData: word } = require("node:worker_threads");
  for (let woken = 0; woken < 3; ) woken += Atomics.notify(word, 0);
  Atomics.store(word, 0, 1);
  Atomics.notify(word, 0);
`;

describe("waiting for a word to change", () => {
  it("is not ended by a late notification of the change before", async () => {
    const word = new Int32Array(new SharedArrayBuffer(4));
    const notifier = new Worker(NOTIFIER, { eval: true, workerData: word });
    try {
      await once(notifier, "online");
      expect(waitWhile(word, 0, 30_000)).to.equal("changed");
      expect(Atomics.load(word, 0)).to.equal(1);
    } finally {
      await notifier.terminate();
    }
  });

  it("is over at once where the word has changed already, and ends when its time is over", () => {
    const word = new Int32Array(new SharedArrayBuffer(4));
    expect(waitWhile(word, 1, 30_000)).to.equal("changed");
    expect(waitWhile(word, 0, 1)).to.equal("timed-out");
  });
});
