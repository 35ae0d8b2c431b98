/**
 * A piece: neighbouring leaves of one chunk, the least that is fetched and checked by itself. A whole chunk is checked by
 * the manifest alone, a part of one by the hashes of the chunk's leaves, which were checked by the manifest before.
 */
import { LEAF_BYTES, LEAVES_PER_CHUNK, type ManifestFile, isChunk, isLeaf, leafCountOf } from "../../core/manifest.ts";
import type { Range } from "../../core/ranges.ts";

export type Piece = {
  readonly file: ManifestFile;
  readonly chunk: number; // index within the file
  readonly leaves: Range; // within the file
  readonly hashes?: Uint8Array; // of all leaves of the chunk; absent where the piece is the whole chunk
};

/** The leaves of chunk `index`, counted within the file. */
export const leavesOfChunk = (file: ManifestFile, index: number): Range => ({
  start: index * LEAVES_PER_CHUNK,
  end: Math.min((index + 1) * LEAVES_PER_CHUNK, leafCountOf(file.sizeBytes)),
});

export const chunkPiece = (file: ManifestFile, chunk: number): Piece => ({
  file,
  chunk,
  leaves: leavesOfChunk(file, chunk),
});

/** The bytes of the piece within its file. */
export const pieceRange = ({ file, leaves }: Piece): Range => leafRange(file, leaves);

/** The bytes of leaves within their file. */
export const leafRange = (file: ManifestFile, { start, end }: Range): Range => ({
  start: start * LEAF_BYTES,
  end: Math.min(end * LEAF_BYTES, file.sizeBytes),
});

/** Leaves that a byte range touches. */
export const leavesOf = (range: Range): Range =>
  range.start === range.end
    ? { start: 0, end: 0 }
    : { start: Math.floor(range.start / LEAF_BYTES), end: Math.ceil(range.end / LEAF_BYTES) };

/** Whether `bytes` are the piece. */
export function isPiece(piece: Piece, bytes: Uint8Array): boolean {
  const { file, chunk, leaves, hashes } = piece;
  const { start, end } = pieceRange(piece);
  if (bytes.length !== end - start) return false;
  if (hashes === undefined) return isChunk(file, chunk, bytes);
  for (let leaf = leaves.start; leaf < leaves.end; leaf += 1) {
    const at = (leaf - leaves.start) * LEAF_BYTES;
    if (!isLeaf(hashes, leaf - chunk * LEAVES_PER_CHUNK, bytes.subarray(at, at + LEAF_BYTES))) return false;
  }
  return true;
}

/** How a piece is named in refusals and logs. */
export function shownPiece(piece: Piece): string {
  const { start, end } = pieceRange(piece);
  return `chunk ${piece.chunk} (bytes ${start} to ${end})`;
}

/** Pieces as runs: each begins where the one before it ends. */
export function runsOf(pieces: readonly Piece[]): readonly (readonly Piece[])[] {
  const runs: Piece[][] = [];
  for (const piece of pieces) {
    const run = runs.at(-1);
    const before = run?.at(-1);
    if (run !== undefined && before?.file === piece.file && before.leaves.end === piece.leaves.start) run.push(piece);
    else runs.push([piece]);
  }
  return runs;
}
