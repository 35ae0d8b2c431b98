import { expect } from "chai";
import { type QuantizationCost, costText, costsOf, parseCosts } from "./quantization-cost.ts";

const measured = { meanKlNats: 0.0213, tokenCount: 256, sample: "text" } as const;
const cost: QuantizationCost = { quantization: "int4", ...measured };
const ofKv: QuantizationCost = { kvDtype: "int8", ...measured, operators: "own" };

describe("costs of quantisation", () => {
  it("are read as they were written, or are none", () => {
    expect(parseCosts([cost, ofKv])).to.deep.equal([cost, ofKv]);
    expect(parseCosts(undefined)).to.deep.equal([]);
  });

  const bad: readonly (readonly [value: unknown, says: string])[] = [
    [3, "costs is 3"],
    [[cost, cost, cost, cost, cost], "costs is"],
    [[3], "costs[0].quantization is nothing"],
    [[{ ...cost, quantization: "int2" }], `costs[0].quantization is "int2"`],
    [[cost, { ...cost, meanKlNats: -1 }], "costs[1].meanKlNats is -1"],
    [[{ ...cost, meanKlNats: "0" }], "costs[0].meanKlNats"],
    [[{ ...cost, tokenCount: 0.5 }], "costs[0].tokenCount is 0.5"],
    [[{ ...cost, sample: "noise" }], "costs[0].sample"],
    [[{ ...ofKv, kvDtype: "f32" }], `costs[0].kvDtype is "f32"`],
    [[{ ...ofKv, quantization: "int8" }], `costs[0].kvDtype is "int8"`],
    [[{ ...ofKv, operators: "others" }], "costs[0].operators"],
  ];
  for (const [value, says] of bad)
    it(`are refused: ${says}`, () => {
      expect(parseCosts(value)).to.be.a("string").and.include(says);
    });

  it("are said in a line", () => {
    expect(costText(cost)).to.equal("int4: 0.021 nats from f32 (mean KL over 256 tokens of text)");
    expect(costText(ofKv)).to.equal(
      "KV in int8: 0.021 nats from f32 (mean KL over 256 tokens of text, by our own operators)",
    );
  });

  it("are those of how a model is held", () => {
    const other: QuantizationCost = { ...cost, quantization: "int8" };
    expect(costsOf([other, cost, ofKv], { quantization: "int4", kvDtype: "int8" })).to.deep.equal([cost, ofKv]);
    expect(costsOf([other, cost, ofKv], { quantization: "f32", kvDtype: "f32" })).to.deep.equal([]);
  });
});
