import { readFile } from "node:fs/promises";
import { expect } from "chai";
import { type BenchResult, atLeast, atMost, markdownOf, percentile } from "./figures.ts";
import { PAGE, pageWithTables, withTables } from "./tables.ts";

const RESULT: BenchResult = {
  bench: "decode",
  machine: "2 cores",
  loadBefore: 0.1,
  requirements: [atLeast("ratio", 1.25, 1, ""), atMost("late", 12.3456, 10, "ms")],
  table: [
    ["who", "ms"],
    ["we", "20"],
  ],
  notes: ["Said so."],
};

describe("benches' tables", () => {
  it("a requirement says figure, limit, ratio and whether it is met", () => {
    expect(atMost("late", 12.3456, 10, "ms")).to.deep.equal({
      name: "late",
      figure: 12.35,
      unit: "ms",
      must: "be at most",
      limit: 10,
      ratio: 1.235,
      met: false,
    });
    expect(atLeast("ratio", 1, 1, "").met).to.equal(true);
  });

  it("percentiles are values that were measured", () => {
    expect(percentile([3, 1, 2], 0.5)).to.equal(2);
    expect(percentile([3, 1, 2], 0.99)).to.equal(3);
    expect(percentile([], 0.5)).to.equal(0);
  });

  it("a result stands between its bench's marks, and the rest of the page stays", () => {
    const page = "before\n<!-- bench decode -->\nold\n<!-- end decode -->\nafter\n";
    const made = withTables(page, [RESULT]);
    expect(made).to.equal(`before\n<!-- bench decode -->\n\n${markdownOf(RESULT)}\n\n<!-- end decode -->\nafter\n`);
    expect(withTables(made, [RESULT])).to.equal(made);
    expect(made).to.contain("| late | 12.35 ms | at most 10 ms | 1.235 | **no** |");
    expect(() => withTables("no marks", [RESULT])).to.throw("<!-- bench decode -->");
  });

  it("docs/benches.md holds what the benches left", async () => {
    expect(await readFile(PAGE, "utf8")).to.equal(await pageWithTables());
  });
});
