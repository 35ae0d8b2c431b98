import { expect } from "chai";
import fc from "fast-check";
import { present } from "../../../core/assert.ts";
import type { Tiling, TilingProblem } from "./problem.ts";
import { assess, tile } from "./tile.ts";
import { aProblem, aSite } from "./tiling-fixture.ts";

const answerOf = (problem: TilingProblem): Tiling => {
  const result = tile(problem);
  return present(result.ok ? result.value : undefined, result.ok ? "an answer" : result.detail);
};

/** "a 0-3, b 3-6" of every chain, widest first. */
const shown = ({ holdings, chains }: Tiling): readonly string[] =>
  chains.map((chain) =>
    chain.holdings
      .map((index) => holdings[index])
      .map((holding) => `${holding?.site} ${holding?.layers.start}-${holding?.layers.end}`)
      .join(", "),
  );

describe("tile", () => {
  it("one site that has room holds everything", () => {
    expect(shown(answerOf(aProblem([aSite("a")])))).to.deep.equal(["a 0-6"]);
  });

  it("equal sites share evenly, and the flow is a site's rate with its part", () => {
    const answer = answerOf(aProblem([aSite("a"), aSite("b")], { chainCount: 1 }));
    expect(answer.tokensPerSecond).to.be.closeTo(100 / 3, 1e-3);
    expect(answer.chains).to.have.length(1);
  });

  it("what bounds the flow is named", () => {
    const slow = { tokensPerSecond: 5, seconds: 0.05 };
    const links = { between: () => slow, entry: () => slow, exit: () => slow };
    const halves = [aSite("a", 100, 3), aSite("b", 100, 3)];
    const answer = answerOf(aProblem(halves, { links: { ...aProblem([]).links, between: links.between } }));
    expect(answer.tokensPerSecond).to.equal(5);
    expect(answer.bottleneck.join()).to.match(/^(a → b|b → a)$/);
  });

  it("the order of sites makes no difference", () => {
    const sites = [aSite("a", 100, 3), aSite("b", 70, 4), aSite("c", 50, 2), aSite("d", 130, 3)];
    expect(answerOf(aProblem(sites.toReversed()))).to.deep.equal(answerOf(aProblem(sites)));
  });

  it("a chain of the least time takes the fast site alone; the cheapest enough takes the cheap one", () => {
    const sites = [aSite("cheap", 60, 6, { pricePerHour: 10 }), aSite("fast", 600, 6, { pricePerHour: 500 })];
    expect(shown(answerOf(aProblem(sites, { aim: { kind: "latency" } })))).to.deep.equal(["fast 0-6"]);
    const price = { kind: "price", tokensPerSecondMin: 9 } as const;
    expect(shown(answerOf(aProblem(sites, { aim: price })))).to.deep.equal(["cheap 0-6"]);
    const dear = answerOf(aProblem(sites, { aim: { kind: "price", tokensPerSecondMin: 80 } }));
    expect(dear.pricePerHour).to.equal(500);
  });

  it("rules hold: providers in a chain, a provider's share, trusted ends, chains after a loss", () => {
    const sites = [aSite("a"), aSite("b"), aSite("c", 900, 6, { mayHoldEnds: false })];
    const rules = { providersMin: 3, providerLayersMax: 3, chainsAfterLoss: 0 };
    const [chain = ""] = shown(answerOf(aProblem(sites, { rules, chainCount: 1 })));
    expect(chain).to.match(/^[ab] 0-\d, c \d-\d, [ab] \d-6$/);
    const twice = answerOf(
      aProblem([aSite("a"), aSite("b")], {
        rules: { ...rules, providersMin: 1, providerLayersMax: 6, chainsAfterLoss: 1 },
      }),
    );
    expect(shown(twice).toSorted()).to.deep.equal(["a 0-6", "b 0-6"]);
  });

  it("chains asked for beyond what there is are named twice, and share", () => {
    const answer = answerOf(aProblem([aSite("a")], { chainCount: 2 }));
    expect(shown(answer)).to.deep.equal(["a 0-6", "a 0-6"]);
    expect(answer.tokensPerSecond).to.be.closeTo(100 / 6, 1e-3);
  });

  it("refuses in words where nothing fits", () => {
    expect(tile(aProblem([]))).to.have.property("code", "NoSites");
    expect(tile(aProblem([aSite("a", 100, 2)]))).to.have.property("code", "NotEnoughRoom");
    const rules = { providersMin: 2, providerLayersMax: 6, chainsAfterLoss: 0 };
    expect(tile(aProblem([aSite("a")], { rules }))).to.have.property("code", "TooFewProviders");
  });

  it("holdings given from elsewhere are assessed the same way", () => {
    const problem = aProblem([aSite("a"), aSite("b")]);
    expect(assess(problem, [{ site: "a", layers: { start: 0, end: 5 } }])).to.equal(undefined);
    const whole = assess(problem, [
      { site: "a", layers: { start: 0, end: 2 } },
      { site: "b", layers: { start: 2, end: 6 } },
    ]);
    expect(whole?.tokensPerSecond).to.equal(25);
  });

  it("where sessions are few, a site that costs more time than it brings width is left out", () => {
    const sites = [aSite("fast", 600), aSite("slow", 200)];
    const links = { ...aProblem([]).links, between: () => ({ tokensPerSecond: 1e6, seconds: 0.02 }) };
    const wayAt = (tokensInFlightMax: number) =>
      shown(answerOf(aProblem(sites, { links, chainCount: 1, tokensInFlightMax })));
    expect(wayAt(0.5)).to.deep.equal(["fast 0-6"]);
    expect(wayAt(50)[0]).to.contain("slow");
  });

  it("chains carry what their sessions get, and share those of a holding that both pass", () => {
    const at = (site: string, start: number, end: number) => ({ site, layers: { start, end } });
    const sites = [aSite("a", 600), aSite("b", 600), aSite("c", 60)];
    const few = { chainCount: 2, tokensInFlightMax: 0.2 };
    const crossing = assess(aProblem(sites, few), [at("a", 0, 3), at("b", 3, 6), at("c", 3, 6)]);
    const flows = (crossing?.chains ?? []).map((chain) => chain.tokensPerSecond * chain.secondsPerToken);
    for (const inFlight of flows) expect(inFlight).to.be.closeTo(0.1, 1e-6);
    const apart = assess(aProblem(sites, few), [at("a", 0, 6), at("b", 0, 6)]);
    expect(apart?.tokensPerSecond).to.be.closeTo((2 * 0.2) / (apart?.chains[0]?.secondsPerToken ?? 0), 1e-3);
    expect(apart?.tokensPerSecondBound).to.be.at.least(apart?.tokensPerSecond ?? Number.POSITIVE_INFINITY);
  });

  it("where sessions are few, one route named twice is better than a second that takes its sessions from the first", () => {
    const sites = [aSite("a", 600, 3), aSite("b", 600, 3), aSite("slow", 100, 3)];
    const few = answerOf(aProblem(sites, { chainCount: 2, tokensInFlightMax: 0.02 }));
    expect(new Set(shown(few)).size).to.equal(1);
    expect(few.holdings.map(({ site }) => site)).to.have.members(["a", "b"]);
    const alike = [aSite("a", 600, 3), aSite("b", 600, 3), aSite("c", 600, 3)];
    const unlike = answerOf(aProblem(alike, { chainCount: 2, tokensInFlightMax: 0.02 }));
    expect(new Set(shown(unlike)).size).to.equal(2);
  });

  it("what stands stays unless the gain is worth it, and is mended without moving what is whole", () => {
    const at = (site: string, start: number, end: number) => ({ site, layers: { start, end } });
    const holdings = [at("a", 0, 4), at("b", 4, 6)];
    const sites = [aSite("a"), aSite("b"), aSite("c")];
    const kept = answerOf(aProblem(sites, { chainCount: 1, standing: { holdings, gainMin: 10 } }));
    expect(kept.holdings).to.deep.equal(holdings);
    const moved = answerOf(aProblem(sites, { chainCount: 1, standing: { holdings, gainMin: 0.1 } }));
    expect(moved.tokensPerSecond).to.be.closeTo(50, 1e-3);
    const lost = [aSite("a"), aSite("c")];
    const mended = answerOf(aProblem(lost, { chainCount: 1, standing: { holdings, gainMin: 10 } }));
    expect(mended.holdings).to.deep.equal([at("a", 0, 4), at("c", 4, 6)]);
  });

  it("a site more is never worth less where all states are tried, afresh and with one chain or any number", () => {
    const site = fc.record({
      rate: fc.integer({ min: 20, max: 300 }),
      most: fc.integer({ min: 1, max: 4 }),
      mayHoldEnds: fc.boolean(),
    });
    const drawn = fc.record({
      sites: fc.array(site, { minLength: 2, maxLength: 4 }),
      chainCount: fc.constantFrom(1, undefined),
      isLatency: fc.boolean(),
    });
    const check = fc.property(drawn, ({ sites, chainCount, isLatency }) => {
      const all = sites.map(({ rate, most, mayHoldEnds }, index) => aSite(`n${index}`, rate, most, { mayHoldEnds }));
      const aim = isLatency ? ({ kind: "latency" } as const) : ({ kind: "throughput" } as const);
      const [fewer, more] = [all.slice(1), all].map((those) =>
        tile(aProblem(those, { layerCount: 4, chainCount, aim })),
      );
      if (fewer?.ok !== true) return;
      const [before, after] = [fewer.value, present(more?.ok === true ? more.value : undefined, "still an answer")];
      if (!isLatency) expect(after.tokensPerSecond).to.be.at.least(before.tokensPerSecond - 1e-5);
      else expect(after.chains[0]?.secondsPerToken).to.be.at.most((before.chains[0]?.secondsPerToken ?? 0) + 1e-9);
    });
    fc.assert(check, { numRuns: 60 });
  });
});
