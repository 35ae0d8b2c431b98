import { expect } from "chai";
import { mkdtemp, readdir, rm, stat, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CHUNK_BYTES, LEAF_BYTES, type ManifestFile, chunkHash, leafHashes } from "../../core/manifest.ts";
import { type Piece, chunkPiece, pieceRange } from "./piece.ts";
import { PieceCache } from "./piece-cache.ts";

const BODY = new Uint8Array(6 * CHUNK_BYTES + 5).map((_, at) => ((at * 31) >> 3) ^ (at >> 20));
const chunkOf = (index: number) => BODY.subarray(index * CHUNK_BYTES, (index + 1) * CHUNK_BYTES);
const FILE: ManifestFile = {
  path: "w.safetensors",
  sizeBytes: BODY.length,
  chunks: new Uint8Array(Buffer.concat(Array.from({ length: 7 }, (_, index) => chunkHash(chunkOf(index))))),
};
const bytesOf = (piece: Piece) => BODY.slice(pieceRange(piece).start, pieceRange(piece).end);
const part = (start: number, end: number): Piece => ({
  file: FILE,
  chunk: 1,
  leaves: { start: 64 + start, end: 64 + end },
  hashes: new Uint8Array(Buffer.concat(leafHashes(chunkOf(1)))),
});

describe("the cache of pieces", () => {
  let directory: string;
  const troubles: string[] = [];
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "tessellate-pieces-"));
    troubles.length = 0;
  });
  afterEach(() => rm(directory, { recursive: true, force: true }));
  const opened = (limitBytes = 1 << 30, where = directory) =>
    PieceCache.open({
      directory: where,
      limitBytes,
      onTrouble: (event, fields) => troubles.push(`${event} ${JSON.stringify(fields)}`),
    });

  it("gives back what it was given, and parts of it, to other processes too", async () => {
    const cache = await opened();
    for (const piece of [chunkPiece(FILE, 0), chunkPiece(FILE, 6), part(3, 9)]) await cache.put(piece, bytesOf(piece));
    const other = await opened();
    for (const piece of [chunkPiece(FILE, 0), chunkPiece(FILE, 6), part(3, 9), part(4, 5)]) {
      const found = await other.get(piece);
      expect(found !== undefined && Buffer.compare(found, bytesOf(piece)) === 0, JSON.stringify(piece.leaves)).to.equal(
        true,
      );
    }
    for (const piece of [chunkPiece(FILE, 1), chunkPiece(FILE, 2), part(8, 10)])
      expect(await other.get(piece)).to.equal(undefined);
    await other.put(chunkPiece(FILE, 1), bytesOf(chunkPiece(FILE, 1)));
    expect((await cache.get(part(8, 10)))?.length).to.equal(2 * LEAF_BYTES);
    await cache.drop(chunkPiece(FILE, 0));
    expect(await other.get(chunkPiece(FILE, 0))).to.equal(undefined);
  });

  it("keeps what others leave of its size, and nothing where they leave nothing", async () => {
    let otherBytes = 3 * CHUNK_BYTES;
    const cache = await PieceCache.open({
      directory,
      limitBytes: 5 * CHUNK_BYTES,
      otherBytes: () => Promise.resolve(otherBytes),
    });
    const fill = async () => {
      for (let chunk = 0; chunk < 6; chunk += 1)
        await cache.put(chunkPiece(FILE, chunk), bytesOf(chunkPiece(FILE, chunk)));
      const names = await readdir(directory, { recursive: true });
      return names.filter((name) => name.length > 10).length;
    };
    expect(await fill()).to.be.within(1, 2);
    otherBytes = 5 * CHUNK_BYTES;
    expect(await fill()).to.equal(0);
    expect(cache.heldBytes).to.equal(0);
  });

  it("stays within its size, and drops what was used longest ago", async () => {
    const cache = await opened(4 * CHUNK_BYTES);
    for (let chunk = 0; chunk < 6; chunk += 1) {
      await cache.put(chunkPiece(FILE, chunk), bytesOf(chunkPiece(FILE, chunk)));
      await aged(chunk); // as if each had come a minute after the one before
      if (chunk >= 1) await cache.get(chunkPiece(FILE, 0)); // used again and again
    }
    const held = await Promise.all(Array.from({ length: 6 }, (_, chunk) => cache.get(chunkPiece(FILE, chunk))));
    expect(held.map((bytes) => bytes !== undefined)).to.deep.equal([true, false, false, true, true, true]);
    const names = await readdir(directory, { recursive: true, withFileTypes: true });
    const sizes = await Promise.all(
      names.filter((name) => name.isFile()).map((name) => stat(join(name.parentPath, name.name))),
    );
    expect(sizes.reduce((total, { size }) => total + size, 0)).to.be.at.most(4 * CHUNK_BYTES);
  });

  async function aged(chunk: number): Promise<void> {
    const when = new Date(Date.now() - (100 - chunk) * 60_000);
    const hash = Buffer.from(chunkHash(chunkOf(chunk))).toString("hex");
    await utimes(join(directory, hash.slice(0, 3), hash), when, when).catch(() => undefined);
  }

  it("says so once and goes on without keeping where nothing can be written", async () => {
    const file = join(directory, "a-file");
    await writeFile(file, "in the way");
    const cache = await opened(1 << 30, join(file, "pieces"));
    for (const chunk of [0, 1]) await cache.put(chunkPiece(FILE, chunk), bytesOf(chunkPiece(FILE, chunk)));
    expect(cache.keeps).to.equal(false);
    expect(await cache.get(chunkPiece(FILE, 0))).to.equal(undefined);
    expect(troubles).to.have.length(1);
    expect(troubles[0]).to.include("cache-off").and.include("a-file/pieces").and.include("not kept");
  });

  it("says so once, too, where the disk gives out later; what is there is still given", async () => {
    const cache = await opened();
    await cache.put(chunkPiece(FILE, 0), bytesOf(chunkPiece(FILE, 0)));
    const hash = Buffer.from(chunkHash(chunkOf(1))).toString("hex");
    await writeFile(join(directory, hash.slice(0, 3)), "in the way");
    for (const chunk of [1, 2]) await cache.put(chunkPiece(FILE, chunk), bytesOf(chunkPiece(FILE, chunk)));
    expect(cache.keeps).to.equal(false);
    expect((await cache.get(chunkPiece(FILE, 0)))?.length).to.equal(CHUNK_BYTES);
    expect(troubles).to.have.length(1);
  });
});
