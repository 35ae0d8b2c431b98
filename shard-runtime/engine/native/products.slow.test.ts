import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "chai";
import { operatorsOrSkip } from "../../../test/requirement.ts";
import { type ProductCase, expectedOf } from "./product-cases.ts";
import { productsLibrary } from "./products.ts";
import { variantResults } from "./variant-results.ts";

const RUN = fileURLToPath(new URL("./products-run.ts", import.meta.url));
const VARIANTS = ["amx", "avx512", "avx2", "portable"];

const aCase = (changes: Partial<ProductCase>): ProductCase => {
  return { rows: 3, inputs: 256, outputs: 40, bits: 4, block: 64, zeros: false, seed: 1, ...changes };
};

const CASES: readonly ProductCase[] = [
  ...[1, 2, 4, 7, 16, 33, 50].map((rows) => aCase({ rows, seed: rows })),
  ...[16, 32, 64, 128].flatMap((block) => [aCase({ block }), aCase({ block, bits: 8, rows: 19 })]),
  aCase({ inputs: 200, block: 64, rows: 18 }), // the last block is short
  aCase({ inputs: 200, block: 128, bits: 8, rows: 17 }),
  aCase({ outputs: 16 }),
  aCase({ outputs: 1, rows: 20 }),
  aCase({ zeros: true, rows: 21 }),
  aCase({ zeros: true, bits: 8, block: 128, rows: 5 }),
  aCase({ zeros: true, inputs: 192, block: 64, rows: 34 }), // an odd number of zero points
];

describe("the engine's own products", () => {
  let directory: string;
  let library: string;

  before(async function () {
    this.timeout(180_000);
    directory = await mkdtemp(join(tmpdir(), "tessellate-products-"));
    library = await operatorsOrSkip(this, directory);
  });

  after(async () => rm(directory, { recursive: true, force: true }));

  for (const variant of VARIANTS)
    it(`${variant} gives the bits that the definition says (or the next variant where the processor lacks it)`, async () => {
      const found = await variantResults(RUN, library, {
        variant,
        threadCount: variant === "portable" ? 1 : 2,
        cases: CASES,
      });
      expect(found).to.have.length(CASES.length);
      for (const [index, product] of CASES.entries())
        expect(found[index], JSON.stringify(product)).to.deep.equal(expectedOf(product));
    });

  it("is compiled once by one of those that want it, at once or later, and leaves nothing else behind", async () => {
    const count = join(directory, "count");
    const compiler = join(directory, "cc");
    // As a compiler: says its version, and writes something where -o says.
    const script = `#!/bin/sh\n[ "$1" = --version ] && exit\necho x >> ${count}\nwhile [ "$1" != -o ]; do shift; done\necho > "$2"\n`;
    await writeFile(compiler, script, { mode: 0o755 });
    const native = join(directory, "native");
    const found = await Promise.all([1, 2, 3].map(() => productsLibrary(native, compiler)));
    found.push(await productsLibrary(native, compiler));
    expect(new Set(found.map((built) => ("path" in built ? built.path : built.reason))).size).to.equal(1);
    expect(await readFile(count, "utf8")).to.equal("x\n");
    expect(await readdir(native)).to.have.length(1);
  });

  it("says why where there is no compiler", async () => {
    const none = await productsLibrary(directory, "no-such-compiler");
    expect(none).to.have.property("reason").that.contains("no-such-compiler could not build the products");
  });
});
