/**
 * The folder of packed shards that the ranks of a node share, kept within the node's budget: what no rank has used for
 * longest goes first, what one is using never goes. Processes of several pods share the folder and cannot see each other,
 * so a rank says that it uses a shard by touching its description from time to time.
 */
import { randomBytes } from "node:crypto";
import { readdir, rename, rm, stat, utimes } from "node:fs/promises";
import { join } from "node:path";
import { DESCRIPTION_FILE } from "./shard.ts";

const TOUCH_EVERY_MS = 5 * 60_000;
/** Untouched for so long, a shard is nobody's: its rank has ended, or missed three touches. */
const UNUSED_AFTER_MS = 15 * 60_000;
/** What somebody began to pack, or to remove, and did not end. */
const LEFT_AFTER_MS = 24 * 3_600_000;

type Entry = {
  readonly path: string;
  readonly sizeBytes: number;
  readonly usedMs: number; // when it was last used or, of an unfinished one, written to
  readonly isWhole: boolean;
};

export class ShardShelf {
  readonly #directory: string;

  /** `directory`: that of packShard's cache. */
  constructor(cacheDirectory: string) {
    this.#directory = join(cacheDirectory, "shards");
  }

  /** What all packed shards take on the disk, unfinished ones included. */
  async heldBytes(): Promise<number> {
    return (await this.#entries()).reduce((total, { sizeBytes }) => total + sizeBytes, 0);
  }

  /**
   * Removes shards that nobody uses, the longest unused first, until all of them and `otherBytes` are within `limitBytes`,
   * or none is left that may go. Never throws: a folder that cannot be read or changed stays as it is.
   */
  async makeRoom(limitBytes: number, otherBytes: number, nowMs: number = Date.now()): Promise<void> {
    try {
      const entries = await this.#entries();
      let heldBytes = entries.reduce((total, { sizeBytes }) => total + sizeBytes, otherBytes);
      for (const { path, sizeBytes, usedMs, isWhole } of entries.toSorted((a, b) => a.usedMs - b.usedMs)) {
        const unusedMs = nowMs - usedMs;
        const mayGo = isWhole ? heldBytes > limitBytes && unusedMs > UNUSED_AFTER_MS : unusedMs > LEFT_AFTER_MS;
        if (!mayGo) continue;
        await removeWhole(path);
        heldBytes -= sizeBytes;
      }
    } catch {
      // It is read only, or gone: the next packing will say so.
    }
  }

  /** Says that a shard is in use until the function that it returns is called. */
  use(shardDirectory: string): () => void {
    const say = () => void touch(shardDirectory);
    say();
    const timer = setInterval(say, TOUCH_EVERY_MS);
    timer.unref();
    return () => clearInterval(timer);
  }

  async #entries(): Promise<readonly Entry[]> {
    const names = await readdir(this.#directory).catch(() => []);
    const entries = await Promise.all(names.map((name) => entryAt(join(this.#directory, name))));
    return entries.filter((entry) => entry !== undefined);
  }
}

/** Now a rank uses it. It may have gone meanwhile, or the folder be read only. */
export async function touch(shardDirectory: string): Promise<void> {
  const now = new Date();
  await utimes(join(shardDirectory, DESCRIPTION_FILE), now, now).catch(() => undefined);
}

async function entryAt(path: string): Promise<Entry | undefined> {
  const names = await readdir(path).catch(() => undefined);
  if (names === undefined) return undefined;
  const found = await Promise.all(
    names.map(async (name) => ({ name, facts: await stat(join(path, name)).catch(() => undefined) })),
  );
  const description = found.find(({ name }) => name === DESCRIPTION_FILE)?.facts;
  const isWhole = !path.endsWith(".partial") && description !== undefined;
  const own = (await stat(path).catch(() => undefined))?.mtimeMs ?? 0;
  return {
    path,
    sizeBytes: found.reduce((total, { facts }) => total + (facts?.size ?? 0), 0),
    usedMs: isWhole ? description.mtimeMs : Math.max(own, ...found.map(({ facts }) => facts?.mtimeMs ?? 0)),
    isWhole,
  };
}

/** Out of sight first: a rank that starts now finds all of it or nothing. */
async function removeWhole(path: string): Promise<void> {
  const going = path.endsWith(".partial") ? path : `${path}.${randomBytes(4).toString("hex")}.partial`;
  if (going !== path) await rename(path, going);
  await rm(going, { recursive: true, force: true });
}
