import { expect } from "chai";
import { compareAll, isOptimal } from "./bench/plan-compare.ts";
import { exactSolver } from "./bench/plan-exact.ts";

/** A share of what `npm run bench -- plan` compares; there it is 500 worlds. */
const WORLDS = 16;

describe("the search beside an exact solver", () => {
  it(`is optimal on the first ${WORLDS} random small worlds, under every aim and with rules`, async () => {
    const compared = compareAll(await exactSolver(), WORLDS).filter(({ isPossible }) => isPossible);
    expect(compared.length).to.be.greaterThan(2 * WORLDS);
    expect(compared.filter((each) => !isOptimal(each))).to.deep.equal([]);
  }).timeout(240_000);
});
