/** The simulation speaks of the runtime only as long as both batch alike. */
import { expect } from "chai";
import * as fc from "fast-check";
import { type SimulatedStep, lingerSeconds, takeBatch } from "../../operator/plan/simulate/batching.ts";
import { lingerMs } from "../../shard-runtime/schedule/linger.ts";
import { nextBatch } from "../../shard-runtime/schedule/next-batch.ts";

const budgets = fc.integer({ min: 2, max: 40 }).chain((rowsMax) =>
  fc.record({
    rowsMax: fc.constant(rowsMax),
    prefillRowsBesideDecode: fc.integer({ min: 2, max: rowsMax }),
    decodeRowsMax: fc.oneof(fc.integer({ min: 1, max: rowsMax }), fc.constant(Number.POSITIVE_INFINITY)),
  }),
);
/** As sessions send them: one decoded row, or the chunks of a prompt one after the other. */
const waiting = (rowsMax: number) =>
  fc
    .array(fc.oneof(fc.constant([1]), fc.array(fc.integer({ min: 1, max: rowsMax }), { minLength: 1, maxLength: 3 })), {
      maxLength: 12,
    })
    .chain((sessions) =>
      fc.record({
        divisible: fc.boolean(),
        steps: fc.shuffledSubarray(
          sessions.flatMap((chunks, session) => chunks.map((rowCount) => ({ session: `s${session}`, rowCount }))),
          { minLength: sessions.flat().length },
        ),
      }),
    );

describe("simulation beside the runtime's schedule", () => {
  it("takes the same batches", () =>
    fc.assert(
      fc.property(
        budgets.chain((budget) => fc.tuple(fc.constant(budget), waiting(budget.rowsMax))),
        ([budget, { divisible, steps }]) => {
          const sessionCount = new Set(steps.map(({ session }) => session)).size;
          fc.pre(sessionCount === steps.length || steps.some(({ rowCount }) => rowCount > 1));
          const own: SimulatedStep<string>[] = steps.map(({ session, rowCount }) => ({
            owner: session,
            rowCount,
            position: 0,
            sample: true,
            divisible,
          }));
          const wanted = nextBatch(
            steps.map((step) => ({ ...step, divisible })),
            budget,
          ).map(({ index, rowCount }) => [steps[index]?.session, rowCount]);
          const before = own.reduce((sum, { rowCount }) => sum + rowCount, 0);
          const taken = takeBatch(own, budget);
          expect(taken.map(({ owner, rowCount }) => [owner, rowCount])).to.deep.equal(wanted);
          expect([...own, ...taken].reduce((sum, { rowCount }) => sum + rowCount, 0)).to.equal(before);
        },
      ),
      { numRuns: 2000 },
    ));

  it("waits as long for those that are about to come back", () =>
    fc.assert(
      fc.property(
        fc.record({
          nowMs: fc.constant(1000),
          waitingCount: fc.integer({ min: 0, max: 10 }),
          returnsAtMs: fc.array(fc.double({ min: 970, max: 1030, noNaN: true }), { maxLength: 12 }),
          segmentCount: fc.integer({ min: 1, max: 4 }),
          batchMs: fc.double({ min: 0, max: 100, noNaN: true }),
        }),
        ({ nowMs, waitingCount, returnsAtMs, segmentCount, batchMs }) => {
          const seconds = lingerSeconds({
            now: nowMs / 1000,
            waitingCount,
            returnsAt: returnsAtMs.map((at) => at / 1000),
            segmentCount,
            batchSeconds: batchMs / 1000,
          });
          const ms = lingerMs({ nowMs, waitingCount, returnsAtMs, segmentCount, batchMs });
          expect(1000 * seconds).to.be.closeTo(ms, 1e-6);
        },
      ),
      { numRuns: 2000 },
    ));
});
