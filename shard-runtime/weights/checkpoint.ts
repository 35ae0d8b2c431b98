/**
 * The tensors of a checkpoint, spread over one safetensors file or several with an index. Headers are read when first
 * needed, so that a rank touches only the files that hold its own layers; shapes are held to config.json's.
 */
import { assert, present } from "../../core/assert.ts";
import { isJsonObject, parseJson, shown } from "../../core/json.ts";
import { CHUNK_BYTES, type Manifest, fileOf } from "../../core/manifest.ts";
import type { TensorPlace } from "../../core/family.ts";
import type { ModelConfig } from "../../core/model-config.ts";
import { type Range, lengthOf } from "../../core/ranges.ts";
import { type Refusal, RefusalError, refuse, valueOrThrow } from "../../core/result.ts";
import { tensorPlaces } from "../../core/tensor-places.ts";
import type { TensorPart, TensorSource } from "../engine/tensor-source.ts";
import { LENGTH_BYTES, type TensorEntry, headerBytesOf, parseTensors } from "./safetensors.ts";
import type { ByteRange, VerifiedReader } from "./verified-reader.ts";
import { type ReadableDtype, elementBytes, isReadable, widen } from "./widen.ts";

export const SINGLE_FILE = "model.safetensors";
export const INDEX_FILE = "model.safetensors.index.json";
const INDEX_TENSOR_COUNT_MAX = 1_000_000;

/** Raw bytes held at once while a tensor is read. */
const BLOCK_BYTES = 16 << 20;

export type TensorRead = { readonly role: string; readonly part?: TensorPart };

/** Which file has which tensor: one name for all, or the index's map. */
type Layout = string | ReadonlyMap<string, string>;

export class Checkpoint implements TensorSource {
  readonly #reader: VerifiedReader;
  readonly #layout: Layout;
  readonly #places: ReadonlyMap<string, TensorPlace>; // by role
  readonly #headers = new Map<string, Promise<ReadonlyMap<string, TensorEntry>>>();

  private constructor(reader: VerifiedReader, layout: Layout, config: ModelConfig) {
    this.#reader = reader;
    this.#layout = layout;
    this.#places = new Map(tensorPlaces(config).map((place) => [place.role, place]));
  }

  /** Refused (RefusalError): MissingFile, MalformedIndex, MissingTensor where the index lacks one that config.json implies. */
  static async open(reader: VerifiedReader, manifest: Manifest, config: ModelConfig): Promise<Checkpoint> {
    const layout = await layoutOf(reader, manifest);
    const checkpoint = new Checkpoint(reader, layout, config);
    for (const { stored } of checkpoint.#places.values()) checkpoint.#pathOf(stored);
    return checkpoint;
  }

  /** Reads every header and checks that each tensor is there, readable and of the right shape. */
  async checkAll(): Promise<void> {
    for (const role of this.#places.keys()) await this.#entryOf(role);
  }

  async read(role: string, part: TensorPart = {}): Promise<Float32Array> {
    const view = viewOf(await this.#entryOf(role), part);
    const out = new Float32Array(lengthOf(view.rows) * view.columnCount);
    let at = 0;
    for (const block of blocksOf(view)) {
      const bytes = await this.#reader.read(view.path, block.bytes);
      for (let row = 0; row < block.rowCount; row += 1, at += view.columnCount)
        widen(view.dtype, bytes, row * view.rowBytes, out, at, view.columnCount);
    }
    return out;
  }

  /** The byte ranges that these reads will ask for, headers included; for progress. */
  async rangesOf(reads: Iterable<TensorRead>): Promise<readonly ByteRange[]> {
    const ranges: ByteRange[] = [];
    for (const { role, part } of reads) {
      const view = viewOf(await this.#entryOf(role), part ?? {});
      for (const { bytes } of blocksOf(view)) ranges.push({ path: view.path, range: bytes });
    }
    return ranges;
  }

  /** The entry of a role's tensor, its shape and dtype checked. */
  async #entryOf(role: string): Promise<TensorEntry & { readonly dtype: ReadableDtype }> {
    const { stored: name, storedShape } = present(this.#places.get(role), `the model has a tensor ${role}`);
    const path = this.#pathOf(name);
    const entry = (await this.#headerOf(path)).get(name);
    const where = `${this.#reader.where(path)}: tensor ${name}`;
    if (entry === undefined)
      throw refusal("MissingTensor", `${where} is not in the file; fetch or export the checkpoint again`);
    const { dtype } = entry;
    if (!isReadable(dtype))
      throw refusal(
        "UnsupportedDtype",
        `${where} has dtype ${dtype}, expected F32, F16 or BF16; use the unquantised checkpoint`,
      );
    if (shown(storedShape) !== shown(entry.shape))
      throw refusal(
        "WrongShape",
        `${where} has shape ${shown(entry.shape)}, expected ${shown(storedShape)} after config.json; the two are not of one model`,
      );
    return { ...entry, dtype };
  }

  #pathOf(name: string): string {
    const path = typeof this.#layout === "string" ? this.#layout : this.#layout.get(name);
    if (path !== undefined) return path;
    throw refusal(
      "MissingTensor",
      `${this.#reader.where(INDEX_FILE)}: weight_map lacks tensor ${name}; fetch or export the checkpoint again`,
    );
  }

  #headerOf(path: string): Promise<ReadonlyMap<string, TensorEntry>> {
    const known = this.#headers.get(path);
    if (known !== undefined) return known;
    const header = this.#readHeader(path);
    this.#headers.set(path, header);
    header.catch(() => this.#headers.delete(path)); // weather may pass
    return header;
  }

  async #readHeader(path: string): Promise<ReadonlyMap<string, TensorEntry>> {
    const { sizeBytes } = this.#reader.fileOf(path);
    const where = this.#reader.where(path);
    const first = await this.#reader.read(path, { start: 0, end: Math.min(LENGTH_BYTES, sizeBytes) });
    const headerBytes = valueOrThrow(headerBytesOf(where, first, sizeBytes));
    const header = await this.#reader.read(path, { start: LENGTH_BYTES, end: LENGTH_BYTES + headerBytes });
    const tensors = valueOrThrow(parseTensors(where, header, sizeBytes));
    return new Map(tensors.values().map((tensor) => [tensor.name, { ...tensor, path }]));
  }
}

/** One file has precedence over an index, as where the checkpoint comes from. */
async function layoutOf(reader: VerifiedReader, manifest: Manifest): Promise<Layout> {
  if (fileOf(manifest, SINGLE_FILE) !== undefined) return SINGLE_FILE;
  if (fileOf(manifest, INDEX_FILE) === undefined)
    throw refusal(
      "MissingFile",
      `${reader.where(SINGLE_FILE)}: the model has neither this file nor ${INDEX_FILE}; export it as safetensors`,
    );
  const index = parseIndex(reader.where(INDEX_FILE), await reader.readFile(INDEX_FILE));
  for (const path of new Set(index.values())) reader.fileOf(path);
  return index;
}

/** The weight_map of an index: tensor name to file name. Throws RefusalError `MalformedIndex`. */
export function parseIndex(where: string, bytes: Uint8Array): ReadonlyMap<string, string> {
  const json = parseJson(new TextDecoder().decode(bytes));
  const map = isJsonObject(json) ? json["weight_map"] : undefined;
  const entries = isJsonObject(map) ? Object.entries(map) : [];
  if (entries.length === 0 || entries.length > INDEX_TENSOR_COUNT_MAX)
    throw refusal(
      "MalformedIndex",
      `${where}: weight_map is ${shown(map)}, expected tensor names and their files; fetch it again`,
    );
  return new Map(
    entries.map(([name, path]) => {
      if (typeof path === "string" && /^[A-Za-z0-9][\w.-]*\.safetensors$/.test(path)) return [name, path];
      throw refusal(
        "MalformedIndex",
        `${where}: weight_map puts ${name} into ${shown(path)}, expected a .safetensors file beside the index`,
      );
    }),
  );
}

/** A part of a tensor, as bytes of its file. A vector of n elements is n rows of one column. */
type View = {
  readonly path: string;
  readonly dtype: ReadableDtype;
  readonly rows: Range;
  readonly columnCount: number;
  readonly columnBytes: number; // of the wanted columns of one row
  readonly rowBytes: number; // from one row to the next
  readonly start: number; // of the wanted columns of row 0, in the file
};

function viewOf(entry: TensorEntry & { readonly dtype: ReadableDtype }, part: TensorPart): View {
  const [rowCount = 1, ...rest] = entry.shape;
  const width = rest.reduce((product, length) => product * length, 1);
  const { rows = { start: 0, end: rowCount }, columns = { start: 0, end: width } } = part;
  assert(isWithin(rows, rowCount) && isWithin(columns, width), `a part within ${entry.name}`);
  const size = elementBytes(entry.dtype);
  return {
    path: entry.path,
    dtype: entry.dtype,
    rows,
    columnCount: lengthOf(columns),
    columnBytes: lengthOf(columns) * size,
    rowBytes: width * size,
    start: entry.bytes.start + columns.start * size,
  };
}

const isWithin = ({ start, end }: Range, length: number): boolean => start >= 0 && start <= end && end <= length;

/**
 * The reads that a view takes: many rows at a time, gaps between the wanted columns included, since chunks of 1 MiB
 * cover several rows. Only where a gap is longer than a chunk is each row read alone.
 */
function* blocksOf(view: View): Iterable<{ readonly bytes: Range; readonly rowCount: number }> {
  const { rows, rowBytes, columnBytes, start } = view;
  if (columnBytes === 0) return;
  const rowsPerBlock = rowBytes - columnBytes > CHUNK_BYTES ? 1 : Math.max(1, Math.floor(BLOCK_BYTES / rowBytes));
  for (let row = rows.start; row < rows.end; row += rowsPerBlock) {
    const rowCount = Math.min(rowsPerBlock, rows.end - row);
    const at = start + row * rowBytes;
    yield { bytes: { start: at, end: at + (rowCount - 1) * rowBytes + columnBytes }, rowCount };
  }
}

function refusal(code: string, detail: string): RefusalError {
  const content: Refusal = refuse(code, detail);
  return new RefusalError(content);
}
