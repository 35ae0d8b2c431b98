/**
 * Columns of a matrix from its copy with rows for columns: what a tensor-parallel rank takes of an output or down
 * projection is a few values of every row, and whole rows would have to be fetched for them. In the copy they are
 * neighbours. They are turned back here, so that nobody else knows of copies; where a copy is missing, nothing changes.
 *
 * Memory: the slice of one tensor in the checkpoint's dtype, kept until another is asked for, since packers take a matrix
 * by blocks of rows; and {@link BLOCK_BYTES} of the copy.
 */
import { assert } from "../../core/assert.ts";
import { type Manifest, columnsPathOf, fileOf } from "../../core/manifest.ts";
import { type Range, lengthOf } from "../../core/ranges.ts";
import { RefusalError } from "../../core/result.ts";
import type { MatrixPart } from "./formats/encoding.ts";
import type { TensorEntry } from "./safetensors.ts";
import type { ByteRange, VerifiedReader } from "./verified-reader.ts";
import type { ColumnReads } from "./window-reader.ts";

const BLOCK_BYTES = 16 << 20;

/** Reads the header of a file of the model. */
export type HeaderOf = (path: string) => Promise<ReadonlyMap<string, TensorEntry>>;

type Slice = { readonly name: string; readonly columns: Range; readonly bytes: Uint8Array };

export class ColumnCopies implements ColumnReads {
  readonly #reader: VerifiedReader;
  readonly #manifest: Manifest;
  readonly #headerOf: HeaderOf;
  readonly #absent = new Set<string>();
  #last: Slice | undefined;

  constructor(reader: VerifiedReader, manifest: Manifest, headerOf: HeaderOf) {
    this.#reader = reader;
    this.#manifest = manifest;
    this.#headerOf = headerOf;
  }

  async read(part: MatrixPart): Promise<{ readonly bytes: Uint8Array; readonly offset: number } | undefined> {
    const copy = await this.#copyOf(part);
    if (copy === undefined) return undefined;
    const bytes = await this.#slice(copy, part.elementBytes);
    return { bytes, offset: part.rows.start * lengthOf(part.columns) * part.elementBytes };
  }

  async rangeOf(part: MatrixPart): Promise<ByteRange | undefined> {
    const copy = await this.#copyOf(part);
    return copy && { path: copy.entry.path, range: rangeOf(copy, copy.columns, part.elementBytes) };
  }

  rest(): void {
    this.#last = undefined;
  }

  async #copyOf({ entry, elementBytes, columns }: MatrixPart): Promise<Copy | undefined> {
    const [rowCount = 0, width = 0] = entry.shape;
    const path = columnsPathOf(entry.path);
    if (lengthOf(columns) === 0 || lengthOf(columns) === width || ![1, 2, 4].includes(elementBytes)) return undefined;
    if (this.#absent.has(path) || fileOf(this.#manifest, path) === undefined) return undefined;
    try {
      const copy = (await this.#headerOf(path)).get(entry.name); // undefined: too small to be worth a copy
      const fits = copy?.dtype === entry.dtype && copy.shape[0] === width && copy.shape[1] === rowCount;
      return copy !== undefined && fits ? { entry: copy, columns, rowCount } : undefined;
    } catch (error) {
      // Listed, but nobody put it beside the model's own files: those are read then.
      if (!(error instanceof RefusalError && error.code === "MissingFile")) throw error;
      this.#absent.add(path);
      return undefined;
    }
  }

  async #slice(copy: Copy, elementBytes: number): Promise<Uint8Array> {
    const { columns, rowCount, entry } = copy;
    const last = this.#last;
    if (last?.name === entry.name && last.columns.start === columns.start && last.columns.end === columns.end)
      return last.bytes;
    this.#last = undefined; // before the next is made: one at a time
    const width = lengthOf(columns);
    const bytes = new Uint8Array(rowCount * width * elementBytes);
    const atOnce = Math.max(1, Math.floor(BLOCK_BYTES / (rowCount * elementBytes)));
    for (let start = columns.start; start < columns.end; start += atOnce) {
      const block = { start, end: Math.min(start + atOnce, columns.end) };
      const lines = await this.#reader.read(entry.path, rangeOf(copy, block, elementBytes));
      const into = { bytes, width, column: start - columns.start };
      turn({ bytes: lines, lineCount: lengthOf(block), lineLength: rowCount }, into, elementBytes);
    }
    this.#last = { name: entry.name, columns, bytes };
    return bytes;
  }
}

type Copy = { readonly entry: TensorEntry; readonly columns: Range; readonly rowCount: number };

/** Columns of the matrix are rows of the copy. */
function rangeOf({ entry, rowCount }: Copy, columns: Range, elementBytes: number): Range {
  const lineBytes = rowCount * elementBytes;
  return { start: entry.bytes.start + columns.start * lineBytes, end: entry.bytes.start + columns.end * lineBytes };
}

/** Whole lines of a matrix, one after the other. */
export type Lines = { readonly bytes: Uint8Array; readonly lineCount: number; readonly lineLength: number };
/** A matrix of `width` columns; what comes goes into its columns from `column` on. */
export type Columns = { readonly bytes: Uint8Array; readonly width: number; readonly column: number };

/** Lines of values that are turned together, so that what is written stays in the processor's cache. */
const TILE = 64;

/** Writes each line into a column. Both buffers start at offset 0; elements have 1, 2 or 4 bytes. */
export function turn(lines: Lines, into: Columns, elementBytes: number): void {
  const from = elementsOf(lines.bytes, elementBytes);
  const to = elementsOf(into.bytes, elementBytes);
  const { lineCount, lineLength } = lines;
  for (let line = 0; line < lineCount; line += TILE) {
    const lineEnd = Math.min(line + TILE, lineCount);
    for (let start = 0; start < lineLength; start += TILE) {
      const end = Math.min(start + TILE, lineLength);
      for (let row = start; row < end; row += 1) {
        const at = row * into.width + into.column;
        for (let column = line; column < lineEnd; column += 1) to[at + column] = from[column * lineLength + row] ?? 0;
      }
    }
  }
}

type Elements = Uint8Array | Uint16Array | Uint32Array;

function elementsOf({ buffer, byteLength }: Uint8Array, elementBytes: number): Elements {
  assert([1, 2, 4].includes(elementBytes), "elements have 1, 2 or 4 bytes");
  if (elementBytes === 1) return new Uint8Array(buffer, 0, byteLength);
  if (elementBytes === 2) return new Uint16Array(buffer, 0, byteLength / 2);
  return new Uint32Array(buffer, 0, byteLength / 4);
}
