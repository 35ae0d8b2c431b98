/**
 * Reads byte ranges of a model's files and lets no byte out that is not the manifest's. Ranges are fetched in whole
 * chunks; each chunk is hashed before any of it is used. A chunk that does not match is fetched once more (a cut or
 * garbled transfer), then refused: from then on it is the source that is wrong.
 *
 * Memory: the bytes asked for, one chunk in flight, and {@link KEPT_CHUNK_COUNT} kept chunks. Kept are the first and last
 * chunk of each read, since the neighbouring tensors begin and end in them; what lies between is used up whole.
 * PERF: one stream at a time. A far server's latency is paid per read, not per chunk.
 */
import type { Clock } from "../../core/clock.ts";
import { CHUNK_BYTES, type Manifest, type ManifestFile, chunkRange, fileOf, isChunk } from "../../core/manifest.ts";
import { assert } from "../../core/assert.ts";
import { type Range, lengthOf } from "../../core/ranges.ts";
import { RefusalError, refuse } from "../../core/result.ts";
import { type Progress, ProgressMeter } from "./progress.ts";
import type { Source } from "./source.ts";

const KEPT_CHUNK_COUNT = 32;

export type ByteRange = { readonly path: string; readonly range: Range };

export class VerifiedReader {
  readonly #source: Source;
  readonly #manifest: Manifest;
  readonly #meter: ProgressMeter;
  /** Oldest first. */
  readonly #kept = new Map<string, Uint8Array>();
  readonly #seen = new Set<string>();
  #fetchedBytes = 0;
  #tail: Promise<unknown> = Promise.resolve();

  constructor(
    source: Source,
    manifest: Manifest,
    options: { readonly clock: Clock; readonly onProgress?: (progress: Progress) => void },
  ) {
    this.#source = source;
    this.#manifest = manifest;
    const totalBytes = manifest.files.reduce((total, file) => total + file.sizeBytes, 0);
    this.#meter = new ProgressMeter(options.clock, totalBytes, options.onProgress);
  }

  /** Bytes that came from the source so far, chunks fetched again included. */
  get fetchedBytes(): number {
    return this.#fetchedBytes;
  }

  get progress(): Progress {
    return this.#meter.now();
  }

  where(path: string): string {
    return this.#source.where(path);
  }

  /** The manifest's entry; refused as MissingFile where the manifest lists no such file. */
  fileOf(path: string): ManifestFile {
    const file = fileOf(this.#manifest, path);
    if (file !== undefined) return file;
    throw new RefusalError(
      refuse(
        "MissingFile",
        `${this.where(path)}: the manifest lists no such file; add it to the model and run "tessellate pack DIR"`,
      ),
    );
  }

  /** From here on, progress counts up to the chunks that hold these ranges. */
  expect(ranges: Iterable<ByteRange>): void {
    const chunks = new Map(this.#seenSizes());
    for (const { path, range } of ranges) {
      const file = this.fileOf(path);
      const { start, end } = chunksOf(range);
      for (let index = start; index < end; index += 1)
        chunks.set(keyOf(path, index), lengthOf(chunkRange(file, index)));
    }
    this.#meter.expect(chunks.values().reduce((a, b) => a + b, 0));
  }

  /** A whole file. */
  readFile(path: string): Promise<Uint8Array> {
    return this.read(path, { start: 0, end: this.fileOf(path).sizeBytes });
  }

  /** The bytes of `range`, checked; a fresh array that starts at offset 0 of its buffer. One read runs at a time. */
  read(path: string, range: Range): Promise<Uint8Array> {
    const turn = this.#tail.then(() => this.#read(path, range));
    this.#tail = turn.catch(() => undefined);
    return turn;
  }

  async #read(path: string, range: Range): Promise<Uint8Array> {
    const file = this.fileOf(path);
    assert(range.start >= 0 && range.start <= range.end && range.end <= file.sizeBytes, `a range within ${path}`);
    const out = new Uint8Array(lengthOf(range));
    const wanted = chunksOf(range);
    for (let index = wanted.start; index < wanted.end; ) {
      const kept = this.#keptChunk(path, index);
      if (kept !== undefined) {
        copyOverlap(kept, chunkRange(file, index), out, range);
        index += 1;
        continue;
      }
      let end = index + 1;
      while (end < wanted.end && !this.#kept.has(keyOf(path, end))) end += 1;
      for await (const chunk of this.#fetch(file, { start: index, end })) {
        copyOverlap(chunk, chunkRange(file, index), out, range);
        if (index === wanted.start || index === wanted.end - 1) this.#keep(path, index, chunk.slice());
        index += 1;
      }
    }
    return out;
  }

  /** The chunks of `indexes` in order, each checked; each valid until the next. */
  async *#fetch(file: ManifestFile, indexes: Range): AsyncIterable<Uint8Array> {
    const buffer = new Uint8Array(Math.min(CHUNK_BYTES, file.sizeBytes));
    const range = { start: chunkRange(file, indexes.start).start, end: chunkRange(file, indexes.end - 1).end };
    let { start: index } = indexes;
    let filled = 0;
    for await (const piece of this.#source.stream(file.path, range, file.sizeBytes)) {
      this.#fetchedBytes += piece.length;
      for (let taken = 0; taken < piece.length; ) {
        const wanted = lengthOf(chunkRange(file, index));
        const part = piece.subarray(taken, taken + wanted - filled);
        buffer.set(part, filled);
        filled += part.length;
        taken += part.length;
        if (filled < wanted) continue;
        const chunk = buffer.subarray(0, wanted);
        yield isChunk(file, index, chunk) ? chunk : await this.#fetchAgain(file, index);
        this.#count(file, index);
        index += 1;
        filled = 0;
      }
    }
    assert(index === indexes.end, "a source streams exactly the range it was asked for");
  }

  async #fetchAgain(file: ManifestFile, index: number): Promise<Uint8Array> {
    const range = chunkRange(file, index);
    const chunk = new Uint8Array(lengthOf(range));
    let filled = 0;
    for await (const piece of this.#source.stream(file.path, range, file.sizeBytes)) {
      this.#fetchedBytes += piece.length;
      chunk.set(piece, filled);
      filled += piece.length;
    }
    if (isChunk(file, index, chunk)) return chunk;
    throw new RefusalError(
      refuse(
        "CorruptChunk",
        `${this.where(file.path)}: chunk ${index} (bytes ${range.start} to ${range.end}) is not the manifest's, fetched twice; ` +
          `fetch the file again or serve the right revision; if it was changed on purpose, run "tessellate pack DIR" and use the new digest`,
      ),
    );
  }

  #count(file: ManifestFile, index: number): void {
    const key = keyOf(file.path, index);
    if (this.#seen.has(key)) return;
    this.#seen.add(key);
    this.#meter.advance(lengthOf(chunkRange(file, index)));
  }

  *#seenSizes(): Iterable<readonly [string, number]> {
    for (const file of this.#manifest.files)
      for (let index = 0; index * CHUNK_BYTES < file.sizeBytes; index += 1)
        if (this.#seen.has(keyOf(file.path, index))) yield [keyOf(file.path, index), lengthOf(chunkRange(file, index))];
  }

  #keptChunk(path: string, index: number): Uint8Array | undefined {
    const key = keyOf(path, index);
    const chunk = this.#kept.get(key);
    if (chunk !== undefined) this.#keep(path, index, chunk);
    return chunk;
  }

  #keep(path: string, index: number, chunk: Uint8Array): void {
    const key = keyOf(path, index);
    this.#kept.delete(key);
    this.#kept.set(key, chunk);
    const [oldest] = this.#kept.keys();
    if (this.#kept.size > KEPT_CHUNK_COUNT && oldest !== undefined) this.#kept.delete(oldest);
  }
}

const keyOf = (path: string, index: number): string => `${index} ${path}`;

/** Chunks that a byte range touches. */
const chunksOf = (range: Range): Range =>
  range.start === range.end
    ? { start: 0, end: 0 }
    : { start: Math.floor(range.start / CHUNK_BYTES), end: Math.ceil(range.end / CHUNK_BYTES) };

/** Copies what `chunk`, lying at `at` of its file, and the wanted `range` have in common into `out`, which lies at `range`. */
function copyOverlap(chunk: Uint8Array, at: Range, out: Uint8Array, range: Range): void {
  const start = Math.max(at.start, range.start);
  const end = Math.min(at.end, range.end);
  out.set(chunk.subarray(start - at.start, end - at.start), start - range.start);
}
