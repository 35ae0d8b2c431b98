import { expect } from "chai";
import { aConfig, aModel, aNode, aWorld, roomForLayers } from "../builders.ts";
import { compare, comparisonDocument, comparisonText } from "./compare.ts";
import { UNICODE } from "./lines.ts";
import { parseChange } from "./parse-change.ts";

const world = aWorld(
  [
    aNode("a", { provider: "x", freeBytes: roomForLayers(8) }),
    aNode("b", { provider: "y", freeBytes: roomForLayers(8) }),
  ],
  aModel({ quantization: "int8" }),
  { root: "sha256:00", config: aConfig({ layerCount: 6 }) },
);
const changesOf = (...texts: readonly string[]) =>
  texts.map((text) => {
    const change = parseChange(world, text);
    if (!change.ok) throw new Error(change.detail);
    return change.value;
  });
const style = { width: 100, charset: UNICODE, colour: false };

describe("what if", () => {
  it("nothing moves where the plan in force is kept", () => {
    const comparison = compare(world, changesOf("add=c:mem=2Gi,provider=z"));
    expect(comparison.moves).to.deep.equal([]);
    expect(comparisonText(comparison, style)).to.include("moves     nothing: every shard stays where it is");
  });
  it("a node goes: its shard alone moves, and its bytes are counted", () => {
    const three = { ...world, nodes: [...world.nodes, aNode("c", { provider: "z", memoryBytesPerSecond: 1e6 })] };
    const before = compare(three, []).before.placement?.assignments ?? [];
    const gone = before[0]?.node ?? "";
    const comparison = compare(three, [{ do: "remove", node: gone }]);
    expect(comparison.freedNodes).to.deep.equal([gone]);
    expect(comparison.moves).to.have.length(1);
    expect(comparison.loadBytes).to.equal(before[0]?.weightBytes);
  });
  it("another quantisation loads every byte anew; another context none", () => {
    const smaller = compare(world, changesOf("quantization=int4"));
    const weights = smaller.after.placement?.assignments.reduce((sum, { weightBytes }) => sum + weightBytes, 0);
    expect(smaller.loadBytes).to.equal(weights);
    const shorter = compare(world, changesOf("context=128"));
    expect(shorter.moves).to.have.length(2);
    expect(shorter.loadBytes).to.equal(0);
    expect(comparisonText(shorter, style)).to.match(
      /moves {5}2 of 2 shards start anew, 0 B to load: . keeps the weights/,
    );
  });
  it("nothing fits any more: said so, with the code", () => {
    const comparison = compare(world, changesOf("slots=1000000"));
    const text = comparisonText(comparison, style);
    expect(text).to.match(/then\nnothing fits: .*\(NotEnoughRoom\)/s);
    expect(comparisonDocument(comparison).after).to.include({ fits: false, code: "NotEnoughRoom" });
    for (const line of text.split("\n")) expect(line.length).to.be.at.most(100);
  });
  it("is data for programs", () => {
    const document = comparisonDocument(compare(world, changesOf("quantization=int4")));
    expect(document).to.have.all.keys("whatIf", "before", "after", "moves", "loadBytes", "freedNodes");
    expect(JSON.parse(JSON.stringify(document))).to.deep.include({ whatIf: ["quantization int4"] });
  });
});

describe("--what-if", () => {
  const refused: readonly (readonly [string, RegExp])[] = [
    ["", /expected add=NAME/],
    ["remove", /expected add=NAME/],
    ["remove=z", /there is no node z; there are a, b/],
    ["remove=", /there is no node without a name/],
    ["admit=z", /no node is of that provider/],
    ["grow=a", /expected grow=NODE:4Gi/],
    ["grow=z:1Gi", /there is no node z/],
    ["add=", /nothing is no name of a node/],
    ["add=A b:mem=1Gi,provider=x", /is no name of a node/],
    ["add=a:mem=1Gi,provider=x", /there is a node a already/],
    ["add=c", /mem is missing/],
    ["add=c:mem=much,provider=x", /mem is missing or no quantity/],
    ["add=c:mem=0,provider=x", /mem is missing or no quantity/],
    ["add=c:mem=1Gi", /provider is missing/],
    ["add=c:mem=1Gi,provider=x,bandwidth=fast", /bandwidth is no quantity/],
    ["add=c:mem=1Gi,provider=x,price=-1", /price is no number/],
    ["add=c:mem=1Gi,provider=x,colour=red", /colour=red is none of mem,/],
    ["quantization=int3", /expected f32, f16, int8, int4/],
    ["replicas=-1", /expected a whole number of at least 0/],
    ["replicas=1.5", /expected a whole number/],
    ["slots=0", /expected a whole number of at least 1/],
    ["maxShare=101%", /expected 1% to 100%/],
    ["nodeSelector=zone", /expected KEY:VALUE/],
    ["maxPricePerHour=cheap", /expected credits/],
    ["minTokensPerSecond=0", /expected a number above 0/],
    ["objective=fame", /expected throughput or latency/],
    ["colour=red", /colour is nothing to ask about: choose quantization, /],
  ];
  for (const [text, wanted] of refused)
    it(`refuses ${JSON.stringify(text)}`, () => {
      const change = parseChange(world, text);
      expect(change.ok).to.equal(false);
      if (!change.ok)
        expect(`${change.code} ${change.detail}`)
          .to.match(/^BadOption /)
          .and.to.match(wanted);
    });
  const taken: readonly (readonly [string, object])[] = [
    ["add=c:mem=24Gi,bandwidth=300G,provider=x,region=eu,price=1.5", { do: "add" }],
    ["context=8192", { words: "contextLength 8192", model: { contextLength: 8192 } }],
    ["contextLength=8192", { name: "context" }],
    ["maxShare=40%", { placement: { providersMaxSharePercent: 40 } }],
    ["providers.deny=acme+beta", { placement: { providersDeny: ["acme", "beta"] } }],
    ["providers.deny=none", { placement: { providersDeny: [] } }],
    ["edges=campus", { placement: { edgeProviders: ["campus"] } }],
    ["edges=none", { without: "edgeProviders" }],
    ["nodeSelector=zone:a+disk:ssd", { placement: { nodeSelector: { zone: "a", disk: "ssd" } } }],
    ["kvCache=int8", { model: { kvDtype: "int8" } }],
  ];
  for (const [text, wanted] of taken)
    it(`takes ${text}`, () => {
      const change = parseChange(world, text);
      expect(change.ok && change.value).to.deep.include(wanted);
    });
});
