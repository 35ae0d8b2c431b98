import { mkdir, mkdtemp, readdir, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { DESCRIPTION_FILE, WEIGHTS_FILE } from "./shard.ts";
import { ShardShelf, touch } from "./shard-shelf.ts";

const HOUR_MS = 3_600_000;

describe("the packed shards of a node", () => {
  let cache: string;
  let shelf: ShardShelf;
  const now = Date.now();

  beforeEach(async () => {
    cache = await mkdtemp(join(tmpdir(), "tessellate-shelf-"));
    shelf = new ShardShelf(cache);
  });
  afterEach(() => rm(cache, { recursive: true }));

  /** 1,000 bytes, last used or written to so many hours ago. */
  async function aShard(name: string, hoursAgo: number): Promise<string> {
    const directory = join(cache, "shards", name);
    await mkdir(directory, { recursive: true });
    const at = new Date(now - hoursAgo * HOUR_MS);
    for (const [file, size] of [
      [DESCRIPTION_FILE, 100],
      [WEIGHTS_FILE, 900],
    ] as const) {
      await writeFile(join(directory, file), new Uint8Array(size));
      await utimes(join(directory, file), at, at);
    }
    await utimes(directory, at, at);
    return directory;
  }
  const left = async () => (await readdir(join(cache, "shards"))).sort();

  it("are counted", async () => {
    expect(await shelf.heldBytes()).to.equal(0);
    await aShard("a", 1);
    await aShard("b.1-2.partial", 1);
    expect(await shelf.heldBytes()).to.equal(2000);
  });

  it("go when there are too many, the longest unused first", async () => {
    for (const [name, hoursAgo] of [
      ["a", 5],
      ["b", 9],
      ["c", 7],
    ] as const)
      await aShard(name, hoursAgo);
    await shelf.makeRoom(3000, 0, now);
    expect(await left()).to.deep.equal(["a", "b", "c"]);
    await shelf.makeRoom(2999, 0, now);
    expect(await left()).to.deep.equal(["a", "c"]);
    await shelf.makeRoom(2999, 1000, now);
    expect(await left()).to.deep.equal(["a"]);
  });

  it("stay while a rank uses them, however little room there is", async () => {
    const [used] = [await aShard("used", 9), await aShard("unused", 2)];
    const stop = shelf.use(used);
    await touch(used); // as `use` does, without waiting for it
    await shelf.makeRoom(0, 0, now);
    expect(await left()).to.deep.equal(["used"]);
    stop();
    await shelf.makeRoom(0, 0, Date.now() + HOUR_MS);
    expect(await left()).to.deep.equal([]);
  });

  it("are cleared of what somebody began to pack days ago, whatever room there is", async () => {
    await aShard("old.1-2.partial", 25);
    await aShard("new.1-2.partial", 23);
    await shelf.makeRoom(1 << 30, 0, now);
    expect(await left()).to.deep.equal(["new.1-2.partial"]);
  });

  it("do not trouble anybody where there is no folder", async () => {
    await rm(cache, { recursive: true });
    await shelf.makeRoom(0, 0, now);
    await mkdir(cache);
  });
});
