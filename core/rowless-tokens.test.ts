import { expect } from "chai";
import { isRowless } from "./rowless-tokens.ts";

describe("tokens without a row", () => {
  const cases: readonly (readonly [token: unknown, is: boolean])[] = [
    [{ id: 99, special: true }, false],
    [{ id: 100, special: true }, true],
    [{ id: 163, special: true }, true],
    [{ id: 164, special: true }, false],
    [{ id: 100, special: false }, false],
    [{ id: "a", special: true }, false],
    [3, false],
  ];
  for (const [token, is] of cases)
    it(`${JSON.stringify(token)} of a model of 100: ${is}`, () => expect(isRowless(token, 100)).to.equal(is));
});
