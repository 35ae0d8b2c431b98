import { expect } from "chai";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { parseManifest } from "../../core/manifest.ts";
import { aCheckpoint, removed } from "../../shard-runtime/weights/checkpoint-builder.ts";
import { tessellate } from "../../test/tessellate.ts";

describe("tessellate pack", function () {
  this.timeout(30_000); // each call is a process
  let directory: string;
  beforeEach(async () => {
    directory = await aCheckpoint({ files: 2 });
  });
  afterEach(() => removed(directory));

  it("writes a manifest and says what it is, on stdout alone", async () => {
    const { code, stdout, stderr } = await tessellate(["pack", directory, "--no-measure", "-o", "json"]);
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
    expect((await tessellate(["pack", directory, "--no-measure"])).stdout).to.include(report.root);
  });

  it("measures what a quantisation costs and writes it down, unless told not to", async () => {
    const manifestOf = async () => {
      const manifest = parseManifest(await readFile(join(directory, "tessellate-manifest.json"), "utf8"));
      if (!manifest.ok) throw new Error(manifest.detail);
      return manifest.value;
    };
    const { code, stdout } = await tessellate(["pack", directory, "--quantization", "int4"]);
    expect(code).to.equal(0);
    expect(stdout).to.match(/^int4: \S+ nats from f32 \(mean KL over 256 random tokens, by .+ operators\)$/m);
    const measured = await manifestOf();
    expect(measured.costs).to.have.length(1);
    await tessellate(["pack", directory, "--no-measure"]);
    expect(await manifestOf())
      .to.include({ root: measured.root })
      .and.not.have.property("costs");
    const wrong = await tessellate(["pack", directory, "--quantization", "int2"]);
    expect(wrong).to.include({ code: 1, stdout: "" });
    expect(wrong.stderr).to.include("int2").and.include("BadOption");
  });

  it("says that there is no such folder, in one line", async () => {
    const missing = await tessellate(["pack", join(directory, "nowhere")]);
    expect(missing).to.include({ code: 1, stdout: "" });
    expect(missing.stderr).to.match(/^error: \S+nowhere\/config\.json: .*\(MissingFile\)\n$/);
  });

  it("refuses what cannot be served, with its code, and writes nothing", async () => {
    await rm(join(directory, "tokenizer.json"));
    const { code, stdout, stderr } = await tessellate(["pack", directory]);
    expect({ code, stdout }).to.deep.equal({ code: 1, stdout: "" });
    expect(stderr).to.match(/^error: .*tokenizer\.json: not there.*\(MissingTokenizer\)\n$/);
    await readFile(join(directory, "tessellate-manifest.json")).then(
      () => expect.fail("was written"),
      () => {},
    );
    expect((await tessellate(["pack", directory, "--without-tokenizer", "--no-measure"])).code).to.equal(0);
  });
});
