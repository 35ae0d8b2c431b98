/**
 * From the part of a tensor that the engine asks for by role to the rectangle of the stored tensor that holds it, and
 * back: planes, transposition, interleaved rows, values to be added. Pure.
 */
import { assert } from "../../core/assert.ts";
import type { TensorPlace } from "../../core/family.ts";
import { type Range, lengthOf } from "../../core/ranges.ts";
import type { TensorBlocks, TensorPart } from "../engine/tensor-source.ts";
import type { Encoding, Extent, Rect, WantedTensor } from "./formats/encoding.ts";

/** A place in a checkpoint that need not be of the Hugging Face layout. */
export type StoredPlace = TensorPlace & {
  /** Rows of each head of this size lie in pairs (i, i + half): llama.cpp's order of rotary values. */
  readonly pairedHeadSize?: number;
};

export type View = {
  readonly rect: Rect; // of what the encoding decodes to
  readonly transposed: boolean; // what is decoded has the role's rows as columns
  readonly scattered: boolean; // see Encoding
  readonly rowCount: number; // of the role's part
  readonly columnCount: number;
  readonly picks: readonly number[] | undefined; // the role's rows among those of the rectangle; absent: all, in order
};

/** What the checkpoint stores at a place: `plane` tells planes from rows. */
export function wantedAt({ stored, storedShape, plane }: StoredPlace): WantedTensor {
  const [planes = 1, ...rest] = plane === undefined ? [1, ...storedShape] : storedShape;
  const [rows = 1, ...columns] = rest;
  const extent = { planes, rows, columns: columns.reduce((product, length) => product * length, 1) };
  return { name: stored, shape: storedShape, extent };
}

export function viewOf(place: StoredPlace, encoding: Encoding, part: TensorPart): View {
  const [roleRows = 1, ...rest] = place.shape;
  const width = rest.reduce((product, length) => product * length, 1);
  const { rows = { start: 0, end: roleRows }, columns = { start: 0, end: width } } = part;
  assert(isWithin(rows, roleRows) && isWithin(columns, width), `a part within ${place.role}`);
  const { extent } = wantedAt(place);
  const { taken, picks } = storedRows(place, rows, place.transposed === true ? extent.columns : extent.rows);
  assert(isFitting(place, extent, taken, columns), `${place.role} lies within ${place.stored}`);
  const transposed = (place.transposed ?? false) !== encoding.transposed;
  const plane = place.plane ?? 0;
  const rect = transposed ? { plane, rows: columns, columns: taken } : { plane, rows: taken, columns };
  const scattered = encoding.scattered || transposed || (place.rows?.step ?? 1) > 1;
  return { rect, transposed, scattered, rowCount: lengthOf(rows), columnCount: lengthOf(columns), picks };
}

const isWithin = ({ start, end }: Range, length: number): boolean => start >= 0 && start <= end && end <= length;

const isFitting = (place: StoredPlace, { planes, rows, columns }: Extent, taken: Range, inputs: Range): boolean =>
  (place.plane ?? 0) < planes &&
  isWithin(taken, place.transposed === true ? columns : rows) &&
  isWithin(inputs, place.transposed === true ? rows : columns);

/** The range of stored rows that holds the role's `rows`, and which of them these are. */
function storedRows(place: StoredPlace, rows: Range, storedCount: number) {
  const { start = 0, step = 1 } = place.rows ?? {};
  const headSize = place.pairedHeadSize ?? 1;
  if (step === 1 && headSize === 1)
    return { taken: { start: start + rows.start, end: start + rows.end }, picks: undefined };
  if (lengthOf(rows) === 0) return { taken: { start: 0, end: 0 }, picks: [] };
  // Neighbours in step are taken too: then the reads of all interleaved roles are the same read.
  const first = Math.floor(rows.start / headSize) * headSize;
  const last = Math.ceil(rows.end / headSize) * headSize;
  const taken = {
    start: Math.floor((start + first * step) / step) * step,
    end: Math.min(storedCount, Math.ceil((start + (last - 1) * step + 1) / step) * step),
  };
  const picks = Array.from({ length: lengthOf(rows) }, (_, index) => {
    return start + pairedRow(rows.start + index, headSize) * step - taken.start;
  });
  return { taken, picks };
}

/** Where row `row` lies in heads whose rows i and i + half are neighbours. */
function pairedRow(row: number, headSize: number): number {
  if (headSize === 1) return row;
  const within = row % headSize;
  const half = headSize / 2;
  return row - within + (within % half) * 2 + Math.floor(within / half);
}

/** The role's part, row-major, of what was decoded of the view's rectangle. */
export function arranged(view: View, decoded: Float32Array, add = 0): Float32Array {
  const { rect, transposed, rowCount, columnCount, picks } = view;
  let out = decoded;
  if (transposed) {
    const stride = lengthOf(rect.columns);
    out = new Float32Array(rowCount * columnCount);
    for (let column = 0; column < columnCount; column += 1)
      for (let row = 0; row < rowCount; row += 1)
        out[row * columnCount + column] = decoded[column * stride + (picks?.[row] ?? row)] ?? 0;
  } else if (picks !== undefined) out = picked(decoded, picks, columnCount, new Float32Array(rowCount * columnCount));
  if (add !== 0) for (let index = 0; index < out.length; index += 1) out[index] = (out[index] ?? 0) + add;
  return out;
}

/** The role's rows of blocks that were decoded of the view's rectangle. */
export function arrangedBlocks({ picks, rect }: View, blocks: TensorBlocks): TensorBlocks {
  if (picks === undefined) return blocks;
  const takenCount = lengthOf(rect.rows);
  const floats = (all: Float32Array, width = all.length / takenCount) =>
    picked(all, picks, width, new Float32Array(picks.length * width));
  const bytes = (all: Uint8Array, width = all.length / takenCount) =>
    picked(all, picks, width, new Uint8Array(picks.length * width));
  const { values, scales, zeroPoints } = blocks;
  const zeros = zeroPoints === undefined ? {} : { zeroPoints: bytes(zeroPoints) };
  return { ...blocks, values: bytes(values), scales: floats(scales), ...zeros };
}

function picked<T extends Float32Array | Uint8Array>(all: T, picks: readonly number[], width: number, out: T): T {
  for (const [row, pick] of picks.entries()) out.set(all.subarray(pick * width, (pick + 1) * width), row * width);
  return out;
}
