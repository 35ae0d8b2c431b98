import { expect } from "chai";
import fc from "fast-check";
import { sameData, sameJson } from "./same.ts";

describe("values that are the same", () => {
  it("are as JSON where they are as text, a field that is undefined being absent", () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.jsonValue(), (a, b) => {
        expect(sameJson(a, structuredClone(a))).to.equal(true);
        if (JSON.stringify(a) === JSON.stringify(b)) expect(sameJson(a, b)).to.equal(true);
        expect(sameJson({ a, b: undefined }, { a })).to.equal(true);
        expect(sameJson({ a }, { a, b: undefined })).to.equal(true);
        expect(sameJson({ a }, { a, more: 1 })).to.equal(false);
        expect(sameJson({ a, more: 1 }, { a })).to.equal(false);
      }),
    );
  });

  it("are as data to the last field, and what is no plain data is itself only", () => {
    fc.assert(fc.property(fc.jsonValue(), (a) => void expect(sameData(a, structuredClone(a))).to.equal(true)));
    for (const [a, b] of [
      [{ a: undefined }, {}],
      [{ a: undefined }, { b: undefined }],
      [[], {}],
      [null, {}],
      [1n, 2n],
      [new Map(), new Map()],
      [new Date(0), new Date(0)],
      [[1, 2], [1]],
    ])
      expect(sameData(a, b), JSON.stringify([String(a), String(b)])).to.equal(false);
    expect(sameData({ a: 1n }, { a: 1n })).to.equal(true);
  });
});
