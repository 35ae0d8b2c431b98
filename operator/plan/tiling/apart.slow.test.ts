import { expect } from "chai";
import fc from "fast-check";
import { present } from "../../../core/assert.ts";
import { flowBound } from "./bound.ts";
import { MICRO, fieldOf } from "./field.ts";
import type { Tiling, TilingProblem } from "./problem.ts";
import { tile } from "./tile.ts";
import { aProblem, aSite } from "./tiling-fixture.ts";

const answerOf = (problem: TilingProblem): Tiling => {
  const result = tile(problem);
  return present(result.ok ? result.value : undefined, result.ok ? "an answer" : result.detail);
};

/** More sites than are searched one by one; no two alike. */
const manySites = (count: number, seed = 7) =>
  Array.from({ length: count }, (_, index) => {
    const drawn = ((index + 1) * seed * 2654435761) % 1000;
    const provider = `p${index % 9}`;
    return aSite(`n${index}`, 100 + drawn, 2 + (drawn % 5), { provider, mayHoldEnds: drawn % 3 > 0 });
  });

describe("chains of many sites", function () {
  this.timeout(20_000);

  it("share nothing where there is room, and together carry most of what all sites could", () => {
    const problem = aProblem(manySites(120), { layerCount: 24, chainCount: 6 });
    const answer = answerOf(problem);
    const used = answer.chains.flatMap(({ holdings }) => holdings);
    expect(answer.chains).to.have.length(6);
    expect(new Set(used).size).to.equal(used.length);
    expect((answer.tokensPerSecond * MICRO) / flowBound(fieldOf(problem))).to.be.greaterThan(0.75);
  });

  it("carry more with more chains to name, not less", () => {
    const flows = [1, 2, 4, 8].map(
      (chainCount) => answerOf(aProblem(manySites(120), { layerCount: 24, chainCount })).tokensPerSecond,
    );
    expect(flows).to.deep.equal(flows.toSorted((a, b) => a - b));
  });

  it("keep every rule, are whole, and name as many chains as asked for", () => {
    const drawn = fc.record({
      seed: fc.integer({ min: 1, max: 1e6 }),
      count: fc.integer({ min: 65, max: 110 }),
      chainCount: fc.integer({ min: 1, max: 12 }),
      providersMin: fc.integer({ min: 1, max: 4 }),
      share: fc.integer({ min: 8, max: 24 }),
      chainsAfterLoss: fc.constantFrom(0, 0, 1),
    });
    const check = fc.property(drawn, ({ seed, count, chainCount, providersMin, share, chainsAfterLoss }) => {
      const sites = manySites(count, seed);
      const rules = {
        providersMin,
        providerLayersMax: share,
        chainsAfterLoss: Math.min(chainsAfterLoss, chainCount - 1),
      };
      const result = tile(aProblem(sites, { layerCount: 24, chainCount, rules, evaluationCount: 300 }));
      if (!result.ok) return;
      const { chains, holdings } = result.value;
      expect(chains).to.have.length(chainCount);
      const siteOf = (at: number) => sites.find(({ name }) => name === holdings[at]?.site);
      for (const chain of chains) {
        const layers = new Map<string, number>();
        let next = 0;
        for (const at of chain.holdings) {
          const { start, end } = present(holdings[at], "a holding").layers;
          expect(start).to.equal(next);
          next = end;
          const site = present(siteOf(at), "a site");
          expect(end - start).to.be.at.most(site.layersMax.inner);
          expect(site.mayHoldEnds || (start > 0 && end < 24)).to.equal(true);
          layers.set(site.provider, (layers.get(site.provider) ?? 0) + end - start);
        }
        expect(next).to.equal(24);
        expect(layers.size).to.be.at.least(providersMin);
        expect(Math.max(...layers.values())).to.be.at.most(share);
      }
    });
    fc.assert(check, { numRuns: 25 });
  });

  it("are the same whatever the order of the sites", () => {
    const sites = manySites(90);
    const more = { layerCount: 24, chainCount: 3, evaluationCount: 300 };
    expect(answerOf(aProblem(sites.toReversed(), more))).to.deep.equal(answerOf(aProblem(sites, more)));
  });
});
