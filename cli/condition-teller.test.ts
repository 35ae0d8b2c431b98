import { expect } from "chai";
import type { Condition } from "../operator/plan/types.ts";
import { ConditionTeller } from "./condition-teller.ts";

const loading = (message: string): Condition => ({ type: "WeightsReady", status: "False", reason: "Loading", message });

describe("how a model comes up, in a log", () => {
  it("says the same condition again only now and then, and what is new at once", () => {
    let nowMs = 0;
    const lines: string[] = [];
    const teller = new ConditionTeller({ now: () => nowMs, say: (line) => lines.push(line), redraws: false });
    for (; nowMs < 25_000; nowMs += 20) teller.tell(loading(`read ${nowMs} bytes`));
    teller.tell({ type: "Ready", status: "True", reason: "Serving", message: "1 chain" });
    expect(lines).to.deep.equal([
      "WeightsReady=False Loading: read 0 bytes",
      "WeightsReady=False Loading: read 10000 bytes",
      "WeightsReady=False Loading: read 20000 bytes",
      "Ready=True Serving: 1 chain",
    ]);
  });
});
