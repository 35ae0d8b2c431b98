import { expect } from "chai";
import * as fc from "fast-check";
import { type House, type Load, RUNTIME_BUDGET, type Run, type Station } from "./house.ts";
import { simulate } from "./simulate.ts";

/** 10 ms a batch and 1 ms a row. */
const aStation = (name: string, set: Partial<Station> = {}): Station => ({
  name,
  devices: [name],
  slotCount: 64,
  stepSeconds: ({ rowCount }) => 0.01 + 0.001 * rowCount,
  ...set,
});
const NOTHING = { seconds: 0, secondsPerRow: 0 };
const aHouse = (stations: readonly Station[], set: Partial<House> = {}): House => ({
  stations,
  paths: [{ stations: stations.map((_, index) => index), weight: 1 }],
  between: () => NOTHING,
  entry: () => NOTHING,
  exit: () => NOTHING,
  gatewaySeconds: 0,
  openSeconds: 0,
  budget: RUNTIME_BUDGET,
  lingers: true,
  keepsPace: true,
  ...set,
});
const clients = (clientCount: number, set: Partial<Load> = {}): Load =>
  ({
    kind: "closed",
    clientCount,
    promptTokens: 1,
    generatedTokens: 50,
    spread: 0,
    underWay: true,
    ...set,
  }) as Load;
const RUN: Run = { seed: "a", warmUpTokens: 400, tokens: 4000 };

describe("simulation", () => {
  const figures: readonly {
    readonly name: string;
    readonly house: House;
    readonly load: Load;
    readonly wantPerSecond: number;
    readonly wantMs: number;
  }[] = [
    {
      name: "one session, one segment: a token takes a batch of one",
      house: aHouse([aStation("a")]),
      load: clients(1),
      wantPerSecond: 1 / 0.011,
      wantMs: 11,
    },
    {
      name: "one session, three segments: a token takes three",
      house: aHouse([aStation("a"), aStation("b"), aStation("c")]),
      load: clients(1),
      wantPerSecond: 1 / 0.033,
      wantMs: 33,
    },
    {
      name: "trips add up: one to enter, one between, one to leave",
      house: aHouse([aStation("a"), aStation("b")], {
        between: () => ({ seconds: 0.005, secondsPerRow: 0.001 }),
        entry: () => ({ seconds: 0.002, secondsPerRow: 0 }),
        exit: () => ({ seconds: 0.003, secondsPerRow: 0 }),
        gatewaySeconds: 0.001,
      }),
      load: clients(1),
      wantPerSecond: 1 / 0.034,
      wantMs: 34,
    },
    {
      name: "sessions of one segment run as one batch",
      house: aHouse([aStation("a")]),
      load: clients(10),
      wantPerSecond: 10 / 0.02,
      wantMs: 20,
    },
    {
      name: "two segments share the sessions, and both are always at work",
      house: aHouse([aStation("a"), aStation("b")]),
      load: clients(20),
      wantPerSecond: 10 / 0.02,
      wantMs: 40,
    },
    {
      name: "a slow segment is what bounds a chain: half of the sessions wait there while the others run",
      house: aHouse([aStation("a"), aStation("b", { stepSeconds: ({ rowCount }) => 0.1 + 0.01 * rowCount })]),
      load: clients(20),
      wantPerSecond: 10 / 0.2,
      wantMs: 400,
    },
    {
      name: "stations of one node take turns",
      house: aHouse([aStation("a", { devices: ["x"] }), aStation("b", { devices: ["x"] })]),
      load: clients(20),
      wantPerSecond: 10 / 0.04,
      wantMs: 80,
    },
    {
      name: "chains apart serve apart",
      house: aHouse([aStation("a"), aStation("b")], {
        paths: [
          { stations: [0], weight: 1 },
          { stations: [1], weight: 1 },
        ],
      }),
      load: clients(20),
      wantPerSecond: 20 / 0.02,
      wantMs: 20,
    },
    {
      name: "no more sessions than slots",
      house: aHouse([aStation("a", { slotCount: 4 })]),
      load: clients(20),
      wantPerSecond: 4 / 0.014,
      wantMs: 14,
    },
  ];
  for (const { name, house, load, wantPerSecond, wantMs } of figures)
    it(name, () => {
      const { generatedPerSecond, secondsPerToken, stuck } = simulate(house, load, RUN);
      expect(stuck).to.equal(false);
      expect(generatedPerSecond).to.be.closeTo(wantPerSecond, wantPerSecond * 0.08);
      expect(1000 * secondsPerToken.median).to.be.closeTo(wantMs, wantMs * 0.15);
    });

  it("a path of twice the weight gets twice the sessions", () => {
    const paths = [
      { stations: [0], weight: 2 },
      { stations: [1], weight: 1 },
    ];
    const { stations } = simulate(aHouse([aStation("a"), aStation("b")], { paths }), clients(30), RUN);
    expect(stations.map(({ sessionsPerBatch }) => Math.round(sessionsPerBatch))).to.deep.equal([20, 10]);
  });

  it("prompts are served beside answers, and count apart", () => {
    const outcome = simulate(aHouse([aStation("a"), aStation("b")]), clients(8, { promptTokens: 200 }), RUN);
    expect(outcome.promptPerSecond / outcome.generatedPerSecond).to.be.closeTo(4, 0.6);
    expect(outcome.firstTokenSeconds.median).to.be.above(0.22); // 200 rows, twice, behind others
    expect(outcome.secondsPerToken.p95).to.be.above(outcome.secondsPerToken.median);
  });

  it("what arrives at a bearable rate is served at that rate", () => {
    const load: Load = { kind: "open", sessionsPerSecond: 2, promptTokens: 30, generatedTokens: 50, spread: 0.5 };
    const outcome = simulate(aHouse([aStation("a")]), load, { ...RUN, tokens: 20_000 });
    expect(outcome.generatedPerSecond).to.be.closeTo(100, 12);
    expect(outcome.stations[0]?.utilisation).to.be.below(1);
  });

  it("where a chain has no slot at all, it says that it is stuck", () => {
    const outcome = simulate(aHouse([aStation("a", { slotCount: 0 })]), clients(2), RUN);
    expect([outcome.stuck, outcome.generatedPerSecond]).to.deep.equal([true, 0]);
  });

  it("crossing chains share a station's slots and its batches", () => {
    const paths = [
      { stations: [0, 2], weight: 1 },
      { stations: [1, 2], weight: 1 },
    ];
    const outcome = simulate(aHouse([aStation("a"), aStation("b"), aStation("c")], { paths }), clients(30), RUN);
    const [a, , c] = outcome.stations;
    expect((c?.utilisation ?? 0) > (a?.utilisation ?? 1)).to.equal(true);
    expect(outcome.generatedPerSecond).to.be.above(400);
  });

  it("the same arguments give the same outcome; nothing is served twice or faster than it is computed", () =>
    fc.assert(
      fc.property(
        fc.record({
          times: fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 5 }),
          clientCount: fc.integer({ min: 1, max: 24 }),
          promptTokens: fc.integer({ min: 1, max: 400 }),
          spread: fc.constantFrom(0, 0.3, 0.9),
          slotCount: fc.integer({ min: 1, max: 30 }),
          seed: fc.string(),
        }),
        ({ times, clientCount, promptTokens, spread, slotCount, seed }) => {
          const stations = times.map((ms, index) =>
            aStation(`s${index}`, { slotCount, stepSeconds: ({ rowCount }) => (ms + 0.5 * rowCount) / 1000 }),
          );
          const load = clients(clientCount, { promptTokens, spread });
          const run = { seed, warmUpTokens: 50, tokens: 500 };
          const outcome = simulate(aHouse(stations), load, run);
          expect(outcome).to.deep.equal(simulate(aHouse(stations), load, run));
          expect(outcome.stuck).to.equal(false);
          for (const { utilisation } of outcome.stations) expect(utilisation).to.be.within(0, 1 + 1e-9);
          const fastest = times.reduce((sum, ms) => sum + (ms + 0.5) / 1000, 0);
          expect(outcome.secondsPerToken.median).to.be.at.least(fastest - 1e-9);
        },
      ),
      { numRuns: 60 },
    ));
});
