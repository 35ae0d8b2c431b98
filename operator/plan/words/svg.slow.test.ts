import { expect } from "chai";
import fc from "fast-check";
import { aModel } from "../builders.ts";
import { assistant, somePlacement } from "./scenes.ts";
import { planSvg } from "./svg.ts";

type Text = {
  readonly left: number;
  readonly right: number;
  readonly top: number;
  readonly bottom: number;
  readonly text: string;
};

/** Where each text lies, by the width of the widest monospaced font. */
function textsOf(svg: string): readonly Text[] {
  const pattern = /<text x="([\d.-]+)" y="([\d.-]+)" font-size="(\d+)"(?: text-anchor="(\w+)")?[^>]*>([^<]*)<\/text>/g;
  return [...svg.matchAll(pattern)].map(([, x, y, size, anchor, inside = ""]) => {
    const text = inside
      .replaceAll("&lt;", "<")
      .replaceAll("&gt;", ">")
      .replaceAll("&quot;", '"')
      .replaceAll("&amp;", "&");
    const width = [...text].length * Number(size) * 0.61;
    const left = anchor === "middle" ? Number(x) - width / 2 : anchor === "end" ? Number(x) - width : Number(x);
    return { left, right: left + width, top: Number(y) - Number(size) * 0.75, bottom: Number(y) + 2, text };
  });
}

function expectReadable(svg: string): void {
  const [, width = "0", height = "0"] = /viewBox="0 0 (\d+) (\d+)"/.exec(svg) ?? [];
  const texts = textsOf(svg);
  expect(texts.length).to.equal([...svg.matchAll(/<text /g)].length);
  for (const [index, a] of texts.entries()) {
    expect(a.left, a.text).to.be.at.least(0);
    expect(a.right, a.text).to.be.at.most(Number(width));
    expect(a.bottom, a.text).to.be.at.most(Number(height));
    for (const b of texts.slice(index + 1)) {
      const touch = a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
      expect(touch, `${a.text} touches ${b.text}`).to.equal(false);
    }
  }
}

/** Every element that opens closes: enough of an XML parser for what we write. */
function expectBalanced(svg: string): void {
  const open: string[] = [];
  for (const [, close, name = "", rest = ""] of svg.matchAll(/<(\/?)([a-z]+)((?:"[^"]*"|[^">])*)>/g)) {
    if (close === "/") expect(open.pop()).to.equal(name);
    else if (!rest.endsWith("/")) open.push(name);
  }
  expect(open).to.deep.equal([]);
  expect(svg.replaceAll(/<style>.*?<\/style>/gs, "").replaceAll(/<[^>]*>/g, "")).to.not.match(
    /[<>]|&(?!amp;|lt;|gt;|quot;)/,
  );
}

describe("the SVG of a plan", () => {
  const { world, placement } = assistant();
  const svg = planSvg(world, placement);

  it("names chains, nodes, layers, times, trips, the bottleneck and who is left out", () => {
    const texts = textsOf(svg).map(({ text }) => text);
    for (const wanted of [
      "assistant",
      "chain 0",
      "chain 1",
      "spare",
      "campus-a1",
      "studio-x1 60% ⇄1",
      "studio-x2 40%",
      "12–20 (8)",
      "12 ms bottleneck",
      "↔ 18 ms",
      "↔ ~0.7 ms",
      "36",
      "campus",
      "attic-1: would slow chain 0 by 9 % (link 140 ms)",
    ])
      expect(texts).to.include(wanted);
  });
  it("stands alone, in light and dark", () => {
    expect(svg)
      .to.include("prefers-color-scheme: dark")
      .and.to.not.match(/<script|<image|href=|@import|url\((?!#)/);
    expectBalanced(svg);
  });
  it("escapes whatever a name holds", () => {
    const hostile = { ...world, model: aModel({ name: `<script>"&'` }) };
    const text = planSvg(hostile, placement);
    expect(text).to.not.include("<script");
    expectBalanced(text);
  });
  it("is readable: no text touches another or leaves the page", () => {
    expectReadable(svg);
    fc.assert(
      fc.property(somePlacement, ({ world: any, placement: drawn }) => {
        const text = planSvg(any, drawn);
        expectReadable(text);
        expectBalanced(text);
        for (const { node } of drawn.assignments) expect(text).to.include(node);
      }),
      { numRuns: 60 },
    );
  });
});
