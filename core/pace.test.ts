import { expect } from "chai";
import fc from "fast-check";
import { Pace } from "./pace.ts";

/** Of an engine whose batches and rounds all last so long. */
function paceOf(batchMs: number, roundMs: number): Pace {
  const pace = new Pace();
  for (let times = 0; times < 200; times += 1) {
    pace.ran(batchMs);
    pace.left(roundMs);
  }
  return pace;
}

describe("pace", () => {
  const cases: readonly (readonly [
    name: string,
    batchMs: number,
    roundMs: number,
    sessionCount: number,
    rows: number,
  ])[] = [
    ["one of four alike segments takes half of all sessions", 10, 40, 8, 4],
    ["one of forty a twentieth", 10, 400, 200, 10],
    ["the slowest of a chain all", 30, 40, 8, 12],
    ["a chain of one segment all", 39, 40, 4, 8],
    ["at least one", 1, 1000, 4, 1],
  ];
  for (const [name, batchMs, roundMs, sessionCount, rows] of cases)
    it(name, () => expect(paceOf(batchMs, roundMs).rowsMax(sessionCount)).to.equal(rows));

  it("knows no limit before a session has come round", () => {
    const pace = new Pace();
    pace.ran(10);
    expect(pace.rowsMax(8)).to.equal(Number.POSITIVE_INFINITY);
  });

  it("a batch that took longer than usual lets more through at once", () => {
    const pace = paceOf(10, 100);
    pace.ran(50);
    expect(pace.rowsMax(10)).to.equal(10);
  });

  it("is the same in whatever unit times are given", () =>
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.boolean(), fc.double({ min: 0.1, max: 500, noNaN: true })), { maxLength: 60 }),
        fc.integer({ min: 1, max: 100 }),
        (happened, sessionCount) => {
          // A power of two: nothing is rounded.
          const [own, other] = [new Pace(), new Pace()];
          for (const [ran, time] of happened) {
            own[ran ? "ran" : "left"](time);
            other[ran ? "ran" : "left"](time / 1024);
          }
          expect(other.rowsMax(sessionCount)).to.equal(own.rowsMax(sessionCount));
        },
      ),
    ));
});
