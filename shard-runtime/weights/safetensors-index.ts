/**
 * Where the tensors of a safetensors checkpoint lie: in one file, or in several that an index tells of. Headers are read
 * when first needed, so that a rank touches only the files that hold its own layers.
 */
import { isJsonObject, parseJson, shown } from "../../core/json.ts";
import { type Manifest, fileOf } from "../../core/manifest.ts";
import { valueOrThrow } from "../../core/result.ts";
import { refusal } from "./formats/encoding.ts";
import { LENGTH_BYTES, type TensorEntry, headerBytesOf, parseTensors } from "./safetensors.ts";
import type { TensorIndex } from "./tensor-index.ts";
import type { VerifiedReader } from "./verified-reader.ts";

export const SINGLE_FILE = "model.safetensors";
export const INDEX_FILE = "model.safetensors.index.json";
const INDEX_TENSOR_COUNT_MAX = 1_000_000;

/** Which file has which tensor: one name for all, or the index's map. */
type Layout = string | ReadonlyMap<string, string>;

export class SafetensorsIndex implements TensorIndex {
  readonly #reader: VerifiedReader;
  readonly #layout: Layout;
  readonly #headers = new Map<string, Promise<ReadonlyMap<string, TensorEntry>>>();

  private constructor(reader: VerifiedReader, layout: Layout) {
    this.#reader = reader;
    this.#layout = layout;
  }

  /** Refused (RefusalError): MissingFile, MalformedIndex. */
  static async open(reader: VerifiedReader, manifest: Manifest): Promise<SafetensorsIndex> {
    return new SafetensorsIndex(reader, await layoutOf(reader, manifest));
  }

  mayHold(name: string): boolean {
    return typeof this.#layout === "string" || this.#layout.has(name);
  }

  async find(name: string): Promise<TensorEntry | undefined> {
    const path = typeof this.#layout === "string" ? this.#layout : this.#layout.get(name);
    return path === undefined ? undefined : (await this.headerOf(path)).get(name);
  }

  where({ path, name }: TensorEntry): string {
    return `${this.#reader.where(path)}: tensor ${name}`;
  }

  missing(name: string): string {
    if (typeof this.#layout !== "string" && !this.#layout.has(name))
      return `${this.#reader.where(INDEX_FILE)}: weight_map lacks tensor ${name}; fetch or export the checkpoint again`;
    const path = typeof this.#layout === "string" ? this.#layout : (this.#layout.get(name) ?? "");
    return `${this.#reader.where(path)}: tensor ${name} is not in the file; fetch or export the checkpoint again`;
  }

  /** The tensors of one file of the model, by name. Throws RefusalError: MissingFile, MalformedTensors. */
  headerOf(path: string): Promise<ReadonlyMap<string, TensorEntry>> {
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
