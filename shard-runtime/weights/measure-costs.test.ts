import { expect } from "chai";
import { valueOrThrow } from "../../core/result.ts";
import { aCheckpoint, hurriedClock, removed } from "./checkpoint-builder.ts";
import { meanKl, measureCosts } from "./measure-costs.ts";
import { openUnpacked } from "./pack.ts";

const clock = hurriedClock();
const HOUR_MS = 3_600_000;

describe("costs of quantisation", () => {
  it("are the mean divergence in nats", () => {
    const of = (...probabilities: number[]) => Float32Array.from(probabilities, Math.log);
    expect(meanKl([of(0.5, 0.5)], [of(0.25, 0.75)])).to.be.closeTo(0.5 * Math.log(2) + 0.5 * Math.log(2 / 3), 1e-7);
    expect(meanKl([of(0.5, 0.5), of(1, 1)], [of(5, 5), of(0.1, 0.1)])).to.be.closeTo(0, 1e-7);
    expect(meanKl([of(1, 0)], [of(0.5, 0.5)])).to.be.closeTo(Math.log(2), 1e-7);
  });

  it("are on random tokens where there is no tokenizer, and not measured where that takes too long", async () => {
    const directory = await aCheckpoint({ config: { hidden_size: 64, num_hidden_layers: 3 } });
    try {
      await removed(`${directory}/tokenizer.json`);
      const model = valueOrThrow(await openUnpacked(directory, { clock }));
      const { costs } = await measureCosts(model, { quantizations: ["int8"], clock, timeLimitMs: HOUR_MS });
      expect(costs).to.have.length(1);
      expect(costs[0]).to.include({ sample: "randomTokens", tokenCount: 256 });
      const steps: string[] = [];
      const options = {
        quantizations: ["int8"],
        clock,
        segmentBytes: 1,
        onStep: (text: string) => steps.push(text),
      } as const;
      const given = await measureCosts(model, { ...options, timeLimitMs: 0 });
      expect(given.costs).to.deep.equal([]);
      expect(given.unmeasured).to.include("minutes");
      expect(steps).to.have.length(2);
    } finally {
      await removed(directory);
    }
  }).timeout(60_000);
});
