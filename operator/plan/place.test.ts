import { expect } from "chai";
import fc from "fast-check";
import { lengthOf } from "../../core/ranges.ts";
import { aConfig, aModel, aNode, aWorld, roomForLayers } from "./builders.ts";
import { RUNTIME_BYTES } from "./footprint.ts";
import { place } from "./place.ts";
import type { Placement } from "./types.ts";

const fast = { memoryBytesPerSecond: 60e9 };
const show = (world: ReturnType<typeof aWorld>): readonly string[] => {
  const placed = place(world);
  if (!placed.ok) return [placed.code];
  return placed.value.assignments.map(
    ({ chain, segment, rank, sliceWeights, node, layers }) =>
      `${chain}.${segment}${sliceWeights.length > 1 ? `.${rank}/${sliceWeights.length}` : ""} ${node} ${layers.start}-${layers.end}`,
  );
};

describe("place", () => {
  const cases: readonly (readonly [string, ReturnType<typeof aWorld>, readonly string[]])[] = [
    ["one node holds all", aWorld([aNode("a")]), ["0.0 a 0-12"]],
    ["even nodes share evenly", aWorld([aNode("a"), aNode("b")]), ["0.0 b 0-6", "0.1 a 6-12"]],
    ["a faster node takes more", aWorld([aNode("a", fast), aNode("b")]), ["0.0 a 0-9", "0.1 b 9-12"]],
    [
      "a full node takes what fits",
      aWorld([aNode("a", { ...fast, freeBytes: roomForLayers(2) }), aNode("b")]),
      ["0.0 a 0-2", "0.1 b 2-12"],
    ],
    ["nothing fits", aWorld([aNode("a", { freeBytes: roomForLayers(3) })]), ["NotEnoughRoom"]],
    [
      "two providers are asked for",
      aWorld([aNode("a", { provider: "x" }), aNode("b", { provider: "x" })], aModel({}, { providersMin: 2 })),
      ["TooFewProviders"],
    ],
    [
      "a slow provider still gets a layer where three are asked for",
      aWorld(
        [aNode("a", fast), aNode("b", fast), aNode("c", { memoryBytesPerSecond: 1e9 })],
        aModel({}, { providersMin: 3 }),
      ),
      ["0.0 b 0-5", "0.1 a 5-11", "0.2 c 11-12"],
    ],
    [
      "no provider has more than its share",
      aWorld([aNode("a", fast), aNode("b")], aModel({}, { providersMaxSharePercent: 50 })),
      ["0.0 b 0-6", "0.1 a 6-12"],
    ],
    [
      "a denied provider is passed over",
      aWorld([aNode("a"), aNode("b")], aModel({}, { providersDeny: ["a-owner"] })),
      ["0.0 b 0-12"],
    ],
    [
      "keys and values in int8 need a processor",
      aWorld([aNode("a", { device: "webgpu" }), aNode("b")], aModel({ kvDtype: "int8" })),
      ["0.0 b 0-12"],
    ],
    [
      "and take less room",
      aWorld([aNode("a", { freeBytes: roomForLayers(11) })], aModel({ kvDtype: "int8" })),
      ["0.0 a 0-12"],
    ],
    ["nobody is left", aWorld([aNode("a", { ready: false })]), ["NoNodes"]],
    [
      "two nodes of one provider form a tensor-parallel segment",
      aWorld([aNode("a", { provider: "x" }), aNode("b", { provider: "x" })], aModel({}, { tensorParallelMax: 2 })),
      ["0.0.0/2 a 0-12", "0.0.1/2 b 0-12"],
    ],
    [
      "two chains share no node while there are enough",
      aWorld([aNode("a"), aNode("b")], aModel({ replicas: 2 })),
      ["0.0 a 0-12", "1.0 b 0-12"],
    ],
    [
      "two chains share a node where there is but one",
      aWorld([aNode("a")], aModel({ replicas: 2 })),
      ["0.0 a 0-12", "1.0 a 0-12"],
    ],
  ];
  for (const [name, world, wanted] of cases) it(name, () => expect(show(world)).to.have.members([...wanted]));

  it("says which node lacks what and what would help", () => {
    const placed = place(aWorld([aNode("a", { freeBytes: roomForLayers(3) })], aModel({ quantization: "f32" })));
    expect(placed.ok).to.equal(false);
    if (!placed.ok)
      expect(placed.detail).to.match(
        /short: 12 layers of .*; a .* free, room for \d+ layers\. Add a node with .* or use quantization int4/,
      );
  });

  it("names every node left out", () => {
    const placed = place(aWorld([aNode("a"), aNode("b", { ready: false }), aNode("c", { providerAdmitted: false })]));
    expect(placed.ok && placed.value.leftOut.map(({ node, code }) => `${node} ${code}`)).to.deep.equal([
      "b NodeNotReady",
      "c ProviderNotAdmitted",
    ]);
  });

  const someWorld = fc.record({
    nodes: fc.array(
      fc.record({
        free: fc.integer({ min: 0, max: 600 }),
        speed: fc.integer({ min: 0, max: 100 }),
        provider: fc.constantFrom("x", "y", "z", "w"),
        device: fc.constantFrom("cpu", "cuda"),
        ready: fc.boolean(),
      }),
      { minLength: 1, maxLength: 12 },
    ),
    layerCount: fc.integer({ min: 1, max: 40 }),
    replicas: fc.integer({ min: 1, max: 3 }),
    providersMin: fc.integer({ min: 1, max: 3 }),
    share: fc.integer({ min: 20, max: 100 }),
    tensorParallelMax: fc.integer({ min: 1, max: 3 }),
  });
  const worldOf = (drawn: typeof someWorld extends fc.Arbitrary<infer T> ? T : never) => {
    const nodes = drawn.nodes.map(({ free, speed, provider, device, ready }, index) =>
      aNode(`n${index}`, { freeBytes: free << 20, memoryBytesPerSecond: speed * 1e9, provider, device, ready }),
    );
    const { providersMin, tensorParallelMax, replicas } = drawn;
    const model = aModel({ replicas }, { providersMin, tensorParallelMax, providersMaxSharePercent: drawn.share });
    return aWorld(nodes, model, { root: "sha256:00", config: aConfig({ layerCount: drawn.layerCount }) });
  };

  it("covers every layer of every chain once, within memory, providers and readiness", () => {
    fc.assert(
      fc.property(someWorld, (drawn) => {
        const world = worldOf(drawn);
        const placed = place(world);
        if (placed.ok) expectSound(world, placed.value);
      }),
      { numRuns: 500 },
    );
  });

  it("does not depend on the order of the nodes", () => {
    fc.assert(
      fc.property(someWorld, (drawn) => {
        const world = worldOf(drawn);
        expect(place({ ...world, nodes: [...world.nodes].reverse() })).to.deep.equal(place(world));
      }),
    );
  });
});

function expectSound(world: ReturnType<typeof aWorld>, { assignments }: Placement): void {
  const { layerCount } = world.facts.config;
  const byNode = new Map<string, number>();
  for (let chain = 0; chain < world.model.replicas; chain++) {
    const own = assignments.filter((assignment) => assignment.chain === chain);
    const leaders = own.filter(({ rank }) => rank === 0).sort((a, b) => a.segment - b.segment);
    expect(
      leaders.flatMap(({ layers }) => Array.from({ length: lengthOf(layers) }, (_, index) => layers.start + index)),
    ).to.deep.equal(Array.from({ length: layerCount }, (_, layer) => layer));
    expect(new Set(own.map(({ provider }) => provider)).size).to.be.at.least(world.model.placement.providersMin);
    const limit = Math.max(1, Math.floor((layerCount * world.model.placement.providersMaxSharePercent) / 100));
    for (const provider of new Set(own.map((assignment) => assignment.provider))) {
      expect(
        leaders
          .filter((assignment) => assignment.provider === provider)
          .reduce((sum, { layers }) => sum + lengthOf(layers), 0),
      ).to.be.at.most(limit);
    }
  }
  for (const { node, weightBytes, kvBytes } of assignments)
    byNode.set(node, (byNode.get(node) ?? 0) + weightBytes + kvBytes);
  for (const [name, bytes] of byNode) {
    const node = world.nodes.find((candidate) => candidate.name === name);
    expect(node?.ready).to.equal(true);
    expect(bytes).to.be.at.most((node?.freeBytes ?? 0) - RUNTIME_BYTES);
  }
}
