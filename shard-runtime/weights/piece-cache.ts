/**
 * Pieces of models on this node's disk, named by the hash of their chunk, so that a rank that starts again, or another
 * rank, need not fetch them. Several processes share the folder: a file appears in it whole or not at all, and what one
 * of them removes is for the others as if it had never been. What was used longest ago goes first.
 *
 * Nothing depends on it: what it gives is checked by whoever asks, and where the disk is full or may not be written,
 * it says so once and keeps nothing more.
 */
import { randomBytes } from "node:crypto";
import { mkdir, open, readdir, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { LEAVES_PER_CHUNK, LEAF_BYTES, listedHash } from "../../core/manifest.ts";
import { type Range, lengthOf } from "../../core/ranges.ts";
import { type Piece, leavesOfChunk, pieceRange } from "./piece.ts";
import type { Trouble } from "./source-list.ts";

/** Room is made for more than one piece at a time. */
const KEPT_SHARE = 0.9;
/** Others write to the folder too: after so much of our own it is looked through again. */
const LOOK_AGAIN_SHARE = 0.1;

export type CacheOptions = {
  readonly directory: string;
  readonly limitBytes: number;
  /** What else is within the limit, and is not ours to remove. */
  readonly otherBytes?: () => Promise<number>;
  readonly onTrouble?: Trouble;
};

type Entry = { readonly path: string; readonly sizeBytes: number; readonly usedMs: number };

export class PieceCache {
  readonly #options: CacheOptions;
  #writtenBytes = 0; // since the folder was last looked through
  #heldBytes = 0; // then
  #limitBytes: number; // what the rest left, then
  #making: Promise<void> | undefined;
  #off = false;

  private constructor(options: CacheOptions) {
    this.#options = options;
    this.#limitBytes = options.limitBytes;
  }

  /** Makes the folder where it is not there. */
  static async open(options: CacheOptions): Promise<PieceCache> {
    const cache = new PieceCache(options);
    await cache.#unlessFull(async () => {
      await mkdir(options.directory, { recursive: true });
      await cache.#makeRoom();
    });
    return cache;
  }

  /** What the pieces took when the folder was last looked through, and what was written since. */
  get heldBytes(): number {
    return this.#heldBytes + this.#writtenBytes;
  }

  /** Whether pieces are still kept. */
  get keeps(): boolean {
    return !this.#off;
  }

  /** The piece's bytes, not checked; undefined where it is not here. */
  async get(piece: Piece): Promise<Uint8Array | undefined> {
    const likely = [hashOf(piece), nameOf(piece)]; // the whole chunk, or just this
    for (const name of likely) {
      const bytes = await this.#read(name, piece);
      if (bytes !== undefined) return bytes;
    }
    for (const name of await this.#namesOf(piece)) {
      const bytes = likely.includes(name) ? undefined : await this.#read(name, piece);
      if (bytes !== undefined) return bytes;
    }
    return undefined;
  }

  /** Keeps the bytes, which were checked. Never throws. */
  async put(piece: Piece, bytes: Uint8Array): Promise<void> {
    if (this.#off || this.#limitBytes === 0) return;
    await this.#unlessFull(async () => {
      const folder = this.#folderOf(piece);
      const path = join(folder, nameOf(piece));
      const partial = `${path}.${process.pid}-${randomBytes(4).toString("hex")}.partial`;
      try {
        await writeFile(partial, bytes).catch(async () => {
          await mkdir(folder, { recursive: true });
          await writeFile(partial, bytes);
        });
        await rename(partial, path);
      } catch (error) {
        await rm(partial, { force: true }).catch(() => undefined);
        throw error;
      }
      this.#writtenBytes += bytes.length;
      const limitBytes = this.#limitBytes;
      if (this.#writtenBytes > limitBytes * LOOK_AGAIN_SHARE || this.#heldBytes + this.#writtenBytes > limitBytes)
        await this.#makeRoom();
    });
  }

  /** Removes what turned out not to be the piece. */
  async drop(piece: Piece): Promise<void> {
    for (const name of await this.#namesOf(piece))
      await rm(join(this.#folderOf(piece), name), { force: true }).catch(() => undefined);
  }

  /** Names of files that hold the piece, a whole chunk's first. */
  async #namesOf(piece: Piece): Promise<readonly string[]> {
    const hash = hashOf(piece);
    const names = await readdir(this.#folderOf(piece)).catch(() => []);
    return names
      .filter((name) => name.startsWith(hash) && !name.endsWith(".partial"))
      .filter((name) => {
        const held = leavesIn(name, piece);
        return held.start <= piece.leaves.start && held.end >= piece.leaves.end;
      })
      .sort((a, b) => a.length - b.length);
  }

  async #read(name: string, piece: Piece): Promise<Uint8Array | undefined> {
    const path = join(this.#folderOf(piece), name);
    const held = leavesIn(name, piece);
    try {
      const file = await open(path, "r");
      try {
        const bytes = new Uint8Array(lengthOf(pieceRange(piece)));
        const { bytesRead } = await file.read(bytes, 0, bytes.length, (piece.leaves.start - held.start) * LEAF_BYTES);
        const now = new Date();
        await utimes(path, now, now).catch(() => undefined);
        return bytesRead === bytes.length ? bytes : undefined;
      } finally {
        await file.close();
      }
    } catch {
      return undefined; // removed meanwhile, by whoever made room
    }
  }

  /** One at a time: removes what was used longest ago until there is room. */
  #makeRoom(): Promise<void> {
    this.#making ??= this.#removeOldest().finally(() => (this.#making = undefined));
    return this.#making;
  }

  async #removeOldest(): Promise<void> {
    const { directory, otherBytes } = this.#options;
    this.#limitBytes = Math.max(0, this.#options.limitBytes - ((await otherBytes?.()) ?? 0));
    const limitBytes = this.#limitBytes;
    const entries: Entry[] = [];
    for (const name of await readdir(directory, { recursive: true })) {
      const path = join(directory, name);
      const found = await stat(path).catch(() => undefined);
      if (found?.isFile() === true) entries.push({ path, sizeBytes: found.size, usedMs: found.mtimeMs });
    }
    this.#writtenBytes = 0;
    this.#heldBytes = entries.reduce((total, { sizeBytes }) => total + sizeBytes, 0);
    if (this.#heldBytes <= limitBytes) return;
    for (const { path, sizeBytes } of entries.toSorted((a, b) => a.usedMs - b.usedMs)) {
      if (this.#heldBytes <= limitBytes * KEPT_SHARE) return;
      await rm(path, { force: true });
      this.#heldBytes -= sizeBytes;
    }
  }

  async #unlessFull(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (this.#off) return;
      this.#off = true;
      const { directory, onTrouble } = this.#options;
      const detail = `${directory}: ${error instanceof Error ? error.message : String(error)}; pieces are fetched and not kept`;
      onTrouble?.("cache-off", { detail });
    }
  }

  #folderOf(piece: Piece): string {
    return join(this.#options.directory, hashOf(piece).slice(0, 3));
  }
}

const hashOf = ({ file, chunk }: Piece): string => Buffer.from(listedHash(file, chunk)).toString("hex");

/** `<hash>` of a whole chunk, `<hash>.<first>-<last>` of some of its leaves, counted within it. */
function nameOf(piece: Piece): string {
  const whole = leavesOfChunk(piece.file, piece.chunk);
  const { start, end } = piece.leaves;
  if (start === whole.start && end === whole.end) return hashOf(piece);
  return `${hashOf(piece)}.${start - whole.start}-${end - whole.start}`;
}

/** The leaves that a file of this name holds, counted within the piece's file. */
function leavesIn(name: string, { file, chunk }: Piece): Range {
  const whole = leavesOfChunk(file, chunk);
  const [, start, end] = /\.(\d+)-(\d+)$/.exec(name) ?? [];
  if (start === undefined || end === undefined) return whole;
  const first = chunk * LEAVES_PER_CHUNK;
  return { start: first + Number(start), end: first + Number(end) };
}
