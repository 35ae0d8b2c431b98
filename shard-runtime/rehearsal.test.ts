import { expect } from "chai";
import type { Clock } from "../core/clock.ts";
import type { EngineThread } from "./engine/engine-thread.ts";
import { rehearsedEngine } from "./rehearsal.ts";

/** 1 MB of layers read in 10 ms, and 1 ms for each row; a head of a tenth of that. */
const PLAYED = { bytesPerSecond: 1e8, rowBytesPerSecond: 1e9, sendDelayMs: 0 };
const WEIGHTS = { layerBytes: 1e6, headBytes: 1e5 };

/** Takes `ownMs`, and with an exchange waits `exchangeMs` for others. */
function rehearsed(ownMs: number, exchangeMs = 0) {
  let nowMs = 0;
  const slept: number[] = [];
  const clock: Clock = {
    monotonicMs: () => nowMs,
    sleep: (milliseconds) => {
      slept.push(milliseconds);
      nowMs += milliseconds;
      return Promise.resolve();
    },
  };
  const engine: Pick<EngineThread, "run" | "freeSlotCount"> = {
    freeSlotCount: 3,
    run: async (_, exchange) => {
      nowMs += ownMs;
      await exchange?.(new Float32Array(1), 0);
      return { hidden: new Float32Array(0), logits: new Float32Array(0) };
    },
  };
  const run = async (rowCount: number, sample = false) => {
    const startMs = nowMs;
    const steps = [{ session: "s", position: 0, rowCount, sample }];
    const exchange = () => {
      nowMs += exchangeMs;
      return Promise.resolve();
    };
    await played.run({ steps, input: new Float32Array(0) }, exchangeMs === 0 ? undefined : exchange);
    return nowMs - startMs;
  };
  const played = rehearsedEngine(engine as EngineThread, PLAYED, WEIGHTS, clock);
  return { run, slept, played };
}

describe("rehearsal", () => {
  const cases = [
    { name: "one row", own: 1, rows: 1, sample: false, wantMs: 11 },
    { name: "many rows", own: 1, rows: 20, sample: false, wantMs: 30 },
    { name: "a token wanted: the head as well", own: 1, rows: 1, sample: true, wantMs: 12.1 },
    { name: "a machine slower than what it plays", own: 50, rows: 1, sample: false, wantMs: 50 },
  ];
  for (const { name, own, rows, sample, wantMs } of cases)
    it(`lasts as long as on the played node: ${name}`, async () =>
      expect(await rehearsed(own).run(rows, sample)).to.be.closeTo(wantMs, 1e-9));

  it("waiting for other ranks is not taken for work of its own", async () => {
    expect(await rehearsed(1, 5).run(1)).to.be.closeTo(16, 1e-9);
  });
  it("has the engine's own slots", () => expect(rehearsed(1).played.freeSlotCount).to.equal(3));
});
