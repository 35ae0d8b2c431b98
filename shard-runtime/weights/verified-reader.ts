/**
 * Reads byte ranges of a model's files and lets no byte out that is not the manifest's. Whole chunks are fetched where a
 * range covers them, and leaves of 16 KiB at its edges; each is hashed before any of it is used.
 *
 * Memory: the bytes asked for, what {@link Intake} holds, and {@link KEPT_COUNT} kept edges: the neighbouring tensors
 * begin and end in them. Where the leaves' hashes are not to be had, edges are whole chunks.
 * PERF: one stream at a time. A far server's latency is paid per read, not per chunk.
 */
import { assert } from "../../core/assert.ts";
import type { Clock } from "../../core/clock.ts";
import { LEAVES_PER_CHUNK, type Manifest, type ManifestFile, fileOf, leafCountOf } from "../../core/manifest.ts";
import { type Range, lengthOf } from "../../core/ranges.ts";
import { RefusalError, refuse } from "../../core/result.ts";
import { Intake, type IntakeOptions } from "./intake.ts";
import { LeafHashes } from "./leaf-hashes.ts";
import { LeafSet } from "./leaf-set.ts";
import type { Nearby } from "./nearby.ts";
import { type Piece, chunkPiece, leafRange, leavesOf, leavesOfChunk } from "./piece.ts";
import { type Progress, ProgressMeter } from "./progress.ts";
import type { SourceList } from "./source-list.ts";

const KEPT_COUNT = 32;

export type ByteRange = { readonly path: string; readonly range: Range };

/** A piece for another rank, by its place in the list that was asked for. */
export type Given = { readonly index: number; readonly bytes: Uint8Array };

export type ReaderOptions = Pick<IntakeOptions, "onTrouble"> & {
  readonly near?: Nearby;
  readonly clock: Clock;
  readonly onProgress?: (progress: Progress) => void;
};

type Kept = { readonly file: ManifestFile; readonly leaves: Range; readonly bytes: Uint8Array };

export class VerifiedReader {
  readonly #sources: SourceList;
  readonly #intake: Intake;
  readonly #hashes: LeafHashes;
  readonly #manifest: Manifest;
  readonly #near: Nearby | undefined;
  readonly #meter: ProgressMeter;
  readonly #seen = new LeafSet();
  /** Oldest first. */
  #kept: readonly Kept[] = [];
  #tail: Promise<unknown> = Promise.resolve();

  constructor(sources: SourceList, manifest: Manifest, options: ReaderOptions) {
    this.#sources = sources;
    this.#intake = new Intake(sources, options);
    this.#hashes = new LeafHashes(sources, manifest);
    this.#manifest = manifest;
    this.#near = options.near;
    const totalBytes = manifest.files.reduce((total, file) => total + file.sizeBytes, 0);
    this.#meter = new ProgressMeter(options.clock, totalBytes, options.onProgress);
  }

  /** Bytes that came from sources so far: hashes of leaves and whatever was fetched again included. */
  get fetchedBytes(): number {
    return this.#sources.fetchedBytes;
  }

  get progress(): Progress {
    return this.#meter.now();
  }

  where(path: string): string {
    return this.#sources.where(path);
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

  /** From here on, progress counts up to what was read already and these ranges. */
  expect(ranges: Iterable<ByteRange>): void {
    const expected = new LeafSet();
    let leftBytes = 0;
    for (const { path, range } of ranges) {
      const file = this.fileOf(path);
      const { start, end } = leavesOf(range);
      for (let leaf = start; leaf < end; leaf += 1)
        if (!this.#seen.has(file, leaf)) leftBytes += expected.add(file, { start: leaf, end: leaf + 1 });
    }
    this.#meter.expect(this.#seen.byteCount + leftBytes);
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

  /** Nothing more will be read for now: forgets the edges that were kept for the next read. */
  rest(): void {
    this.#kept = [];
  }

  /** The pieces that hold `leaves` of a file: as small as the hashes at hand allow. */
  async piecesOf(file: ManifestFile, leaves: Range): Promise<readonly Piece[]> {
    const pieces: Piece[] = [];
    for (let chunk = Math.floor(leaves.start / LEAVES_PER_CHUNK); chunk * LEAVES_PER_CHUNK < leaves.end; chunk += 1) {
      const whole = leavesOfChunk(file, chunk);
      const own = { start: Math.max(whole.start, leaves.start), end: Math.min(whole.end, leaves.end) };
      const isWhole = own.start === whole.start && own.end === whole.end;
      const hashes = isWhole ? undefined : await this.#hashes.of(file, chunk);
      pieces.push(hashes === undefined ? chunkPiece(file, chunk) : { file, chunk, leaves: own, hashes });
    }
    return pieces;
  }

  /**
   * What this rank has of pieces that another asks for, in order, each with its place in the list; `fetch`: what it has
   * not is fetched from the sources. Refused (RefusalError): MissingFile, BadRequest where they are no pieces.
   */
  async *give(path: string, pieces: readonly Range[], fetch: boolean): AsyncIterable<Given> {
    const file = this.fileOf(path);
    const leafCount = leafCountOf(file.sizeBytes);
    for (const [index, leaves] of pieces.entries()) {
      const chunk = Math.floor(leaves.start / LEAVES_PER_CHUNK);
      if (!(leaves.start < leaves.end && leaves.end <= Math.min(leafCount, (chunk + 1) * LEAVES_PER_CHUNK)))
        throw new RefusalError(refuse("BadRequest", `pieces[${index}]: must be leaves of one chunk of ${path}`));
      for (const piece of await this.piecesOf(file, leaves)) {
        const bytes = await this.#near?.give(piece, fetch ? (each, own) => this.#intake.pull(each, own) : undefined);
        if (bytes === undefined) continue;
        const { start } = leafRange(file, piece.leaves);
        const wanted = leafRange(file, leaves);
        yield { index, bytes: bytes.subarray(wanted.start - start, wanted.end - start) };
      }
    }
  }

  async #read(path: string, range: Range): Promise<Uint8Array> {
    const file = this.fileOf(path);
    assert(range.start >= 0 && range.start <= range.end && range.end <= file.sizeBytes, `a range within ${path}`);
    const out = new Uint8Array(lengthOf(range));
    const wanted = leavesOf(range);
    const missing: Range[] = [];
    for (let leaf = wanted.start; leaf < wanted.end; ) {
      const kept = this.#kept.find((each) => each.file === file && isIn(each.leaves, leaf));
      if (kept !== undefined) {
        copyOverlap(kept.bytes, leafRange(file, kept.leaves), out, range);
        leaf = kept.leaves.end;
        continue;
      }
      const starts = this.#kept.filter(
        (each) => each.file === file && isIn({ start: leaf, end: wanted.end }, each.leaves.start),
      );
      const end = Math.min(wanted.end, ...starts.map(({ leaves }) => leaves.start));
      missing.push({ start: leaf, end });
      leaf = end;
    }
    const pieces: Piece[] = [];
    for (const leaves of missing) pieces.push(...(await this.piecesOf(file, leaves)));
    for await (const { piece, bytes } of this.#intake.fetch(withoutRepeats(pieces))) {
      copyOverlap(bytes, leafRange(file, piece.leaves), out, range);
      this.#keepEdges(piece, bytes, wanted);
      this.#meter.advance(this.#seen.add(file, piece.leaves));
    }
    return out;
  }

  /** Keeps of a piece what the reads before and after may want too: its first and last leaf, or what came unasked for. */
  #keepEdges({ file, leaves }: Piece, bytes: Uint8Array, wanted: Range): void {
    if (leaves.start < wanted.start || leaves.end > wanted.end) {
      this.#keep({ file, leaves, bytes: bytes.slice() });
      return;
    }
    for (const leaf of new Set([wanted.start, wanted.end - 1])) {
      if (!isIn(leaves, leaf)) continue;
      const at = leafRange(file, { start: leaf, end: leaf + 1 });
      const { start } = leafRange(file, leaves);
      const own = bytes.slice(at.start - start, at.end - start);
      this.#keep({ file, leaves: { start: leaf, end: leaf + 1 }, bytes: own });
    }
  }

  #keep(kept: Kept): void {
    this.#kept = [...this.#kept, kept].slice(-KEPT_COUNT);
  }
}

const isIn = ({ start, end }: Range, index: number): boolean => index >= start && index < end;

/** Two edges of one chunk become the whole chunk twice where its leaves are not known. */
function withoutRepeats(pieces: readonly Piece[]): readonly Piece[] {
  return pieces.filter(
    ({ leaves, chunk }, index) =>
      index === 0 || pieces[index - 1]?.chunk !== chunk || pieces[index - 1]?.leaves.start !== leaves.start,
  );
}

/** Copies what `chunk`, lying at `at` of its file, and the wanted `range` have in common into `out`, which lies at `range`. */
function copyOverlap(chunk: Uint8Array, at: Range, out: Uint8Array, range: Range): void {
  const start = Math.max(at.start, range.start);
  const end = Math.min(at.end, range.end);
  if (start < end) out.set(chunk.subarray(start - at.start, end - at.start), start - range.start);
}
