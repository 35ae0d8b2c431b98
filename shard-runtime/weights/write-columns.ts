/**
 * Writes the copies that column-copies.ts reads: of every matrix that tensor-parallel ranks cut by columns, its columns as
 * rows. The same bytes for the same model, and memory does not grow with it: a matrix is turned strip by strip.
 */
import { open, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { LEAF_BYTES, type ManifestFile, columnsPathOf } from "../../core/manifest.ts";
import type { ModelConfig } from "../../core/model-config.ts";
import { lengthOf } from "../../core/ranges.ts";
import { tensorPlaces } from "../../core/tensor-places.ts";
import { ChunkHasher } from "./chunk-hasher.ts";
import { turn } from "./column-copies.ts";
import type { FolderSource } from "./folder-source.ts";
import { DTYPE_BITS, type TensorEntry } from "./safetensors.ts";

/** Of a matrix that is being turned, held at once; and as much again of what it is read from. */
const STRIP_BYTES = 64 << 20;
const BLOCK_BYTES = 16 << 20;
/** Where a rank's few columns and the whole matrix differ by less than this, the whole is read. */
const MATRIX_BYTES_MIN = 64 * LEAF_BYTES;

const CUT_BY_INPUTS = /^layers\.\d+\.(o|down)\.weight$/;
const CUT_BY_OUTPUTS = /^layers\.\d+\.(q|k|v|gate|up)\.weight$/;

/** GPTQ and AWQ store the outputs of a matrix as columns, in these tensors. */
const TURNED = ["qweight", "qzeros", "scales"] as const;

/**
 * Names of the matrices of which ranks take columns, however the checkpoint stores them: not all are there. Experts are
 * dealt out whole.
 */
export function columnTensors(config: ModelConfig): ReadonlySet<string> {
  const matrices = tensorPlaces(config).filter(
    ({ plane, storedShape }) => plane === undefined && storedShape.length === 2,
  );
  const cut = matrices.filter(({ role, transposed }) =>
    (transposed === true ? CUT_BY_OUTPUTS : CUT_BY_INPUTS).test(role),
  );
  const turned = matrices.filter(({ role }) => CUT_BY_OUTPUTS.test(role));
  return new Set([
    ...cut.map(({ stored }) => stored),
    ...turned.flatMap(({ stored }) => TURNED.map((kind) => stored.replace(/\.weight$/, `.${kind}`))),
  ]);
}

export type CopyOptions = {
  readonly directory: string;
  readonly folder: FolderSource;
  readonly onBytes: (byteCount: number) => void;
  /** Given the hashes of the copy's leaves, in order. */
  readonly onLeaves: (hashes: Uint8Array) => Promise<void>;
};

/** Of these matrices, those that are worth a copy: by weights file, in the order in which they lie in it. */
export function copiedOf(entries: readonly TensorEntry[]): readonly (readonly [string, readonly TensorEntry[]])[] {
  const copied = entries.filter(
    ({ bytes, dtype }) => lengthOf(bytes) >= MATRIX_BYTES_MIN && [1, 2, 4].includes(elementBytesOf(dtype)),
  );
  const paths = [...new Set(copied.map(({ path }) => path))].sort();
  return paths.map((path) => [
    path,
    copied.filter((entry) => entry.path === path).sort((a, b) => a.bytes.start - b.bytes.start),
  ]);
}

const elementBytesOf = (dtype: string): number => (DTYPE_BITS[dtype] ?? 0) / 8;

/** Writes the copy of `entries`, all of the weights file `path`, beside it; whole or not at all. */
export async function writeColumns(
  path: string,
  entries: readonly TensorEntry[],
  options: CopyOptions,
): Promise<ManifestFile> {
  const target = join(options.directory, columnsPathOf(path));
  const partial = `${target}.new`;
  const hasher = new ChunkHasher();
  const file = await open(partial, "w");
  try {
    const write = async (bytes: Uint8Array): Promise<void> => {
      hasher.update(bytes);
      for (let written = 0; written < bytes.length; )
        written += (await file.write(bytes, written, bytes.length - written)).bytesWritten;
      options.onBytes(bytes.length);
      await options.onLeaves(hasher.takeLeaves());
    };
    await write(headerOf(entries));
    for (const entry of entries) for await (const strip of stripsOf(entry, options.folder)) await write(strip);
    const made = hasher.finish(columnsPathOf(path));
    await options.onLeaves(hasher.takeLeaves());
    await file.sync();
    await file.close();
    await rename(partial, target);
    return made;
  } finally {
    await file.close().catch(() => undefined);
    await rm(partial, { force: true });
  }
}

/** What writing the copies of these entries writes, bytes. */
export const columnsBytes = (entries: readonly TensorEntry[]): number =>
  headerOf(entries).length + entries.reduce((total, { bytes }) => total + lengthOf(bytes), 0);

/** The header of a safetensors file: 8 bytes of length, then JSON, filled up with spaces to a multiple of 8. */
function headerOf(entries: readonly TensorEntry[]): Uint8Array {
  let at = 0;
  const header = Object.fromEntries(
    entries.map(({ name, dtype, shape, bytes }) => {
      const start = at;
      at += lengthOf(bytes);
      return [name, { dtype, shape: shape.toReversed(), data_offsets: [start, at] }];
    }),
  );
  const text = JSON.stringify(header);
  const json = new TextEncoder().encode(text.padEnd(Math.ceil(text.length / 8) * 8));
  const out = new Uint8Array(8 + json.length);
  new DataView(out.buffer).setBigUint64(0, BigInt(json.length), true);
  out.set(json, 8);
  return out;
}

/** The columns of a matrix, one after the other, many at a time. */
async function* stripsOf(entry: TensorEntry, folder: FolderSource): AsyncIterable<Uint8Array> {
  const [rowCount = 0, width = 0] = entry.shape;
  const elementBytes = elementBytesOf(entry.dtype);
  const rowBytes = width * elementBytes;
  const stripWidth = Math.max(1, Math.floor(STRIP_BYTES / (rowCount * elementBytes)));
  const fileBytes = await folder.sizeOf(entry.path);
  const rowsAtOnce = Math.max(1, Math.floor(BLOCK_BYTES / rowBytes));
  for (let start = 0; start < width; start += stripWidth) {
    const end = Math.min(start + stripWidth, width);
    const strip = new Uint8Array((end - start) * rowCount * elementBytes);
    for (let row = 0; row < rowCount; row += rowsAtOnce) {
      const lineCount = Math.min(rowsAtOnce, rowCount - row);
      const at = entry.bytes.start + row * rowBytes;
      const lines = await folder.read(entry.path, { start: at, end: at + lineCount * rowBytes }, fileBytes);
      const own = end - start === width ? lines : columnsOf(lines, lineCount, rowBytes, { start, end }, elementBytes);
      turn(
        { bytes: own, lineCount, lineLength: end - start },
        { bytes: strip, width: rowCount, column: row },
        elementBytes,
      );
    }
    yield strip;
  }
}

function columnsOf(
  lines: Uint8Array,
  lineCount: number,
  rowBytes: number,
  columns: { readonly start: number; readonly end: number },
  elementBytes: number,
): Uint8Array {
  const ownBytes = (columns.end - columns.start) * elementBytes;
  const out = new Uint8Array(lineCount * ownBytes);
  for (let line = 0; line < lineCount; line += 1) {
    const at = line * rowBytes + columns.start * elementBytes;
    out.set(lines.subarray(at, at + ownBytes), line * ownBytes);
  }
  return out;
}
