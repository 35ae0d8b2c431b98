/**
 * Where pieces come from, nearest first: this node's cache, other ranks, the model's sources. Nothing leaves here that
 * was not checked. A piece from a source that is not the manifest's is fetched again, elsewhere where there is an
 * elsewhere, and refused where it stays wrong.
 *
 * Memory: one chunk for each run from a source, and what {@link Near} hands over at once.
 */
import { assert } from "../../core/assert.ts";
import { CHUNK_BYTES } from "../../core/manifest.ts";
import { lengthOf } from "../../core/ranges.ts";
import { RefusalError, refuse } from "../../core/result.ts";
import { SourceUnavailable } from "./patience.ts";
import { type Piece, isPiece, pieceRange, runsOf, shownPiece } from "./piece.ts";
import type { SourceList, Trouble } from "./source-list.ts";
import type { Source } from "./source.ts";

export type Arrival = { readonly piece: Piece; readonly bytes: Uint8Array };

/** What may have pieces besides the sources. */
export interface Near {
  /** The pieces in order, as they are asked for together: few enough to be held in memory at once. */
  batchesOf(pieces: readonly Piece[]): Iterable<readonly Piece[]>;
  /** Told what will be fetched now, so that others who want it wait for it. */
  fetching(pieces: readonly Piece[]): Fetching;
  /** Those of the pieces that are to be had nearby, checked and kept. */
  take(pieces: readonly Piece[], fetching: Fetching): Promise<readonly Arrival[]>;
}

export interface Fetching {
  /** From now on what is missing comes from the sources. */
  fromSources(): void;
  /** One came, checked; `bytes` are valid during the call. */
  keep(piece: Piece, bytes: Uint8Array): Promise<void>;
  /** No more will come: all did, or the fetching failed. */
  end(): void;
}

export type IntakeOptions = { readonly near?: Near; readonly onTrouble?: Trouble };

export class Intake {
  readonly #sources: SourceList;
  readonly #near: Near | undefined;
  readonly #onTrouble: Trouble;

  constructor(sources: SourceList, { near, onTrouble = () => {} }: IntakeOptions = {}) {
    this.#sources = sources;
    this.#near = near;
    this.#onTrouble = onTrouble;
  }

  /** Each piece once, checked, in any order; the bytes are valid until the next is asked for. */
  async *fetch(pieces: readonly Piece[]): AsyncIterable<Arrival> {
    const near = this.#near;
    if (near === undefined) {
      for (const run of runsOf(pieces)) yield* this.#stream(run);
      return;
    }
    for (const wanted of near.batchesOf(pieces)) {
      const fetching = near.fetching(wanted);
      try {
        const found = await near.take(wanted, fetching);
        fetching.fromSources();
        yield* found;
        const had = new Set(found.map(({ piece }) => piece));
        yield* this.#keptStream(
          wanted.filter((piece) => !had.has(piece)),
          fetching,
        );
      } finally {
        fetching.end();
      }
    }
  }

  /** The piece from the sources, for somebody else; kept nearby. */
  async pull(piece: Piece, fetching: Fetching): Promise<Uint8Array | undefined> {
    try {
      fetching.fromSources();
      for await (const { bytes } of this.#keptStream([piece], fetching)) return bytes.slice();
      return undefined;
    } finally {
      fetching.end();
    }
  }

  async *#keptStream(pieces: readonly Piece[], fetching: Fetching): AsyncIterable<Arrival> {
    for (const run of runsOf(pieces))
      for await (const arrival of this.#stream(run)) {
        await fetching.keep(arrival.piece, arrival.bytes);
        yield arrival;
      }
  }

  async *#stream(run: readonly Piece[]): AsyncIterable<Arrival> {
    const [first] = run;
    const last = run.at(-1);
    if (first === undefined || last === undefined) return;
    const { file } = first;
    const range = { start: pieceRange(first).start, end: pieceRange(last).end };
    const buffer = new Uint8Array(Math.min(CHUNK_BYTES, lengthOf(range)));
    let next = 0;
    let filled = 0;
    for await (const { bytes: part, source } of this.#sources.stream(file.path, range, file.sizeBytes)) {
      for (let taken = 0; taken < part.length; ) {
        const piece = run[next];
        assert(piece !== undefined, "a source streams no more than it was asked for");
        const wanted = lengthOf(pieceRange(piece));
        const own = part.subarray(taken, taken + wanted - filled);
        buffer.set(own, filled);
        filled += own.length;
        taken += own.length;
        if (filled < wanted) continue;
        const bytes = buffer.subarray(0, wanted);
        yield { piece, bytes: isPiece(piece, bytes) ? bytes : await this.#again(piece, source) };
        next += 1;
        filled = 0;
      }
    }
    assert(next === run.length, "a source streams exactly the range it was asked for");
  }

  /** A piece that came wrong from `source`: from the others, in order, and last from the same once more. */
  async #again(piece: Piece, source: Source): Promise<Uint8Array> {
    const { path, sizeBytes } = piece.file;
    this.#onTrouble("corrupt-chunk", { file: source.where(path), chunk: shownPiece(piece) });
    const tried = [source.where(path)];
    for (const other of [...this.#sources.inOrder(path).filter((each) => each !== source), source]) {
      try {
        const bytes = await this.#sources.readRange(path, pieceRange(piece), sizeBytes, other);
        if (!isPiece(piece, bytes)) {
          tried.push(other.where(path));
          continue;
        }
        if (other !== source) this.#sources.blame(source, path, new Error(`${shownPiece(piece)} came wrong`));
        return bytes;
      } catch (error) {
        if (!(error instanceof RefusalError || error instanceof SourceUnavailable)) throw error;
        tried.push(error.message);
      }
    }
    const changed = source.changeOf?.(path);
    throw new RefusalError(
      refuse(
        changed === undefined ? "CorruptChunk" : "FileChanged",
        `${source.where(path)}: ${shownPiece(piece)} is not the manifest's, ` +
          `fetched ${tried.length === 2 && tried[0] === tried[1] ? "twice" : `from ${tried.join(", then ")}`}; ` +
          (changed === undefined ? "" : `${changed}; `) +
          `fetch the file again or serve the right revision; if it was changed on purpose, run "tessellate pack DIR" and use the new digest`,
      ),
    );
  }
}
