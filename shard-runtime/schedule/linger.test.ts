import { expect } from "chai";
import { type Situation, lingerMs } from "./linger.ts";

const aSituation = (more: Partial<Situation>): Situation => ({
  nowMs: 1000,
  waitingCount: 1,
  returnsAtMs: [],
  segmentCount: 1,
  batchMs: 40,
  ...more,
});

describe("linger", () => {
  const cases: readonly (readonly [name: string, situation: Partial<Situation>, waitMs: number])[] = [
    ["nobody is away", {}, 0],
    ["nobody waits", { waitingCount: 0, returnsAtMs: [1001] }, 0],
    ["others are about to come back", { returnsAtMs: [1002, 1004, 1002] }, 6],
    ["they come in a moment: no less than a timer can", { returnsAtMs: [1000.2] }, 1],
    ["they are late, but not by much", { returnsAtMs: [995] }, 1],
    ["they are long overdue", { returnsAtMs: [900] }, 0],
    ["they take longer than it is worth", { returnsAtMs: [1030] }, 0],
    ["never longer than a quarter of a batch", { returnsAtMs: [1009] }, 10],
    ["nor than 10 ms", { batchMs: 4000, returnsAtMs: [1010] }, 10],
    ["a batch that takes no time waits for nobody", { batchMs: 2, returnsAtMs: [1000.2] }, 0],
    [
      "half of the sessions are enough for one of two segments",
      { segmentCount: 2, waitingCount: 2, returnsAtMs: [1002, 1003] },
      0,
    ],
    ["fewer than half are not", { segmentCount: 2, returnsAtMs: [1002, 1003, 1008] }, 3],
  ];
  for (const [name, situation, waitMs] of cases)
    it(name, () => expect(lingerMs(aSituation(situation))).to.be.closeTo(waitMs, 1e-9));
});
