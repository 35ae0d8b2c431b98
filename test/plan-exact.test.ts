import { expect } from "chai";
import { provedBound } from "./bench/plan-bound.ts";
import { compareAll, isOptimal } from "./bench/plan-compare.ts";
import { exactSolver } from "./bench/plan-exact.ts";
import { aSmallWorld } from "./bench/plan-worlds.ts";

/** A share of what `npm run bench -- plan` compares; there it is 500 worlds. */
const WORLDS = 16;

describe("the search beside an exact solver", () => {
  it(`is optimal on the first ${WORLDS} random small worlds, under every aim and with rules`, async () => {
    const compared = compareAll(await exactSolver(), WORLDS).filter(({ isPossible }) => isPossible);
    expect(compared.length).to.be.greaterThan(2 * WORLDS);
    expect(compared.filter((each) => !isOptimal(each))).to.deep.equal([]);
  }).timeout(240_000);

  it("never exceeds what linear programmes prove, nor does the optimum", async () => {
    const exact = await exactSolver();
    for (let seed = 300; seed < 320; seed += 1) {
      const problem = aSmallWorld(seed, "flow", 0);
      const optimum = exact(problem) ?? 0;
      const fastest = Math.max(...problem.sites.flatMap(({ tokensPerSecond }) => tokensPerSecond));
      const { tokensPerSecond } = await provedBound(problem, problem.sites.length * fastest, 0);
      expect(tokensPerSecond, `world ${seed}`).to.be.at.least(optimum * (1 - 1e-6));
    }
  }).timeout(240_000);
});
