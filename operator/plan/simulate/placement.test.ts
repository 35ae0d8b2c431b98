import { expect } from "chai";
import { present } from "../../../core/assert.ts";
import { FACTS, aModel, aNode } from "../builders.ts";
import { costs } from "../cost/costs.ts";
import { modelSizes } from "../cost/sizes.ts";
import type { Assignment, NodeFacts } from "../types.ts";
import type { Load } from "./house.ts";
import { type Placed, houseOf, simulatePlacement } from "./placement.ts";

const { layerCount } = FACTS.config;
const bytes = present(modelSizes(aModel(), FACTS).ranks([1])[0], "one rank").layerBytes;
const link = (to: string, roundTripMicros: number) => ({ to, roundTripMicros, bytesPerSecond: 1e9 });
const node = (name: string, oneMicros: number, links: NodeFacts["links"] = []): NodeFacts =>
  aNode(name, {
    layerTimes: { bytes, oneMicros, manyMicros: 2 * oneMicros, manyRows: 11, stepMicros: 100 },
    links: [link("gateway", 1000), ...links],
  });
const held = (chain: number, segment: number, name: string, start: number, end: number): Assignment => ({
  chain,
  segment,
  rank: 0,
  node: name,
  provider: "p",
  layers: { start, end },
  sliceWeights: [1],
  weightBytes: 0,
  kvBytes: 0,
});
const two: Placed = {
  model: aModel({ slotCount: 4 }),
  facts: FACTS,
  nodes: [node("a", 1000, [link("b", 4000)]), node("b", 2000)],
  assignments: [held(0, 0, "a", 0, 8), held(0, 1, "b", 8, layerCount)],
};
const alone: Load = { kind: "closed", clientCount: 1, promptTokens: 16, generatedTokens: 64, spread: 0 };

describe("simulation of a placement", () => {
  it("one session takes what its segments and trips take", () => {
    const all = costs(two.model, FACTS, two.nodes, { sessionCount: 1, promptTokens: 16, generatedTokens: 64 });
    const segment = (index: number, layers: number) =>
      all.site([present(two.nodes[index], "two nodes")], [1]).tokenSeconds(layers, index === 1);
    const wanted = segment(0, 8) + segment(1, layerCount - 8) + 0.002 + 0.001 + 0.0005; // trips, and the gateway
    expect(simulatePlacement(two, alone).secondsPerToken.median).to.be.closeTo(wanted, wanted * 0.02);
  });

  it("more sessions are served faster together, each of them slower", () => {
    const [one, four] = [1, 4].map((clientCount) => simulatePlacement(two, { ...alone, clientCount }));
    expect(four?.generatedPerSecond).to.be.above(1.3 * (one?.generatedPerSecond ?? Number.NaN));
    expect(four?.secondsPerToken.median).to.be.above(one?.secondsPerToken.median ?? Number.NaN);
  });

  it("routes may cross: paths pass through other chains' segments", () => {
    const crossing: Placed = {
      ...two,
      nodes: [...two.nodes, node("c", 1500)],
      assignments: [...two.assignments, held(1, 0, "c", 0, 8)],
      routes: [
        {
          chain: 0,
          segments: [
            { chain: 0, segment: 0 },
            { chain: 0, segment: 1 },
          ],
        },
        {
          chain: 1,
          segments: [
            { chain: 1, segment: 0 },
            { chain: 0, segment: 1 },
          ],
        },
      ],
    };
    expect(houseOf(crossing).paths.map(({ stations }) => stations)).to.deep.equal([
      [0, 1],
      [2, 1],
    ]);
    expect(simulatePlacement(crossing).stuck).to.equal(false);
  });

  it("the same plan has the same figures, whatever the order of its lists", () => {
    const turned = { ...two, nodes: two.nodes.toReversed(), assignments: two.assignments.toReversed() };
    expect(simulatePlacement(turned)).to.deep.equal(simulatePlacement(two));
  });
});
