import { expect } from "chai";
import { StoppedClock } from "../../operator/clock.ts";
import { Measuring, type Part } from "./measuring.ts";

const CPU: Part = { device: "cpu", threadCount: 2 };
const FAR = { address: "10.0.0.2:7410", nodes: ["b1", "b2"] };

/** Lets promises settle and the clock go on, until `done` or too many turns. */
async function play(clock: StoppedClock, done: () => boolean, turns = 400): Promise<void> {
  for (let turn = 0; turn < turns && !done(); turn += 1) {
    await new Promise((resolve) => setImmediate(resolve));
    clock.advance(1_000);
  }
}

function stage(set: { readonly busy?: () => number; readonly signedAtMs?: () => number | undefined } = {}) {
  const clock = new StoppedClock();
  const calls: string[] = [];
  let fails = false;
  const measuring = new Measuring(
    {
      clock,
      machine: ({ device }) => {
        calls.push(device);
        return fails ? Promise.reject(new Error("no engine")) : Promise.resolve({ memoryBytesPerSecond: 28e9 });
      },
      link: (address) => {
        calls.push(address);
        return Promise.resolve({ roundTripMicros: 400, bytesPerSecond: 125e6 });
      },
      busyShare: () => Promise.resolve(set.busy?.() ?? 0),
      signedAtMs: set.signedAtMs ?? (() => undefined),
      log: () => {},
    },
    0.2,
  );
  const stop = new AbortController();
  void measuring.run(stop.signal);
  const fail = (now: boolean) => {
    fails = now;
  };
  return { clock, calls, measuring, stop, fail };
}

describe("measuring a machine", () => {
  it("measures each figure once, the machine before the ways to others", async () => {
    const { clock, calls, measuring, stop } = stage();
    measuring.told([CPU, CPU], [FAR]);
    expect(measuring.doing).to.equal("measures");
    await play(clock, () => measuring.doing === "");
    await play(clock, () => false, 50);
    expect(calls).to.deep.equal(["cpu", FAR.address]);
    expect(measuring.figuresOf(CPU)).to.deep.equal({ memoryBytesPerSecond: 28e9 });
    expect(measuring.links().map(({ to }) => to)).to.deep.equal(["b1", "b2"]);
    stop.abort();
  });

  it("waits while processors are busy, or something was signed a moment ago", async () => {
    let busy = 0.9;
    let signed: number | undefined;
    const { clock, calls, measuring, stop } = stage({ busy: () => busy, signedAtMs: () => signed });
    measuring.told([CPU], []);
    await play(clock, () => false, 100);
    expect(measuring.doing).to.contain("idle");
    busy = 0;
    signed = clock.monotonicMs();
    await play(clock, () => false, 50);
    expect(calls).to.deep.equal([]);
    await play(clock, () => calls.length > 0);
    expect(clock.monotonicMs() - signed).to.be.at.least(60_000);
    stop.abort();
  });

  it("tries again after a failure, not at once", async () => {
    const { clock, calls, measuring, stop, fail } = stage();
    fail(true);
    measuring.told([CPU], []);
    await play(clock, () => calls.length > 0);
    fail(false);
    await play(clock, () => false, 300);
    expect(calls).to.deep.equal(["cpu"]);
    await play(clock, () => calls.length > 1, 600);
    expect(measuring.figuresOf(CPU)).to.deep.equal({ memoryBytesPerSecond: 28e9 });
    stop.abort();
  });

  it("forgets the way to an agent that is gone, and measures again when it is back", async () => {
    const { clock, calls, measuring, stop } = stage();
    measuring.told([], [FAR]);
    await play(clock, () => measuring.doing === "");
    measuring.told([], []);
    expect(measuring.links()).to.deep.equal([]);
    measuring.told([], [FAR]);
    await play(clock, () => measuring.doing === "");
    expect(calls).to.deep.equal([FAR.address, FAR.address]);
    stop.abort();
  });
});
