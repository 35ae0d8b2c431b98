import { expect } from "chai";
import fc from "fast-check";
import {
  CHUNK_BYTES,
  LEAF_BYTES,
  type ManifestFile,
  areLeaves,
  chunkCountOf,
  chunkHash,
  formatManifest,
  isChunk,
  isLeaf,
  isSafePath,
  leafHashes,
  leafHashesRange,
  leavesFileBytes,
  manifestOf,
  modelRoot,
  parseManifest,
} from "./manifest.ts";
import { merkleRoot } from "./merkle.ts";

const CONFIG = `{"model_type": "llama"}`;

function aFile(path: string, bytes: Uint8Array): ManifestFile {
  const chunks = Array.from({ length: chunkCountOf(bytes.length) }, (_, index) =>
    chunkHash(bytes.subarray(index * CHUNK_BYTES, (index + 1) * CHUNK_BYTES)),
  );
  return { path, sizeBytes: bytes.length, chunks: new Uint8Array(Buffer.concat(chunks)) };
}

const weights = new Uint8Array(2 * CHUNK_BYTES + 5).fill(7);
const files = [
  aFile("model.safetensors", weights),
  aFile("config.json", new TextEncoder().encode(CONFIG)),
  aFile("merges.txt", new Uint8Array(0)),
];
const manifest = manifestOf(files, CONFIG);
const text = formatManifest(manifest);

const changed = (change: (document: Record<string, unknown>) => void): string => {
  const document = JSON.parse(text);
  change(document);
  return JSON.stringify(document);
};
type Entry = { path: string; sizeBytes: number; chunks: string };
const changedFile = (index: number, change: (file: Entry) => void): string =>
  changed((document) => change((document["files"] as Entry[])[index] as Entry));

describe("model manifest", () => {
  it("reads back what it wrote", () => {
    const back = parseManifest(text, manifest.root);
    if (!back.ok) throw new Error(back.detail);
    expect(back.value.root).to.equal(manifest.root);
    expect(formatManifest(back.value)).to.equal(text);
    expect(back.value.files.map((file) => file.path)).to.deep.equal(["config.json", "merges.txt", "model.safetensors"]);
  });

  it("carries what its packer measured, beside the root", () => {
    const cost = { quantization: "int4", meanKlNats: 0.02, tokenCount: 256, sample: "text" } as const;
    const back = parseManifest(formatManifest({ ...manifest, costs: [cost] }), manifest.root);
    if (!back.ok) throw new Error(back.detail);
    expect(back.value.costs).to.deep.equal([cost]);
    const wrong = parseManifest(changed((document) => (document["costs"] = [{ ...cost, meanKlNats: "low" }])));
    expect(wrong).to.include({ ok: false, code: "MalformedManifest" });
    expect(wrong.ok ? "" : wrong.detail).to.include("costs[0].meanKlNats");
  });

  it("has one root for the same files in any order, and another for any other files", () => {
    expect(modelRoot(files.toReversed())).to.equal(manifest.root);
    const others = [
      files.slice(1),
      files.map((file) => (file.path === "merges.txt" ? { ...file, path: "merges.tx" } : file)),
      [
        aFile(
          "model.safetensors",
          weights.map((byte, at) => (at === 9 ? byte ^ 1 : byte)),
        ),
        ...files.slice(1),
      ],
      [aFile("model.safetensors", weights.subarray(1)), ...files.slice(1)],
    ];
    for (const other of others) expect(modelRoot(other)).to.not.equal(manifest.root);
  });

  it("knows a chunk from every other bytes", () => {
    const [file] = files;
    if (file === undefined) throw new Error("no file");
    expect(isChunk(file, 2, weights.subarray(2 * CHUNK_BYTES))).to.equal(true);
    expect(isChunk(file, 1, weights.subarray(2 * CHUNK_BYTES))).to.equal(false);
    expect(
      isChunk(
        file,
        2,
        weights.subarray(2 * CHUNK_BYTES).map((byte, at) => (at === 4 ? byte ^ 128 : byte)),
      ),
    ).to.equal(false);
    expect(isChunk(file, 3, new Uint8Array(0))).to.equal(false);
  });

  const bad = [
    { name: "no JSON", text: text.slice(0, -9), says: "no JSON" },
    { name: "a list", text: "[]", says: "no JSON object" },
    { name: "another kind", text: changed((d) => (d["kind"] = "x")), says: "kind" },
    { name: "another chunk size", text: changed((d) => (d["chunkBytes"] = 4096)), says: "chunkBytes is 4096" },
    { name: "no files", text: changed((d) => (d["files"] = [])), says: "files" },
    { name: "a file that is no object", text: changed((d) => (d["files"] = [1])), says: "files[0]" },
    { name: "a path that climbs out", text: changedFile(2, (f) => (f.path = "../weights")), says: "files[2].path" },
    { name: "the same path twice", text: changedFile(1, (f) => (f.path = "config.json")), says: "files[1].path" },
    { name: "a negative size", text: changedFile(2, (f) => (f.sizeBytes = -1)), says: "files[2].sizeBytes" },
    { name: "too few hashes", text: changedFile(2, (f) => (f.sizeBytes *= 2)), says: "files[2].chunks holds 3 hashes" },
    { name: "hashes that are no base64", text: changedFile(2, (f) => (f.chunks = "?")), says: "files[2].chunks" },
    { name: "a changed size", text: changedFile(2, (f) => (f.sizeBytes -= 1)), says: "root is" },
    { name: "a config that is not the file", text: changed((d) => (d["config"] = `${CONFIG} `)), says: "config is" },
    { name: "a config cut short", text: changed((d) => (d["config"] = "")), says: "config is" },
  ];
  for (const { name, text: badText, says } of bad)
    it(`refuses ${name}`, () => {
      const result = parseManifest(badText);
      if (result.ok) throw new Error("was taken");
      expect(result.code).to.equal("MalformedManifest");
      expect(result.detail).to.include(says).and.include("tessellate-manifest.json").and.include("tessellate pack");
    });

  it("refuses a model that was not asked for", () => {
    const result = parseManifest(text, `sha256:${"0".repeat(64)}`);
    if (result.ok) throw new Error("was taken");
    expect(result.code).to.equal("WrongRoot");
    expect(result.detail).to.include(manifest.root);
  });

  it("notices any one flipped bit of its text, or says the same", () => {
    fc.assert(
      fc.property(fc.nat(text.length - 1), fc.nat(6), (at, bit) => {
        const flipped = Buffer.from(text);
        flipped[at] = (flipped[at] ?? 0) ^ (1 << bit);
        const result = parseManifest(flipped.toString("utf8"), manifest.root);
        return !result.ok || formatManifest(result.value) === text; // white space between fields means nothing
      }),
    );
  });

  it("checks 16 KiB by themselves once the leaves of their chunk are checked", () => {
    const [, , file] = manifest.files;
    if (file === undefined) throw new Error("three files");
    const hashes = new Uint8Array(Buffer.concat(leafHashes(weights.subarray(CHUNK_BYTES, 2 * CHUNK_BYTES))));
    expect(areLeaves(file, 1, hashes)).to.equal(true);
    expect(areLeaves(file, 2, hashes)).to.equal(false);
    expect(areLeaves(file, 1, hashes.subarray(32))).to.equal(false);
    expect(
      areLeaves(
        file,
        1,
        hashes.map((byte, at) => (at === 40 ? byte ^ 1 : byte)),
      ),
    ).to.equal(false);
    const leaf = weights.subarray(CHUNK_BYTES + 3 * LEAF_BYTES, CHUNK_BYTES + 4 * LEAF_BYTES);
    expect(isLeaf(hashes, 3, leaf)).to.equal(true);
    expect(
      isLeaf(
        hashes,
        3,
        leaf.map((byte, at) => (at === 9 ? byte ^ 1 : byte)),
      ),
    ).to.equal(false);
  });

  it("has the file root of RFC 6962 over all leaves, whatever the chunks", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 3 * CHUNK_BYTES }), (sizeBytes) => {
        const bytes = new Uint8Array(sizeBytes).fill(3);
        const { chunks } = aFile("w", bytes);
        const hashes = Array.from({ length: chunks.length / 32 }, (_, at) => chunks.subarray(at * 32, at * 32 + 32));
        return Buffer.compare(merkleRoot(leafHashes(bytes)), merkleRoot(hashes)) === 0;
      }),
      { numRuns: 20 },
    );
  });

  it("says where the leaves of a chunk lie in their own file", () => {
    const leafCounts = [1, 0, 2 * 64 + 1]; // config.json, merges.txt, model.safetensors
    expect(leavesFileBytes(manifest)).to.equal(leafCounts.reduce((a, b) => a + b, 0) * 32);
    const at = (start: number, end: number) => leafHashesRange(manifest, "model.safetensors", { start, end });
    expect(at(0, 1)).to.deep.equal({ start: 32, end: 65 * 32 });
    expect(at(1, 3)).to.deep.equal({ start: 65 * 32, end: 130 * 32 });
  });

  it("takes no path that a file system or a URL could read in two ways", () => {
    for (const path of ["", "/a", "a//b", "./a", "a/..", "a\\b", "C:a", "a\0b", "é", "a\n"])
      expect(isSafePath(path), path).to.equal(false);
    for (const path of ["a", "a/b.c", "..a", "a b"]) expect(isSafePath(path), path).to.equal(true);
  });
});
