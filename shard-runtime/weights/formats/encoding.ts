/**
 * How the numbers of a stored tensor are written. A format knows which tensors of a checkpoint together hold the numbers
 * of one (values, scales, zero points), which bytes a rectangle of it takes, and how to make f32 of them. Reading is
 * done elsewhere, so everything here is arithmetic on bytes.
 */
import type { Range } from "../../../core/ranges.ts";
import { type Refusal, RefusalError, refuse } from "../../../core/result.ts";
import type { TensorBlocks } from "../../engine/tensor-source.ts";
import type { TensorEntry } from "../safetensors.ts";

/** What a tensor measures: planes of rows of columns. A vector is one plane of rows of one column. */
export type Extent = { readonly planes: number; readonly rows: number; readonly columns: number };

/** A rectangle of one plane. */
export type Rect = { readonly plane: number; readonly rows: Range; readonly columns: Range };

/** A rectangle of bytes: `columns` (in bytes) of each of `rowCount` rows, which lie `rowBytes` apart from `start` on. */
export type Window = {
  readonly path: string;
  readonly start: number; // byte 0 of the first row, within the file
  readonly rowCount: number;
  readonly rowBytes: number;
  readonly columns: Range;
  /** Of a matrix that is stored as what it is: the same rectangle in its own terms, for whoever has it in another order. */
  readonly part?: MatrixPart;
};

export type MatrixPart = {
  readonly entry: TensorEntry;
  readonly elementBytes: number;
  readonly rows: Range;
  readonly columns: Range;
};

/** What is wanted: a tensor as an unquantised checkpoint names and shapes it. */
export type WantedTensor = { readonly name: string; readonly shape: readonly number[]; readonly extent: Extent };

export interface Encoding {
  /** Rectangles and what is decoded are those of the transposed of what was wanted. */
  readonly transposed: boolean;
  /** A few of the rows lie all over the bytes, so that whoever wants all rows bit by bit had better keep the bytes. */
  readonly scattered: boolean;
  /** The bytes that hold the rectangle. */
  windows(rect: Rect): readonly Window[];
  /** The rectangle, row-major. `raw` are the windows' bytes, each without gaps and at offset 0 of its buffer. */
  decode(rect: Rect, raw: readonly Uint8Array[]): Float32Array;
  /** The same as blocks along the columns, where the numbers are such and the rectangle cuts none. */
  blocks?(rect: Rect, raw: readonly Uint8Array[]): TensorBlocks | undefined;
}

/** Where a format looks for tensors. */
export interface TensorLookup {
  /** The entry of a stored tensor, or undefined where the checkpoint has none of this name. */
  find(name: string): Promise<TensorEntry | undefined>;
  /** The tensor as people are shown it: its file and name. */
  where(entry: TensorEntry): string;
  /** That a tensor is not there, and what to do. */
  missing(name: string): string;
}

export interface Format {
  /** The stored tensor that is there if, and only if, `name` may be written in this way. */
  mainTensor(name: string): string;
  /**
   * How the wanted tensor is written, or undefined where it is not in this way. Throws RefusalError: MissingTensor,
   * WrongShape, UnsupportedDtype, UnsupportedOption.
   */
  encodingOf(wanted: WantedTensor, lookup: TensorLookup): Promise<Encoding | undefined>;
}

/** Rows of a plane of a tensor whose planes are `planeRows` rows of `rowBytes` each. */
export function windowOf(
  { path, bytes }: TensorEntry,
  { rowBytes, planeRows, plane = 0 }: { rowBytes: number; planeRows: number; plane?: number },
  rows: Range,
  columns: Range = { start: 0, end: rowBytes },
): Window {
  const start = bytes.start + (plane * planeRows + rows.start) * rowBytes;
  return { path, start, rowCount: rows.end - rows.start, rowBytes, columns };
}

/** A rectangle of a matrix that is stored row after row, in its own elements; for whoever has it in another order too. */
export function matrixWindow(entry: TensorEntry, elementBytes: number, rows: Range, columns: Range): Window {
  const width = entry.shape[1] ?? 1;
  const bytes = { start: columns.start * elementBytes, end: columns.end * elementBytes };
  const window = windowOf(entry, { rowBytes: width * elementBytes, planeRows: 0 }, rows, bytes);
  return columns.end - columns.start < width ? { ...window, part: { entry, elementBytes, rows, columns } } : window;
}

export function refusal(code: string, detail: string): RefusalError {
  const content: Refusal = refuse(code, detail);
  return new RefusalError(content);
}

/** The range of whole things of `size` that cover a range of single ones. */
export const covering = ({ start, end }: Range, size: number): Range => ({
  start: Math.floor(start / size),
  end: Math.ceil(end / size),
});
