/** The images: small, whole, nobody in particular's, and with nothing in them that is for us alone. */
import { cpSync, globSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { expect } from "chai";
import { type BuiltImages, IMAGE_CACHE, buildImages, whyNoImages } from "../../tools/images/build.ts";
import { CONTENTS, type ImageName } from "../../tools/images/contents.ts";
import { requireOrSkip } from "../requirement.ts";
import { type UnpackedImage, unpackImage } from "./image-run.ts";

/** Layers as a registry holds them. The engine's library alone is 16 MB, Node 47. */
const BYTES_MAX: Readonly<Record<ImageName, number>> = {
  operator: 62e6,
  gateway: 58e6,
  ledger: 66e6,
  "shard-runtime": 88e6,
  cli: 80e6,
};

/** What each says without arguments: that its modules are all there, and what it wants. */
const SAYS: Readonly<Record<ImageName, { readonly code: number; readonly words: string }>> = {
  operator: { code: 2, words: "--namespace" },
  gateway: { code: 1, words: "--listen" },
  ledger: { code: 1, words: "--listen" },
  "shard-runtime": { code: 1, words: "--config" },
  cli: { code: 1, words: "Usage: tessellate" },
};

describe("the images", function () {
  this.timeout(600_000);
  let built: BuiltImages;
  let scratch: string;
  const unpacked = new Map<ImageName, UnpackedImage>();
  const image = (name: ImageName): UnpackedImage => {
    const found = unpacked.get(name);
    if (found === undefined) throw new Error(`${name} was not unpacked`);
    return found;
  };

  before(async function () {
    const why = await whyNoImages();
    requireOrSkip(this, why);
    scratch = mkdtempSync(join(tmpdir(), "tessellate-unpacked-"));
    built = await buildImages({ report: (line) => console.log(`    ${line}`) });
    for (const { name } of CONTENTS) {
      const { digest } = only(built, name);
      unpacked.set(name, await unpackImage(built.directory, digest, join(scratch, name)));
    }
  });
  after(() => scratch !== undefined && rmSync(scratch, { recursive: true, force: true }));

  for (const { name, entry } of CONTENTS) {
    it(`${name} starts with a read-only root, and says what it is missing`, async () => {
      const { code, stdout, stderr } = await image(name).start();
      expect(stdout + stderr).to.contain(SAYS[name].words);
      expect(stdout + stderr).not.to.match(/ERR_MODULE_NOT_FOUND|Cannot find/);
      expect(code).to.equal(SAYS[name].code);
    });

    it(`${name} is no larger than ${BYTES_MAX[name] / 1e6} MB, user 65532's, and labelled`, () => {
      const { config } = image(name);
      expect(only(built, name).bytes).to.be.at.most(BYTES_MAX[name]);
      expect(config).to.deep.include({ User: "65532:65532", Entrypoint: ["node"], Cmd: [entry], WorkingDir: "/app" });
      expect(config.Labels).to.include({
        "org.opencontainers.image.title": `tessellate-${name}`,
        "org.opencontainers.image.licenses": "Apache-2.0",
      });
    });

    it(`${name} holds no test, no compiler's input, no shell, and bills all packages that it holds`, () => {
      const { root } = image(name);
      const files = readdirSync(root, { recursive: true, encoding: "utf8" });
      expect(files.filter((file) => /\.test\.ts$|\.d\.ts$|^app\/(test|docs|tools)\//.test(file))).to.deep.equal([]);
      expect(files.filter((file) => /(^|\/)s?bin\/(sh|bash|dash|busybox|apt|dpkg)$/.test(file))).to.deep.equal([]);
      const bill = JSON.parse(readFileSync(join(root, "usr/share/tessellate/bill.cdx.json"), "utf8"));
      const billed: readonly { readonly name: string; readonly version: string; readonly "bom-ref": string }[] =
        bill.components;
      const held = files
        .filter((file) => /^app\/node_modules\/(.*\/node_modules\/)?(@[^/]+\/)?[^/]+\/package\.json$/.test(file))
        .map((file) => file.slice("app/".length, -"/package.json".length));
      const npm = billed.filter((component) => component["bom-ref"].startsWith("node_modules/"));
      expect(npm.map((component) => component["bom-ref"]).sort()).to.deep.equal(held.sort());
      for (const component of npm) {
        const manifest = readFileSync(join(root, "app", component["bom-ref"], "package.json"), "utf8");
        expect(JSON.parse(manifest).version, component["bom-ref"]).to.equal(component.version);
      }
      expect(billed.map((component) => component.name)).to.include.members(["node", "libc6", "libstdc++6"]);
    });
  }

  it("shard-runtime brings its operators compiled, and an engine that loads", async () => {
    const script = `
      const { machineLibrary } = await import("/app/shard-runtime/engine/native/products.ts");
      const { apiOf } = await import("/app/shard-runtime/engine/ort-api.ts");
      apiOf();
      console.log((await machineLibrary("/tmp/none")).path);`;
    const { code, stdout, stderr } = await image("shard-runtime").start(["--input-type=module", "--eval", script]);
    expect(stderr).to.equal("");
    expect(stdout).to.match(/^\/usr\/lib\/tessellate\/products-[0-9a-f]{16}\.so\n$/);
    expect(code).to.equal(0);
  });

  it("have the same digests when they are built again", async () => {
    const cacheDirectory = join(scratch, "cache");
    for (const part of [...globSync(join(IMAGE_CACHE, "base-*.tar")), join(IMAGE_CACHE, "native")])
      cpSync(part, join(cacheDirectory, basename(part)), { recursive: true });
    const again = await buildImages({ names: ["gateway"], cacheDirectory });
    expect(only(again, "gateway").digest).to.equal(only(built, "gateway").digest);
  });
});

function only({ images }: BuiltImages, name: ImageName) {
  const found = images.find(({ reference }) => reference.startsWith(`localhost/tessellate-${name}:`));
  if (found === undefined) throw new Error(`no image of ${name}`);
  return found;
}
