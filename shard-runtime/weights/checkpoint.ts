/**
 * The tensors of a checkpoint by the role they play. Where a role's numbers lie is said by its place (core/families),
 * how they are written by an encoding (formats/); here the two meet: the part asked for becomes rectangles of bytes.
 * Shapes are held to config.json's.
 */
import type { Manifest } from "../../core/manifest.ts";
import type { ModelConfig } from "../../core/model-config.ts";
import { present } from "../../core/assert.ts";
import { isJsonObject, parseJson } from "../../core/json.ts";
import { type SourceQuantization, parseSourceQuantization } from "../../core/quantized-source.ts";
import { type Result, valueOrThrow } from "../../core/result.ts";
import { tensorPlaces } from "../../core/tensor-places.ts";
import type { TensorBlocks, TensorPart, TensorSource } from "../engine/tensor-source.ts";
import { ColumnCopies } from "./column-copies.ts";
import { type Encoding, type Format, refusal } from "./formats/encoding.ts";
import { formatsOf } from "./formats/formats.ts";
import type { TensorEntry } from "./safetensors.ts";
import { plainFormat } from "./formats/plain.ts";
import { ggufFormat } from "./gguf/gguf-format.ts";
import { GgufIndex, ggufFilesOf } from "./gguf/gguf-index.ts";
import { ggufPlaces } from "./gguf/gguf-places.ts";
import { SafetensorsIndex } from "./safetensors-index.ts";
import type { TensorIndex } from "./tensor-index.ts";
import { type StoredPlace, type View, arranged, arrangedBlocks, viewOf, wantedAt } from "./tensor-view.ts";
import type { ByteRange, VerifiedReader } from "./verified-reader.ts";
import { WindowReader } from "./window-reader.ts";

export { INDEX_FILE, SINGLE_FILE, parseIndex } from "./safetensors-index.ts";

export type TensorRead = { readonly role: string; readonly part?: TensorPart };

type Contents = {
  readonly index: TensorIndex;
  readonly places: readonly StoredPlace[];
  readonly formats: readonly Format[]; // asked in this order
};

export class Checkpoint implements TensorSource {
  readonly #windows: WindowReader;
  readonly #index: TensorIndex;
  readonly #places: ReadonlyMap<string, StoredPlace>; // by role
  readonly #formats: readonly Format[];
  readonly #encodings = new Map<string, Promise<Encoding>>(); // by stored name

  private constructor(windows: WindowReader, { index, places, formats }: Contents) {
    this.#windows = windows;
    this.#index = index;
    this.#places = new Map(places.map((place) => [place.role, place]));
    this.#formats = formats;
  }

  /** Refused (RefusalError): MissingFile, MalformedIndex, MissingTensor where the index lacks one that config.json implies. */
  static async open(reader: VerifiedReader, manifest: Manifest, config: ModelConfig): Promise<Checkpoint> {
    const checkpoint = new Checkpoint(...(await contentsOf(reader, manifest, config)));
    for (const { stored } of checkpoint.#places.values()) checkpoint.#assertListed(stored);
    return checkpoint;
  }

  /** Reads every header and checks that each tensor is there, readable and of the right shape. */
  async checkAll(): Promise<void> {
    for (const place of this.#places.values()) await this.#encodingOf(place);
  }

  /** Where a stored tensor lies; undefined where the checkpoint has none of this name. */
  find(stored: string): Promise<TensorEntry | undefined> {
    return this.#index.find(stored);
  }

  async read(role: string, part: TensorPart = {}): Promise<Float32Array> {
    const { place, encoding, view } = await this.#find(role, part);
    const raw = await this.#raw(encoding, view);
    return arranged(view, encoding.decode(view.rect, raw), place.add);
  }

  async readBlocks(role: string, part: TensorPart = {}): Promise<TensorBlocks | undefined> {
    const { place, encoding, view } = await this.#find(role, part);
    if (encoding.blocks === undefined || view.transposed || place.add !== undefined) return undefined;
    const blocks = encoding.blocks(view.rect, await this.#raw(encoding, view));
    return blocks === undefined ? undefined : arrangedBlocks(view, blocks);
  }

  rest(): void {
    this.#windows.rest();
  }

  /** The byte ranges that these reads will ask for, headers included; for progress. */
  async rangesOf(reads: Iterable<TensorRead>): Promise<readonly ByteRange[]> {
    const ranges: ByteRange[] = [];
    for (const { role, part } of reads) {
      const { encoding, view } = await this.#find(role, part ?? {});
      for (const window of encoding.windows(view.rect))
        ranges.push(...(await this.#windows.rangesOf(window, view.scattered)));
    }
    return ranges;
  }

  async #raw(encoding: Encoding, view: View): Promise<readonly Uint8Array[]> {
    const raw: Uint8Array[] = [];
    for (const window of encoding.windows(view.rect)) raw.push(await this.#windows.read(window, view.scattered));
    return raw;
  }

  async #find(role: string, part: TensorPart) {
    const place = present(this.#places.get(role), `the model has a tensor ${role}`);
    const encoding = await this.#encodingOf(place);
    return { place, encoding, view: viewOf(place, encoding, part) };
  }

  #encodingOf(place: StoredPlace): Promise<Encoding> {
    const known = this.#encodings.get(place.stored);
    if (known !== undefined) return known;
    const found = this.#findEncoding(place);
    this.#encodings.set(place.stored, found);
    found.catch(() => this.#encodings.delete(place.stored)); // weather may pass
    return found;
  }

  async #findEncoding(place: StoredPlace): Promise<Encoding> {
    const wanted = wantedAt(place);
    for (const format of this.#formats) {
      const encoding = await format.encodingOf(wanted, this.#index);
      if (encoding !== undefined) return encoding;
    }
    const entry = await this.#index.find(place.stored);
    if (entry === undefined) throw refusal("MissingTensor", this.#index.missing(place.stored));
    throw refusal(
      "UnsupportedDtype",
      `${this.#index.where(entry)} has dtype ${entry.dtype}, expected F32, F16 or BF16 (or what its quantization_config says); use the unquantised checkpoint`,
    );
  }

  #assertListed(stored: string): void {
    if (this.#formats.some((format) => this.#index.mayHold(format.mainTensor(stored)))) return;
    throw refusal("MissingTensor", this.#index.missing(stored));
  }
}

function quantizationIn(configText: string): Result<SourceQuantization> {
  const json = parseJson(configText);
  return parseSourceQuantization(isJsonObject(json) ? json : {});
}

async function contentsOf(
  reader: VerifiedReader,
  manifest: Manifest,
  config: ModelConfig,
): Promise<readonly [WindowReader, Contents]> {
  const files = ggufFilesOf(manifest);
  if (files.length > 0) {
    const index = await GgufIndex.open(reader, files);
    const places = ggufPlaces(config, index.architecture);
    index.assertAllAt(places);
    return [new WindowReader(reader), { index, places, formats: [plainFormat, ggufFormat] }];
  }
  const index = await SafetensorsIndex.open(reader, manifest);
  const copies = new ColumnCopies(reader, manifest, (path) => index.headerOf(path));
  const formats = formatsOf(valueOrThrow(quantizationIn(manifest.configText)));
  return [new WindowReader(reader, copies), { index, places: tensorPlaces(config), formats }];
}
