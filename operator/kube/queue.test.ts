import { expect } from "chai";
import { StoppedClock } from "../clock.ts";
import { WorkQueue } from "./queue.ts";

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

describe("WorkQueue", () => {
  let clock: StoppedClock;
  let queue: WorkQueue;
  beforeEach(() => {
    clock = new StoppedClock();
    queue = new WorkQueue(clock);
  });

  it("gives keys in order, each once however often it was added", async () => {
    for (const key of ["a", "b", "a", "c", "b"]) queue.add(key);
    expect([await queue.take(), await queue.take(), await queue.take()]).to.deep.equal(["a", "b", "c"]);
    expect(queue.depth).to.equal(0);
  });

  it("gives a key that changed while in work again, but only after that", async () => {
    queue.add("a");
    expect(await queue.take()).to.equal("a");
    queue.add("a");
    queue.add("a");
    expect(queue.depth).to.equal(0);
    queue.done("a");
    expect(queue.depth).to.equal(1);
    expect(await queue.take()).to.equal("a");
    queue.done("a");
    expect(queue.depth).to.equal(0);
  });

  it("wakes whoever waits", async () => {
    const taken = queue.take();
    queue.add("a");
    expect(await taken).to.equal("a");
  });

  it("adds later, at the earliest time asked for", async () => {
    queue.addAfter("a", 1000);
    queue.addAfter("a", 100);
    queue.addAfter("a", 5000);
    clock.advance(99);
    await turn();
    expect(queue.depth).to.equal(0);
    clock.advance(1);
    await turn();
    expect(queue.depth).to.equal(1);
    expect(await queue.take()).to.equal("a");
    queue.done("a");
    clock.advance(10_000);
    await turn();
    expect(queue.depth, "only once").to.equal(0);
  });

  it("waits longer after each failure, up to a minute, and forgets on request", () => {
    const pauses = Array.from({ length: 15 }, () => queue.addAfterFailure("a"));
    pauses.forEach((pauseMs, index) => {
      const wholeMs = Math.min(60_000, 50 * 2 ** index);
      expect(pauseMs).to.be.within(wholeMs / 2, wholeMs);
    });
    queue.forget("a");
    expect(queue.addAfterFailure("a")).to.be.at.most(50);
  });

  it("gives what is urgent first, and every eighth time what is not", async () => {
    for (const key of ["x", "y"]) queue.add(key, "later");
    for (let index = 0; index < 9; index++) queue.add(`n${index}`);
    const taken: string[] = [];
    while (queue.depth > 0) taken.push(String(await queue.take()));
    expect(taken).to.deep.equal(["n0", "n1", "n2", "n3", "n4", "n5", "n6", "x", "n7", "n8", "y"]);
  });

  it("gives what is under way before what has not begun, and every eighth time the latter", async () => {
    for (const key of ["a", "b"]) queue.add(key);
    for (let index = 0; index < 8; index++) queue.add(`f${index}`, "first");
    const taken: string[] = [];
    while (queue.depth > 0) taken.push(String(await queue.take()));
    expect(taken).to.deep.equal(["f0", "f1", "f2", "f3", "f4", "f5", "f6", "a", "f7", "b"]);
  });

  it("gives a key earlier that has become urgent, and does not make an urgent one wait", async () => {
    queue.add("a", "later");
    queue.add("b", "later");
    queue.add("b");
    queue.add("c");
    queue.add("c", "later");
    expect(queue.depth).to.equal(3);
    expect([await queue.take(), await queue.take(), await queue.take()]).to.deep.equal(["b", "c", "a"]);
  });

  for (const [order, pauses] of [
    ["first", [30, 40]],
    ["last", [40, 30]],
  ] as const) {
    it(`does not let a look that is due ${order} anyway take the urgency from a change`, async () => {
      for (const key of ["x", "y", "z"]) queue.add(key, "later");
      queue.addAfter("a", pauses[0], "later");
      queue.addAfter("a", pauses[1], "now");
      clock.advance(40);
      await turn();
      expect(await queue.take()).to.equal("a");
      queue.done("a");
      expect(queue.depth, "what it was due for is done").to.equal(3);
    });
  }

  it("does not look again when it was due to, where it has looked meanwhile", async () => {
    queue.addAfter("a", 100, "later");
    queue.add("a");
    await queue.take();
    queue.addAfter("a", 300, "later");
    queue.done("a");
    clock.advance(299);
    await turn();
    expect(queue.depth).to.equal(0);
    clock.advance(1);
    await turn();
    expect(queue.depth).to.equal(1);
  });

  it("keeps half of its takers free for what is urgent, and gives the rest as work is done", async () => {
    const taken: string[] = [];
    const takers = Array.from({ length: 8 }, () => queue.take().then((key) => taken.push(String(key))));
    for (let index = 0; index < 6; index++) queue.add(`l${index}`, "later");
    await turn();
    expect(taken).to.deep.equal(["l0", "l1", "l2", "l3"]);
    queue.add("a");
    await turn();
    expect(taken.slice(4)).to.deep.equal(["a"]);
    queue.done("a");
    await turn();
    expect(taken, "what is not urgent waits for its like").to.have.lengthOf(5);
    queue.done("l0");
    queue.done("l1");
    await turn();
    expect(taken.slice(5)).to.deep.equal(["l4", "l5"]);
    queue.close();
    await Promise.all(takers);
  });

  it("keeps a pause that was asked for while another for the same key ended", async () => {
    queue.addAfter("a", 100);
    clock.advance(100); // it has ended, and nobody has heard of it yet
    queue.addAfter("a", 50);
    queue.addAfter("a", 20);
    await turn();
    expect(await queue.take()).to.equal("a");
    queue.done("a");
    clock.advance(50);
    await turn();
    expect(queue.depth).to.equal(0);
  });

  it("waits as long after a failure as the server asked", () => {
    expect(queue.addAfterFailure("a", 7_000)).to.equal(7_000);
    expect(queue.addAfterFailure("a", 1)).to.be.within(50, 100);
  });

  it("gives what is idle when nothing else was to do for a moment, or when it has waited for two minutes", async () => {
    queue.add("figures", "idle");
    queue.add("a");
    queue.add("b", "later");
    queue.add("b", "idle");
    expect([await queue.take(), await queue.take()]).to.deep.equal(["a", "b"]);
    clock.advance(800);
    queue.done("a"); // which ends now
    let figures: string | undefined;
    void queue.take().then((key) => (figures = key));
    clock.advance(999);
    await turn();
    expect(figures, "more of the like may come in a moment").to.equal(undefined);
    clock.advance(1_000);
    await turn();
    expect(figures).to.equal("figures");
    queue.add("old", "idle");
    clock.advance(120_000);
    for (let index = 0; index < 9; index++) queue.add(`n${index}`);
    const taken: string[] = [];
    while (queue.depth > 0) taken.push(String(await queue.take()));
    expect(taken.indexOf("old")).to.be.within(1, 8);
  });

  it("says how long each has waited, since it was asked for first", async () => {
    const waits: string[] = [];
    queue = new WorkQueue(clock, (key, waitedMs) => waits.push(`${key} ${waitedMs}`));
    queue.add("a");
    clock.advance(30);
    queue.add("a");
    clock.advance(10);
    await queue.take();
    expect(waits).to.deep.equal(["a 40"]);
  });

  it("ends everybody's waiting when it is closed", async () => {
    const taken = queue.take();
    queue.addAfter("a", 10);
    queue.close();
    expect(await taken).to.equal(undefined);
    queue.add("b");
    expect(await queue.take()).to.equal(undefined);
    clock.advance(20);
    await turn();
    expect(queue.depth).to.equal(0);
  });
});
