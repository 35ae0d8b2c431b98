/**
 * The hashes of a chunk's leaves, from the file that `tessellate pack` writes them to. A few chunks' worth is read at a
 * time: they are 32 bytes for every 16 KiB, and whoever needs those of one chunk needs few others. Where the file is
 * missing or is of another packing, there are none, and whole chunks are read instead.
 */
import {
  LEAVES_FILE,
  type Manifest,
  type ManifestFile,
  areLeaves,
  chunkCountOf,
  leafHashesRange,
  leavesFileBytes,
} from "../../core/manifest.ts";
import { lengthOf } from "../../core/ranges.ts";
import { RefusalError } from "../../core/result.ts";
import { SourceUnavailable } from "./patience.ts";
import type { SourceList } from "./source-list.ts";

/** 8 KiB of hashes, for 4 MiB of the file. */
const CHUNKS_AT_ONCE = 4;

export class LeafHashes {
  readonly #sources: SourceList;
  readonly #manifest: Manifest;
  readonly #known = new Map<string, Uint8Array>();
  #missing = false;

  constructor(sources: SourceList, manifest: Manifest) {
    this.#sources = sources;
    this.#manifest = manifest;
  }

  /** Checked hashes of all leaves of the chunk, 32 bytes each; undefined where they are not to be had. */
  async of(file: ManifestFile, chunk: number): Promise<Uint8Array | undefined> {
    const known = this.#known.get(keyOf(file, chunk));
    if (known !== undefined || this.#missing) return known;
    const start = chunk - (chunk % CHUNKS_AT_ONCE);
    const chunks = { start, end: Math.min(start + CHUNKS_AT_ONCE, chunkCountOf(file.sizeBytes)) };
    try {
      const range = leafHashesRange(this.#manifest, file.path, chunks);
      const bytes = await this.#sources.readRange(LEAVES_FILE, range, leavesFileBytes(this.#manifest));
      for (let index = chunks.start, at = 0; index < chunks.end; index += 1) {
        const byteCount = lengthOf(leafHashesRange(this.#manifest, file.path, { start: index, end: index + 1 }));
        const hashes = bytes.slice(at, at + byteCount);
        if (areLeaves(file, index, hashes)) this.#known.set(keyOf(file, index), hashes);
        at += byteCount;
      }
    } catch (error) {
      if (!(error instanceof RefusalError || error instanceof SourceUnavailable)) throw error;
      this.#missing = true;
    }
    return this.#known.get(keyOf(file, chunk));
  }
}

const keyOf = (file: ManifestFile, chunk: number): string => `${chunk} ${file.path}`;
