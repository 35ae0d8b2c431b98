import { expect } from "chai";
import fc from "fast-check";
import { waitMsAfter } from "./patience.ts";

describe("patience with a source", () => {
  const cases = [
    { after: 1, random: 0, wishMs: undefined, waits: 250 },
    { after: 1, random: 0.999_999, wishMs: undefined, waits: 500 },
    { after: 3, random: 0, wishMs: undefined, waits: 1_000 },
    { after: 5, random: 0, wishMs: undefined, waits: 4_000 },
    { after: 1, random: 0, wishMs: 17_000, waits: 17_000 },
    { after: 1, random: 0, wishMs: 120_001, waits: undefined },
    { after: 6, random: 0, wishMs: undefined, waits: undefined },
  ];
  for (const { after, random, wishMs, waits } of cases)
    it(`after ${after} failure(s), asked for ${wishMs ?? "nothing"}: ${waits ?? "no more"}`, () => {
      const waited = waitMsAfter(after, { attemptCount: 6, random, wishMs });
      if (waits === undefined) expect(waited).to.equal(undefined);
      else expect(waited).to.be.closeTo(waits, 1);
    });

  it("never waits less than was asked for, nor more than ten seconds of its own", () => {
    const wishes = fc.option(fc.nat(120_000), { nil: undefined });
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 99 }),
        wishes,
        fc.double({ min: 0, max: 0.999, noNaN: true }),
        (after, wishMs, random) => {
          const waited = waitMsAfter(after, { attemptCount: 100, wishMs, random }) ?? -1;
          return waited >= (wishMs ?? 0) && waited <= Math.max(10_000, wishMs ?? 0);
        },
      ),
    );
  });
});
