import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { isDeepStrictEqual } from "node:util";
import { expect } from "chai";
import { operatorsOrSkip } from "../../../test/requirement.ts";
import { type AttentionCase, expectedOf } from "./attention-cases.ts";
import { variantResults } from "./variant-results.ts";

const RUN = fileURLToPath(new URL("./attention-run.ts", import.meta.url));

const aCase = (changes: Partial<AttentionCase>): AttentionCase => {
  const plain: AttentionCase = {
    rows: 20,
    capacity: 64,
    heads: 4,
    kvHeads: 2,
    headSize: 32,
    turns: true,
    sinks: false,
    kvDtype: "f32",
  };
  return { ...plain, ...changes };
};

const SHAPES: readonly AttentionCase[] = [
  ...[1, 2, 15, 16, 17, 50].map((rows) => aCase({ rows })),
  ...[16, 48, 64, 80, 128, 256].map((headSize) => aCase({ headSize })),
  ...[1, 3, 7, 8, 9, 13].map((heads) => aCase({ heads, kvHeads: 1 })),
  aCase({ capacity: 20 }), // the last block of the cache is short
  aCase({ rows: 33, capacity: 33 }),
  aCase({ turns: false }),
  aCase({ softcap: 2 }),
  aCase({ sinks: true }),
  ...[1, 5, 16, 17].map((window) => aCase({ rows: 60, window, sinks: window === 5 })),
  aCase({ rows: 200, capacity: 200, heads: 8, kvHeads: 1, softcap: 5, sinks: true }),
  // A cache that is shorter than the session, written round and round.
  ...[150, 16, 32, 48].map((capacity) => aCase({ rows: 150, capacity, window: 13, heads: 8, kvHeads: 1 })),
  aCase({ rows: 150, capacity: 80, window: 64, sinks: true, headSize: 80 }),
];
const CASES = SHAPES.flatMap((shape) => [shape, { ...shape, kvDtype: "int8" as const }]);

describe("the engine's own attention", () => {
  let directory: string;
  let library: string;
  /** By variant; two for each case: in one piece, and in pieces. */
  const found = new Map<string, readonly Float32Array[]>();

  before(async function () {
    this.timeout(180_000);
    directory = await mkdtemp(join(tmpdir(), "tessellate-attention-"));
    library = await operatorsOrSkip(this, directory);
    for (const variant of ["avx512", "avx2", "portable"]) {
      const threadCount = variant === "avx2" ? 1 : 2;
      found.set(variant, await variantResults(RUN, library, { variant, threadCount, cases: CASES }));
    }
  });

  after(async () => rm(directory, { recursive: true, force: true }));

  for (const [index, given] of CASES.entries())
    it(`is what a textbook says, in one piece and in pieces, whatever the processor: ${JSON.stringify(given)}`, () => {
      const expected = expectedOf(given);
      const [whole = expect.fail("a result"), pieces] = found.get("portable")?.slice(2 * index, 2 * index + 2) ?? [];
      expect(whole).to.have.length(expected.length);
      expect(Math.max(...whole.map((value, at) => Math.abs(value - (expected[at] ?? 0))))).to.be.below(2e-5);
      expect(pieces).to.deep.equal(whole);
      for (const variant of ["avx512", "avx2"])
        expect(found.get(variant)?.slice(2 * index, 2 * index + 2), variant).to.deep.equal([whole, pieces]);
      const { capacity, ...shape } = given;
      const longer = CASES.findIndex((other) => isDeepStrictEqual(other, { ...shape, capacity: given.rows }));
      if (capacity < given.rows && longer >= 0)
        expect(found.get("portable")?.[2 * longer], "in a cache as long as the session").to.deep.equal(whole);
    });
});
