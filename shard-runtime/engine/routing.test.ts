import { expect } from "chai";
import fc from "fast-check";
import type { Experts } from "../../core/model-config.ts";
import { chooseExperts, routeRows } from "./routing.ts";

const experts = (part: Partial<Experts> = {}): Experts => ({
  count: 4,
  perToken: 2,
  size: 16,
  weights: "softmaxOfChosen",
  routerBias: false,
  bias: false,
  ...part,
});

const rowsOf = (rowCount: number, count: number) =>
  fc.float32Array({ minLength: rowCount * count, maxLength: rowCount * count, noNaN: true, min: -30, max: 30 });

describe("the choice of experts", () => {
  it("takes the largest logits, in ascending order, with a softmax over them", () => {
    const chosen = chooseExperts(Float32Array.of(0, 2, -1, 1), experts());
    expect(chosen.map(({ expert }) => expert)).to.deep.equal([1, 3]);
    expect(chosen[0]?.weight).to.be.closeTo(Math.E / (Math.E + 1), 1e-7);
  });

  it("or with a softmax over all", () => {
    const chosen = chooseExperts(Float32Array.of(0, 0, 0, 0), experts({ weights: "chosenOfSoftmax" }));
    expect(chosen).to.deep.equal([
      { expert: 0, weight: 0.25 },
      { expert: 1, weight: 0.25 },
    ]);
  });

  it("of equal logits takes the lower index", () => {
    const chosen = chooseExperts(Float32Array.of(1, 5, 5, 5), experts());
    expect(chosen.map(({ expert }) => expert)).to.deep.equal([1, 2]);
  });

  it("weights of the chosen sum to one, or to less where all were weighed", () => {
    fc.assert(
      fc.property(rowsOf(1, 4), (logits) => {
        const sum = (config: Experts) => chooseExperts(logits, config).reduce((total, { weight }) => total + weight, 0);
        expect(sum(experts())).to.be.closeTo(1, 1e-6);
        expect(sum(experts({ weights: "chosenOfSoftmax" }))).to.be.at.most(1 + 1e-6);
      }),
    );
  });

  it("a row's experts do not depend on the rows around it, and ranks share them all out", () => {
    fc.assert(
      fc.property(rowsOf(5, 4), fc.nat(4), (logits, border) => {
        const config = experts();
        const parts = [
          { start: 0, end: border },
          { start: border, end: 4 },
        ].map((held) => routeRows(logits, 5, config, held));
        for (let row = 0; row < 5; row += 1) {
          const alone = chooseExperts(logits.subarray(row * 4, row * 4 + 4), config);
          const found = parts.flatMap((part) =>
            [...part].flatMap(([expert, { rows, weights }]) =>
              rows.includes(row) ? [{ expert, weight: weights[rows.indexOf(row)] ?? 0 }] : [],
            ),
          );
          expect(found).to.deep.equal(alone);
        }
      }),
    );
  });
});
