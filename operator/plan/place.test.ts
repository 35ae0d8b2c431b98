import { expect } from "chai";
import fc from "fast-check";
import { FACTS, aModel, aNode, aPartNode, aWorld, roomForLayers } from "./builders.ts";
import { RUNTIME_BYTES, footprint } from "./footprint.ts";
import { place } from "./place.ts";
import { brokenWishes, overfullNode } from "./soundness.ts";
import { eligible } from "./holders.ts";
import { routesOf } from "./routes.ts";
import { type DrawnWorld, someWorld, worldOf } from "./some-world.ts";
import type { NodeFacts, Placement } from "./types.ts";

type Known = ReturnType<typeof aWorld>;

const fast = { memoryBytesPerSecond: 60e9 };
const show = (world: Known): readonly string[] => {
  const placed = place(world);
  if (!placed.ok) return [placed.code];
  return placed.value.assignments.map(
    ({ chain, segment, rank, sliceWeights, node, layers }) =>
      `${chain}.${segment}${sliceWeights.length > 1 ? `.${rank}/${sliceWeights.length}` : ""} ${node} ${layers.start}-${layers.end}`,
  );
};
const ways = (world: Known): readonly string[] => {
  const placed = place(world);
  return placed.ok
    ? routesOf(placed.value).map(({ segments }) => segments.map((each) => `${each.chain}.${each.segment}`).join(" > "))
    : [placed.code];
};
const room = (layers: number): Partial<NodeFacts> => ({ freeBytes: roomForLayers(layers) });
const pair = [aNode("a", { provider: "x" }), aNode("b", { provider: "x" })];
const quickLink = [
  { to: "a", roundTripMicros: 20, bytesPerSecond: 10e9 },
  { to: "b", roundTripMicros: 20, bytesPerSecond: 10e9 },
];
/** Nodes whose layers take so long that an exchange is nothing beside them. */
const heavy = { bytes: 1e6, oneMicros: 50_000, manyMicros: 100_000, manyRows: 8 };

describe("place", () => {
  const cases: readonly (readonly [string, Known, readonly string[]])[] = [
    ["one node holds all", aWorld([aNode("a")]), ["0.0 a 0-12"]],
    ["even nodes share evenly", aWorld([aPartNode("a"), aPartNode("b")]), ["0.0 a 0-6", "0.1 b 6-12"]],
    ["where one has room for all, no time is lost between two", aWorld([aNode("a"), aNode("b")]), ["0.0 a 0-12"]],
    ["nothing fits", aWorld([aNode("a", room(3))]), ["NotEnoughRoom"]],
    ["two providers are asked for", aWorld(pair, aModel({}, { providersMin: 2 })), ["TooFewProviders"]],
    [
      "a denied provider is passed over",
      aWorld([aNode("a"), aNode("b")], aModel({}, { providersDeny: ["a-owner"] })),
      ["0.0 b 0-12"],
    ],
    ["nobody is left", aWorld([aNode("a", { ready: false })]), ["NoNodes"]],
    [
      "two chains share no node while there are enough",
      aWorld([aNode("a"), aNode("b")], aModel({ replicas: 2 })),
      ["0.0 a 0-12", "1.0 b 0-12"],
    ],
    [
      "two chains run through one node where there is but one",
      aWorld([aNode("a")], aModel({ replicas: 2 })),
      ["0.0 a 0-12"],
    ],
    [
      "nodes that always share layers form a segment",
      aWorld(pair, aModel({}, { tensorParallelMax: 2, tensorParallelAlways: true })),
      ["0.0.0/2 a 0-12", "0.0.1/2 b 0-12"],
    ],
    [
      "text stays with trusted providers",
      aWorld([aNode("a"), aNode("b")], aModel({}, { edgeProviders: ["b-owner"] })),
      ["0.0 b 0-12"],
    ],
    [
      "no trusted provider offers a node",
      aWorld([aNode("a")], aModel({}, { edgeProviders: ["c-owner"] })),
      ["NoTrustedEdge"],
    ],
    [
      "a device that is not named holds nothing",
      aWorld([aNode("a"), aNode("b", { device: "cuda" })], aModel({}, { devices: ["cuda"] })),
      ["0.0 b 0-12"],
    ],
    [
      "a region that is not known holds nothing",
      aWorld([aNode("a"), aNode("b", { region: "north" })], aModel({}, { regions: ["north"] })),
      ["0.0 b 0-12"],
    ],
    [
      "a provider's share is too small for two",
      aWorld([aNode("a"), aNode("b")], aModel({}, { providersMaxSharePercent: 40 })),
      ["ShareTooSmall"],
    ],
    [
      "the ceiling is below the cheapest",
      aWorld([aNode("a", { pricePerHour: 5n })], aModel({}, { pricePerHourMax: 4n })),
      ["TooExpensive"],
    ],
    [
      "the ceiling pays for one of two",
      aWorld([aNode("a", { pricePerHour: 5n }), aNode("b", { pricePerHour: 3n })], aModel({}, { pricePerHourMax: 4n })),
      ["0.0 b 0-12"],
    ],
    [
      "no plan is quick enough",
      aWorld([aNode("a")], aModel({ objective: { kind: "Throughput", timePerTokenMsMax: 1 } })),
      ["TooSlow"],
    ],
    [
      "the quickest for one session is one quick node",
      aWorld([aNode("a", fast), aNode("b")], aModel({ objective: { kind: "Latency" } })),
      ["0.0 a 0-12"],
    ],
    [
      "the cheapest that is fast enough",
      aWorld(
        [aNode("a", { ...fast, pricePerHour: 9n }), aNode("b", { pricePerHour: 2n })],
        aModel({ objective: { kind: "Price", tokensPerSecondMin: 1 } }),
      ),
      ["0.0 b 0-12"],
    ],
  ];
  for (const [name, world, wanted] of cases) it(name, () => expect(show(world)).to.have.members([...wanted]));

  it("a faster node takes more, a full node what fits", () => {
    const layersOn = (world: Known, name: string) => {
      const placed = place(world);
      const own = placed.ok ? placed.value.assignments.find(({ node }) => node === name)?.layers : undefined;
      return own === undefined ? 0 : own.end - own.start;
    };
    expect(layersOn(aWorld([aPartNode("a", fast), aPartNode("b")]), "a")).to.be.above(6);
    expect(layersOn(aWorld([aNode("a", { ...fast, ...room(2) }), aPartNode("b")]), "a")).to.equal(2);
  });

  it("lets chains cross where memory is too short for two of everything", () => {
    const world = aWorld([aNode("a", room(8)), aNode("b", room(8)), aNode("c", room(8))], aModel({ replicas: 2 }));
    const [first = "", second = ""] = ways(world);
    expect(first).to.not.equal(second);
    const common = first.split(" > ").filter((segment) => second.split(" > ").includes(segment));
    expect(common).to.have.length(1);
  });

  it("leaves a chain whoever is lost, or says that it cannot", () => {
    const model = aModel({ replicas: 2 }, { surviveProviders: 1 });
    expect(show(aWorld([aNode("a"), aNode("b")], model))).to.deep.equal(["0.0 a 0-12", "1.0 b 0-12"]);
    expect(show(aWorld(pair, model))).to.deep.equal(["CannotSurviveLoss"]);
  });

  it("has nodes share layers over quick links, and no others", () => {
    const nodes = (links: NodeFacts["links"]) =>
      pair.map((node) => ({ ...node, layerTimes: heavy, ...(links === undefined ? {} : { links }) }));
    const objective = { kind: "Latency" } as const;
    const model = aModel({ objective }, { tensorParallelMax: 2 });
    expect(show(aWorld(nodes(quickLink), model))).to.have.length(2);
    const slow = quickLink.map((link) => ({ ...link, roundTripMicros: 400_000 }));
    expect(show(aWorld(nodes(slow), model))).to.have.length(1);
  });

  it("chooses the sessions of a chain where nobody says how many", () => {
    const slots = (nodes: readonly NodeFacts[]) => {
      const placed = place(aWorld(nodes, aModel({ slotsByPlanner: true, slotCount: 4 })));
      return placed.ok ? placed.value.slotCount : placed.code;
    };
    expect(slots([aNode("a")])).to.equal(16);
    expect(slots([aNode("a", room(12))])).to.be.below(4);
    const { layerBytes, endBytes } = footprint(aModel({ slotCount: 8 }), FACTS);
    const justEight = RUNTIME_BYTES + 12 * layerBytes + 2 * endBytes;
    expect(slots([aNode("a", { freeBytes: justEight })])).to.equal(8);
  });

  it("takes, of nodes that are alike, the one that has the model in its cache", () => {
    const nodes = ["a", "b", "c"].map((name) => aNode(name, { provider: "x" }));
    const cached = nodes.map((node) => (node.name === "b" ? { ...node, cached: { "sha256:00": 7 } } : node));
    const model = aModel({ objective: { kind: "Latency" } });
    expect(show(aWorld(nodes, model))).to.deep.equal(["0.0 a 0-12"]);
    expect(show(aWorld(cached, model))).to.deep.equal(["0.0 b 0-12"]);
  });

  it("says which node lacks what and what would help", () => {
    const placed = place(aWorld([aNode("a", room(3))], aModel({ quantization: "f32" })));
    expect(placed.ok).to.equal(false);
    if (!placed.ok) expect(placed.detail).to.match(/short: 12 layers of .*; a .* free, room for \d+/);
  });

  it("names every node left out, a slow one with the figure", () => {
    const slow = aNode("d", { links: [{ to: "a", roundTripMicros: 900_000, bytesPerSecond: 1e3 }] });
    const nodes = [aNode("a"), aNode("b", { ready: false }), aNode("c", { providerAdmitted: false }), slow];
    const placed = place(aWorld(nodes, aModel({ objective: { kind: "Latency" } })));
    const out = placed.ok ? placed.value.leftOut : [];
    expect(out.map(({ node, code }) => `${node} ${code}`)).to.deep.equal([
      "b NodeNotReady",
      "c ProviderNotAdmitted",
      "d Slows",
    ]);
    expect(out.at(-1)?.why).to.match(/ms a token instead of/);
  });

  it("keeps every wish, on any world", () => {
    fc.assert(
      fc.property(someWorld, (drawn) => expectSound(worldOf(drawn), place(worldOf(drawn), { evaluationCount: 30 }))),
      { numRuns: 40, seed: 1 },
    );
  });

  it("does not depend on the order of lists", () => {
    const turned = ({ nodes, ...drawn }: DrawnWorld) => ({ ...drawn, nodes });
    fc.assert(
      fc.property(someWorld, (drawn) => {
        const world = worldOf(turned(drawn));
        const other = { ...world, nodes: [...world.nodes].reverse() };
        const options = { evaluationCount: 30 };
        expect(place(other, options)).to.deep.equal(place(world, options));
      }),
      { numRuns: 15, seed: 2 },
    );
  });
});

function expectSound(world: Known, placed: ReturnType<typeof place>): void {
  if (!placed.ok) return;
  const { model, facts } = world;
  const nodes = new Map(world.nodes.map((node) => [node.name, node]));
  const may = new Set(eligible(model, world.nodes).nodes.map(({ name }) => name));
  expect(brokenWishes({ model, facts, nodes }, placed.value)).to.deep.equal([]);
  expect(overfullNode(nodes, placed.value.assignments)).to.equal(undefined);
  expect(placed.value.assignments.filter(({ node }) => !may.has(node))).to.deep.equal([]);
  const heard = JSON.parse(JSON.stringify(withoutBigints(placed.value))) as unknown;
  expect(heard).to.deep.equal(withoutBigints(placed.value));
}

const withoutBigints = ({ estimate, ...placement }: Placement): object => ({
  ...placement,
  estimate: { ...estimate, pricePerHour: String(estimate.pricePerHour ?? 0n) },
});
