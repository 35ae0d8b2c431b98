import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { expect } from "chai";
import fc from "fast-check";
import { aConfig, aModel, aWorld } from "../builders.ts";
import type { Placement } from "../types.ts";
import { ASCII, UNICODE, renderLines } from "./lines.ts";
import { pictureLines, planWords } from "./plan-words.ts";
import { assistant, measured, somePlacement } from "./scenes.ts";
import type { Known } from "./times.ts";
import { showPlacement } from "./table.ts";

/** The text as the file beside this test has it. With WRITE_GOLDENS set it is written instead: look at the diff. */
function expectGolden(name: string, text: string): void {
  const file = new URL(`goldens/${name}.txt`, import.meta.url);
  if (process.env["WRITE_GOLDENS"] !== undefined || !existsSync(file)) writeFileSync(file, `${text}\n`);
  expect(text).to.equal(readFileSync(file, "utf8").trimEnd());
}

const picture = (world: Known, placement: Placement, width: number, charset = UNICODE): string =>
  renderLines(pictureLines(world, placement, { width, charset }), false);

/** Sixty small nodes of eleven owners: more segments than a line has room for. */
function crowd() {
  const nodes = Array.from({ length: 60 }, (_, index) =>
    measured(`node-${index}`, { provider: `owner-${index % 11}`, memoryBytesPerSecond: (10 + index) * 1e9 }),
  );
  const assignments = nodes.map(({ name, provider }, index) => ({
    chain: 0,
    segment: index,
    rank: 0,
    node: name,
    provider,
    layers: { start: index, end: index + 1 },
    sliceWeights: [1],
    weightBytes: 1e6,
    kvBytes: 1e5,
  }));
  const placement: Placement = {
    assignments,
    leftOut: [],
    estimate: { millisecondsPerToken: 61, bottleneck: "node-7" },
  };
  return {
    world: aWorld(nodes, aModel({ name: "crowd" }), { root: "sha256:00", config: aConfig({ layerCount: 60 }) }),
    placement,
  };
}

describe("the picture of a plan", () => {
  const { world, placement } = assistant();
  for (const width of [60, 100, 200])
    it(`is drawn ${width} columns wide`, () => expectGolden(`assistant-${width}`, picture(world, placement, width)));
  it("is drawn without letters beyond ASCII where a terminal has none", () => {
    const text = picture(world, placement, 80, ASCII);
    expectGolden("assistant-ascii", text);
    expect(text.split("key")[0]?.split("\n").slice(2).join("")).to.match(/^[\x20-\x7e]*$/);
  });
  it("breaks a chain of many segments into lines and names every node below", () => {
    const { world: crowded, placement: narrow } = crowd();
    expectGolden("crowd-60", picture(crowded, narrow, 60));
  });
  it("says in a table what has no room in it", () => expectGolden("assistant-table", showPlacement(world, placement)));
  it("is coloured by provider, and only where colours are wanted", () => {
    const lines = pictureLines(world, placement, { width: 100, charset: UNICODE });
    expect(renderLines(lines, false)).to.not.include("\u001b");
    const coloured = renderLines(lines, true);
    expect(coloured).to.include("\u001b[36m").and.to.include("\u001b[33m");
    // biome-ignore lint/suspicious/noControlCharactersInRegex: escape codes are what is taken away
    expect(coloured.replaceAll(/\u001b\[[0-9;]*m/g, "")).to.equal(renderLines(lines, false));
  });
  it("says of whom the figures are old", () => {
    const nodes = world.nodes.map((node, index) => ({ ...node, measuredDaysAgo: index === 0 ? 40 : 3 }));
    const [first] = world.nodes;
    expect(picture({ ...world, nodes }, placement, 120)).to.match(
      new RegExp(`\nmeasured {2}${first?.name} 40 days ago: counts as estimated, measure again`),
    );
  });
  it("marks a link that holds the others up", () => {
    const slow = { ...placement, estimate: { ...placement.estimate, bottleneck: "garage-3 → studio-x1" } };
    expect(picture(world, slow, 120)).to.include("20 ↔21 ms ◆");
  });

  it("names every node once, held or left out, in lines no wider than asked", () => {
    fc.assert(
      fc.property(somePlacement, fc.integer({ min: 60, max: 200 }), ({ world: any, placement: drawn }, width) => {
        const text = picture(any, drawn, width);
        for (const line of text.split("\n")) expect([...line].length).to.be.at.most(width);
        const [held = "", out = ""] = text.split(/^left out {2}/m);
        const holding = new Set(drawn.assignments.map(({ node }) => node));
        for (const { name } of any.nodes) {
          const isNamed = (part: string) => new RegExp(`(?<![\\w.-])${name}(?![\\w.-])`).test(part);
          expect(isNamed(held.split("\n").slice(2).join("\n")), `${name} held\n${text}`).to.equal(holding.has(name));
          expect(isNamed(out.replaceAll(/\s+/g, " ")), `${name} left out\n${text}`).to.equal(!holding.has(name));
        }
      }),
      { numRuns: 100 },
    );
  });
});

describe("the words of a plan", () => {
  it("fit where the cluster puts them", () => {
    const { world, placement } = assistant();
    const words = planWords(world, placement);
    expect(words.headline).to.equal(
      "assistant · Qwen3-8B int4 · 36 layers · 2 chains · ~61.3 tok/s, ~43 ms/token · 0.42 credits/h = 1.90 per million tokens · bottleneck: garage-3",
    );
    expect(words.condition).to.match(/^7 ranks on 7 nodes of 4 providers, 2 chains, .*; left out attic-1: would slow/);
    const many = Array.from({ length: 5000 }, (_, index) => ({
      node: `far-${index}`,
      code: "Slows",
      why: `slow ${index}`,
    }));
    const long = planWords(world, { ...placement, leftOut: many });
    expect(long.condition.length).to.be.at.most(1000);
    expect(long.event.length).to.be.at.most(1000);
    expect(Buffer.byteLength(long.text)).to.be.within(30_000, 32_768);
    expect(long.text).to.match(/… and \d+ more lines: tessellate plan shows all$/);
  });
});
