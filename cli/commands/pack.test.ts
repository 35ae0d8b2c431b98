import { expect } from "chai";
import { execFile } from "node:child_process";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { parseManifest } from "../../core/manifest.ts";
import { aCheckpoint, removed } from "../../shard-runtime/weights/checkpoint-builder.ts";

type Outcome = { readonly code: number; readonly stdout: string; readonly stderr: string };

const tessellate = (...args: readonly string[]): Promise<Outcome> =>
  new Promise((resolve) =>
    execFile(process.execPath, ["cli/main.ts", ...args], (error, stdout, stderr) => {
      resolve({ code: typeof error?.code === "number" ? error.code : error === null ? 0 : 1, stdout, stderr });
    }),
  );

describe("tessellate pack", () => {
  let directory: string;
  beforeEach(async () => {
    directory = await aCheckpoint({ files: 2 });
  });
  afterEach(() => removed(directory));

  it("writes a manifest and says what it is, on stdout alone", async () => {
    const { code, stdout, stderr } = await tessellate("pack", directory, "-o", "json");
    expect(stderr).to.equal("");
    expect(code).to.equal(0);
    const report = JSON.parse(stdout);
    const manifest = parseManifest(await readFile(join(directory, "tessellate-manifest.json"), "utf8"), report.root);
    expect(manifest.ok).to.equal(true);
    expect(report.files.map((file: { path: string }) => file.path)).to.include.members([
      "config.json",
      "tokenizer.json",
      "model-00001-of-00002.safetensors",
    ]);
    expect((await tessellate("pack", directory)).stdout).to.include(report.root);
  });

  it("refuses what cannot be served, with its code, and writes nothing", async () => {
    await rm(join(directory, "tokenizer.json"));
    const { code, stdout, stderr } = await tessellate("pack", directory);
    expect({ code, stdout }).to.deep.equal({ code: 1, stdout: "" });
    expect(stderr).to.match(/^error: .*tokenizer\.json: not there.*\(MissingTokenizer\)\n$/);
    await readFile(join(directory, "tessellate-manifest.json")).then(
      () => expect.fail("was written"),
      () => {},
    );
    expect((await tessellate("pack", directory, "--without-tokenizer")).code).to.equal(0);
  });
});
