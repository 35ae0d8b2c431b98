import { expect } from "chai";
import * as fc from "fast-check";
import { type Budget, type Waiting, nextBatch } from "./next-batch.ts";

const BUDGET: Budget = { rowsMax: 16, prefillRowsBesideDecode: 8 };

/** `a` is a decoded row of session a, `b*12` twelve divisible rows of b, `c#6` six rows that must stay together. */
const steps = (text: string): readonly Waiting[] =>
  text
    .split(" ")
    .filter((word) => word !== "")
    .map((word) => {
      const [session = "", kind, count] = word.split(/([*#])/);
      return { session, rowCount: kind === undefined ? 1 : Number(count), divisible: kind !== "#" };
    });

const shown = (waiting: readonly Waiting[]): string =>
  nextBatch(waiting, BUDGET)
    .map(({ index, rowCount }) => `${waiting[index]?.session}:${rowCount}`)
    .join(" ");

describe("schedule", () => {
  const cases: readonly (readonly [name: string, waiting: string, batch: string])[] = [
    ["nothing waits, nothing runs", "", ""],
    ["decoded rows go together", "a b c", "a:1 b:1 c:1"],
    ["a session runs one step a batch", "a a b a", "a:1 b:1"],
    ["a prompt alone gets the whole batch", "a*40", "a:16"],
    ["beside decoded rows a prompt gets less", "a*40 b c", "a:8 b:1 c:1"],
    ["a prompt that came later waits for no decoded row", "b c a*40", "b:1 c:1 a:8"],
    ["two prompts share", "a*10 b*40", "a:10 b:6"],
    ["hidden rows stay together", "a#10 b#10", "a:10"],
    ["hidden rows that came first are run though they are many", "a#12 b c", "a:12 b:1 c:1"],
    ["a short one slips in beside a long one", "a#12 b#12 c#4", "a:12 c:4"],
    ["a cut leaves no single row", "a*17", "a:15"],
    ["nor takes one", "a*15 b*40", "a:15"],
  ];
  for (const [name, waiting, batch] of cases) it(name, () => expect(shown(steps(waiting))).to.equal(batch));

  const aStep = fc
    .record({
      session: fc.constantFrom(..."abcdefghijklmnopqrstuvwxyz"),
      rowCount: fc.integer({ min: 1, max: 40 }),
      divisible: fc.boolean(),
    })
    .map((step) => (step.divisible ? step : { ...step, rowCount: Math.min(step.rowCount, BUDGET.rowsMax) }));
  const someSteps = fc.array(aStep, { maxLength: 60 });

  it("keeps the budget, one step a session, in order, and always serves the oldest", () =>
    fc.assert(
      fc.property(someSteps, (waiting) => {
        const taken = nextBatch(waiting, BUDGET);
        expect(taken.length > 0).to.equal(waiting.length > 0);
        if (waiting.length > 0) expect(taken[0]?.index).to.equal(0);
        expect(taken.reduce((sum, { rowCount }) => sum + rowCount, 0)).to.be.at.most(BUDGET.rowsMax);
        const sessions = taken.map(({ index }) => waiting[index]?.session);
        expect(new Set(sessions).size).to.equal(sessions.length);
        for (const { index, rowCount } of taken) {
          const step = waiting[index];
          expect(waiting.findIndex((other) => other.session === step?.session)).to.equal(index);
          expect(rowCount).to.be.within(1, step?.rowCount ?? 0);
          const rest = (step?.rowCount ?? 0) - rowCount;
          if (rest > 0) {
            expect(step?.divisible).to.equal(true);
            expect(Math.min(rest, rowCount)).to.be.at.least(2);
          }
        }
      }),
    ));

  it("leaves no decoded row behind while there is room", () =>
    fc.assert(
      fc.property(someSteps, (waiting) => {
        const taken = nextBatch(waiting, BUDGET);
        const rows = taken.reduce((sum, { rowCount }) => sum + rowCount, 0);
        const heads = [...new Set(waiting.map(({ session }) => session))].map((session) =>
          waiting.findIndex((step) => step.session === session),
        );
        const left = heads.filter(
          (index) => waiting[index]?.rowCount === 1 && !taken.some((step) => step.index === index),
        );
        if (left.length > 0) expect(rows).to.equal(BUDGET.rowsMax);
      }),
    ));

  it("runs everything in the end, each session's rows in order", () =>
    fc.assert(
      fc.property(someSteps, (steps) => {
        let waiting = steps;
        const ran = new Map<string, number>();
        for (let round = 0; waiting.length > 0; round += 1) {
          expect(round).to.be.below(2000);
          const taken = new Map(nextBatch(waiting, BUDGET).map(({ index, rowCount }) => [index, rowCount]));
          waiting = waiting.flatMap((step, index) => {
            const rowCount = taken.get(index) ?? 0;
            ran.set(step.session, (ran.get(step.session) ?? 0) + rowCount);
            return rowCount === step.rowCount ? [] : [{ ...step, rowCount: step.rowCount - rowCount }];
          });
        }
        const wanted = new Map<string, number>();
        for (const step of steps) wanted.set(step.session, (wanted.get(step.session) ?? 0) + step.rowCount);
        expect(ran).to.deep.equal(wanted);
      }),
    ));
});
