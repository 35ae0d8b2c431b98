import { expect } from "chai";
import { lengthOf } from "../../../core/ranges.ts";
import type { Tiling } from "../tiling/problem.ts";
import { tile } from "../tiling/tile.ts";
import { aProblem, aSite } from "../tiling/tiling-fixture.ts";
import { valueOrThrow } from "../../../core/result.ts";
import { expected } from "./expected.ts";
import { type House, type Load, RUNTIME_BUDGET, type Station } from "./house.ts";
import { type HouseOf, servedBest } from "./served.ts";
import { simulate } from "./simulate.ts";

const aStation = (name: string, baseSeconds: number, slotCount: number): Station => ({
  name,
  devices: [name],
  slotCount,
  stepSeconds: ({ rowCount }) => baseSeconds + 0.001 * rowCount,
});
const aHouse = (stations: readonly Station[], paths: House["paths"], tripSeconds = 0.001): House => ({
  stations,
  paths,
  between: () => ({ seconds: tripSeconds, secondsPerRow: 0 }),
  entry: () => ({ seconds: tripSeconds, secondsPerRow: 0 }),
  exit: () => ({ seconds: tripSeconds, secondsPerRow: 0 }),
  gatewaySeconds: 0,
  openSeconds: 0,
  budget: RUNTIME_BUDGET,
  lingers: true,
  keepsPace: true,
});
const load = (clientCount: number): Load => ({
  kind: "closed",
  clientCount,
  promptTokens: 8,
  generatedTokens: 32,
  spread: 0.3,
  underWay: true,
});

describe("what a house serves in closed form", () => {
  const line = (count: number) => Array.from({ length: count }, (_, index) => index);
  const houses: readonly (readonly [name: string, house: House, clientCount: number])[] = [
    [
      "a chain of six",
      aHouse(
        line(6).map((at) => aStation(`s${at}`, 0.02, 48)),
        [{ stations: line(6), weight: 1 }],
      ),
      48,
    ],
    [
      "two chains of unlike stations",
      aHouse(
        [aStation("a", 0.02, 16), aStation("b", 0.04, 16), aStation("c", 0.03, 16), aStation("d", 0.02, 16)],
        [
          { stations: [0, 1], weight: 1 },
          { stations: [2, 3], weight: 1 },
        ],
      ),
      32,
    ],
  ];
  for (const [name, house, clientCount] of houses)
    it(`is what is simulated, to a quarter: ${name}`, () => {
      const guessed = expected(house, load(clientCount));
      const { generatedPerSecond } = simulate(house, load(clientCount), { seed: "a", warmUpTokens: 800, tokens: 3000 });
      expect(guessed.generatedPerSecond / generatedPerSecond).to.be.within(0.75, 1.33);
    });

  it("more sessions are served at a higher rate, each of them slower", () => {
    const house = aHouse([aStation("a", 0.02, 64)], [{ stations: [0], weight: 1 }]);
    const [few, many] = [expected(house, load(4)), expected(house, load(32))];
    expect(many.generatedPerSecond).to.be.above(few.generatedPerSecond);
    expect(many.secondsPerToken).to.be.above(few.secondsPerToken);
  });
});

describe("the tiling that serves most", () => {
  const sites = [1, 2, 3, 4, 5, 6].map((at) => aSite(`s${at}`, 100 + 10 * at, 4));
  /** Hand-offs take far longer than layers: few long segments serve more, though many short ones carry more. */
  const houseOf: HouseOf = ({ holdings, chains }: Tiling) => ({
    house: aHouse(
      holdings.map(({ site, layers }) => aStation(site, 0.01 * lengthOf(layers), 8)),
      chains.map((chain) => ({ stations: chain.holdings, weight: chain.tokensPerSecond })),
      0.2,
    ),
    load: load(16),
  });
  const effort = { climbCount: 2, moveCount: 20, finalistCount: 2, tokens: 100, finalTokens: 300 };
  const served = (tiling: Tiling): number => {
    const { house, load: clients } = houseOf(tiling);
    const run = { seed: "b", warmUpTokens: 500, tokens: 1500 };
    return simulate(house, clients, run).generatedPerSecond;
  };

  it("serves no less than the widest", () => {
    const problem = aProblem(sites, { evaluationCount: 30 });
    const best = servedBest(problem, houseOf, effort);
    if (best === undefined) throw new Error("sites that are enough make a tiling");
    expect(served(best)).to.be.at.least(0.95 * served(valueOrThrow(tile(problem))));
  });

  it("is the same whatever the order of the sites", () => {
    const [one, other] = [sites, sites.toReversed()].map((order) =>
      servedBest(aProblem(order, { evaluationCount: 30 }), houseOf, effort),
    );
    expect(one?.holdings).to.deep.equal(other?.holdings);
  });

  it("is none where none keeps the rules", () => {
    expect(servedBest(aProblem([aSite("a", 100, 2)]), houseOf, effort)).to.equal(undefined);
  });
});
