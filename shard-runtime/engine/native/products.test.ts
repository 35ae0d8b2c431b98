import { spawn } from "node:child_process";
import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { expect } from "chai";
import { type ProductCase, expectedOf } from "./product-cases.ts";
import { productsLibrary } from "./products.ts";

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
    const built = await productsLibrary(directory);
    if ("reason" in built) {
      console.log(`      skipped: ${built.reason}`);
      return this.skip();
    }
    library = built.path;
  });

  after(async () => rm(directory, { recursive: true, force: true }));

  async function results(variant: string, threads: number): Promise<readonly Float32Array[]> {
    const child = spawn(process.execPath, [RUN, library, String(threads)], {
      env: { ...process.env, TESSELLATE_PRODUCTS: variant },
      stdio: ["pipe", "pipe", "inherit"],
    });
    child.stdin.end(`${JSON.stringify(CASES)}\n`);
    const lines = (await text(child.stdout)).trim().split("\n");
    return lines.map((line) => {
      const bytes = Buffer.from(line, "base64");
      return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
    });
  }

  for (const variant of VARIANTS)
    it(`${variant} gives the bits that the definition says (or the next variant where the processor lacks it)`, async () => {
      const found = await results(variant, variant === "portable" ? 1 : 2);
      expect(found).to.have.length(CASES.length);
      for (const [index, product] of CASES.entries())
        expect(found[index], JSON.stringify(product)).to.deep.equal(expectedOf(product));
    });

  it("is compiled once, and leaves nothing else behind", async () => {
    const again = await productsLibrary(directory);
    expect(again).to.deep.equal({ path: library });
    expect(await readdir(directory)).to.have.length(1);
  });

  it("is compiled by one of those that want it at once", async function () {
    this.timeout(180_000);
    const other = await mkdtemp(join(tmpdir(), "tessellate-products-"));
    const count = join(other, "count");
    const compiler = join(other, "cc");
    await writeFile(compiler, `#!/bin/sh\n[ "$1" = --version ] || echo x >> ${count}\nexec cc "$@"\n`, { mode: 0o755 });
    const found = await Promise.all([1, 2, 3].map(() => productsLibrary(join(other, "native"), compiler)));
    expect(new Set(found.map((library) => ("path" in library ? library.path : library.reason))).size).to.equal(1);
    expect(await readFile(count, "utf8")).to.equal("x\n");
    await rm(other, { recursive: true });
  });

  it("says why where there is no compiler", async () => {
    const none = await productsLibrary(directory, "no-such-compiler");
    expect(none).to.have.property("reason").that.contains("no-such-compiler could not build the products");
  });
});
