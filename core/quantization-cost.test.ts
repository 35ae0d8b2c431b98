import { expect } from "chai";
import { type QuantizationCost, costText, parseCosts } from "./quantization-cost.ts";

const cost: QuantizationCost = { quantization: "int4", meanKlNats: 0.0213, tokenCount: 256, sample: "text" };

describe("costs of quantisation", () => {
  it("are read as they were written, or are none", () => {
    expect(parseCosts([cost])).to.deep.equal([cost]);
    expect(parseCosts(undefined)).to.deep.equal([]);
  });

  const bad: readonly (readonly [value: unknown, says: string])[] = [
    [3, "costs is 3"],
    [[cost, cost, cost, cost], "costs is"],
    [[3], "costs[0].quantization is nothing"],
    [[{ ...cost, quantization: "int2" }], `costs[0].quantization is "int2"`],
    [[cost, { ...cost, meanKlNats: -1 }], "costs[1].meanKlNats is -1"],
    [[{ ...cost, meanKlNats: "0" }], "costs[0].meanKlNats"],
    [[{ ...cost, tokenCount: 0.5 }], "costs[0].tokenCount is 0.5"],
    [[{ ...cost, sample: "noise" }], "costs[0].sample"],
  ];
  for (const [value, says] of bad)
    it(`are refused: ${says}`, () => {
      expect(parseCosts(value)).to.be.a("string").and.include(says);
    });

  it("are said in a line", () => {
    expect(costText(cost)).to.equal("int4: 0.021 nats from f32 (mean KL over 256 tokens of text)");
  });
});
