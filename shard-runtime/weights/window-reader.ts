/**
 * Rectangles of bytes out of verified files. Rows are read many at a time, gaps between the wanted columns included, since
 * what is verified is larger than most gaps; only where a gap is longer than a chunk is each row read alone.
 *
 * Where a few rows of a matrix lie all over its bytes (it is stored the other way round, or interleaved with another),
 * whoever reads it bit by bit would read everything every time: such windows are read whole and the latest are kept.
 */
import { CHUNK_BYTES } from "../../core/manifest.ts";
import { type Range, lengthOf } from "../../core/ranges.ts";
import type { MatrixPart, Window } from "./formats/encoding.ts";
import type { ByteRange } from "./verified-reader.ts";

/** Raw bytes held at once while a window with gaps is read. */
const BLOCK_BYTES = 16 << 20;
/** Bytes of windows kept. PERF: a scattered matrix that is larger is read again for every part of it. */
const KEPT_BYTES_MAX = 128 << 20;

export interface ByteReader {
  /** The bytes of a range of a file, fresh and at offset 0 of their buffer. */
  read(path: string, range: Range): Promise<Uint8Array>;
  /** Told when nothing more will be read for now. */
  rest?(): void;
}

/** A shorter way to some columns of all rows than through all columns, where there is one. */
export interface ColumnReads {
  /** The part's values as they are stored, row-major, from byte `offset` on; undefined where there is no such way. */
  read(part: MatrixPart): Promise<{ readonly bytes: Uint8Array; readonly offset: number } | undefined>;
  /** The bytes that {@link read} will ask for. */
  rangeOf(part: MatrixPart): Promise<ByteRange | undefined>;
  /** Lets go of what it keeps. */
  rest?(): void;
}

export class WindowReader {
  readonly #reader: ByteReader;
  readonly #columns: ColumnReads | undefined;
  /** Whole windows, the oldest first. */
  readonly #kept = new Map<string, Promise<Uint8Array>>();
  readonly #keptSizes = new Map<string, number>();

  constructor(reader: ByteReader, columns?: ColumnReads) {
    this.#reader = reader;
    this.#columns = columns;
  }

  /** The window's bytes without gaps, fresh and at offset 0 of their buffer. */
  async read(window: Window, scattered: boolean): Promise<Uint8Array> {
    const values = window.part === undefined ? undefined : await this.#columns?.read(window.part);
    if (values !== undefined) return values.bytes.slice(values.offset, values.offset + bytesOf(window));
    const whole = wholeOf(window);
    if (!scattered || bytesOf(whole) > KEPT_BYTES_MAX) return this.#read(window);
    return cutColumns(await this.#readKept(whole), window);
  }

  /** The byte ranges that {@link read} will ask for. */
  async rangesOf(window: Window, scattered: boolean): Promise<readonly ByteRange[]> {
    const copied = window.part === undefined ? undefined : await this.#columns?.rangeOf(window.part);
    if (copied !== undefined) return [copied];
    const whole = wholeOf(window);
    const read = !scattered || bytesOf(whole) > KEPT_BYTES_MAX ? window : whole;
    return Array.from(blocksOf(read), ({ bytes }) => ({ path: window.path, range: bytes }));
  }

  async #read(window: Window): Promise<Uint8Array> {
    const width = lengthOf(window.columns);
    const out = new Uint8Array(window.rowCount * width);
    let at = 0;
    for (const { bytes, rowCount } of blocksOf(window)) {
      const raw = await this.#reader.read(window.path, bytes);
      if (raw.length === out.length) return raw;
      if (width === window.rowBytes) out.set(raw, at);
      else
        for (let row = 0; row < rowCount; row += 1)
          out.set(raw.subarray(row * window.rowBytes, row * window.rowBytes + width), at + row * width);
      at += rowCount * width;
    }
    return out;
  }

  #readKept(whole: Window): Promise<Uint8Array> {
    const key = `${whole.start} ${whole.rowCount} ${whole.path}`;
    const found = this.#kept.get(key) ?? this.#read(whole);
    this.#kept.delete(key);
    this.#kept.set(key, found);
    this.#keptSizes.set(key, bytesOf(whole));
    found.catch(() => this.#forget(key));
    let total = this.#keptSizes.values().reduce((a, b) => a + b, 0);
    for (const oldest of [...this.#kept.keys()]) {
      if (total <= KEPT_BYTES_MAX) break;
      total -= this.#keptSizes.get(oldest) ?? 0;
      this.#forget(oldest);
    }
    return found;
  }

  /** Lets go of every window kept. */
  rest(): void {
    this.#kept.clear();
    this.#keptSizes.clear();
    this.#columns?.rest?.();
    this.#reader.rest?.();
  }

  #forget(key: string): void {
    this.#kept.delete(key);
    this.#keptSizes.delete(key);
  }
}

const wholeOf = (window: Window): Window => ({ ...window, columns: { start: 0, end: window.rowBytes } });
const bytesOf = ({ rowCount, columns }: Window): number => rowCount * lengthOf(columns);

/** The wanted columns of rows that are there whole. */
function cutColumns(whole: Uint8Array, { rowCount, rowBytes, columns }: Window): Uint8Array {
  const width = lengthOf(columns);
  const out = new Uint8Array(rowCount * width);
  for (let row = 0; row < rowCount; row += 1) {
    const at = row * rowBytes + columns.start;
    out.set(whole.subarray(at, at + width), row * width);
  }
  return out;
}

function* blocksOf(window: Window): Iterable<{ readonly bytes: Range; readonly rowCount: number }> {
  const { rowBytes, columns } = window;
  const width = lengthOf(columns);
  if (width === 0) return;
  const start = window.start + columns.start;
  const rowsPerBlock = rowBytes - width > CHUNK_BYTES ? 1 : Math.max(1, Math.floor(BLOCK_BYTES / rowBytes));
  for (let row = 0; row < window.rowCount; row += rowsPerBlock) {
    const rowCount = Math.min(rowsPerBlock, window.rowCount - row);
    const at = start + row * rowBytes;
    yield { bytes: { start: at, end: at + (rowCount - 1) * rowBytes + width }, rowCount };
  }
}
