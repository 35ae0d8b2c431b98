import { expect } from "chai";
import { parseQuantity } from "./quantity.ts";

describe("parseQuantity", () => {
  const cases: readonly [number | string, number][] = [
    [42, 42],
    ["42", 42],
    ["18Gi", 18 * 2 ** 30],
    ["280G", 280e9],
    ["1500m", 1.5],
    ["2e9", 2e9],
    ["1.5Ki", 1536],
    [".5k", 500],
    ["-1", -1],
  ];
  for (const [text, want] of cases)
    it(`${text} is ${want}`, () => expect(parseQuantity(text)).to.deep.equal({ ok: true, value: want }));

  for (const text of ["", "Gi", "18 Gi", "18gib", "much", "1e", "0x10"]) {
    it(`${JSON.stringify(text)} is none`, () =>
      expect(parseQuantity(text)).to.include({ ok: false, code: "BadQuantity" }));
  }
});
