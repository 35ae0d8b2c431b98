/**
 * `tessellate pack`: hashes a checkpoint once and checks that it can be served, so that what is wrong with it is told to
 * the one who has it in hand and not to a hundred ranks.
 */
import { type FileHandle, open, readdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../../core/clock.ts";
import { isJsonObject, parseJson, shown } from "../../core/json.ts";
import {
  LEAVES_FILE,
  MANIFEST_FILE,
  type Manifest,
  type ManifestFile,
  formatManifest,
  isAddedFile,
  manifestOf,
} from "../../core/manifest.ts";
import { parseModelConfig } from "../../core/model-config.ts";
import { RefusalError, type Result, refuse, valueOrThrow } from "../../core/result.ts";
import { isRowless } from "../../core/rowless-tokens.ts";
import { placeOf } from "../../core/source.ts";
import { ChunkHasher } from "./chunk-hasher.ts";
import { INDEX_FILE, SINGLE_FILE, parseIndex } from "./checkpoint.ts";
import { FolderSource } from "./folder-source.ts";
import { describeGguf } from "./gguf/describe.ts";
import { ggufFilesIn } from "./gguf/gguf-files.ts";
import { ggufFilesOf } from "./gguf/gguf-index.ts";
import { heldBytesOf } from "./held-bytes.ts";
import { type OpenModel, openWith, refusalsOf } from "./open-model.ts";
import { type Progress, ProgressMeter } from "./progress.ts";
import { SourceList } from "./source-list.ts";
import { columnTensors, columnsBytes, copiedOf, writeColumns } from "./write-columns.ts";

/** What serving may read besides weights. Other files of a folder (cards, other formats) are not part of the model. */
const OPTIONAL_FILES = [
  "generation_config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "chat_template.jinja",
  "chat_template.json",
  "vocab.json",
  "merges.txt",
  "tokenizer.model",
];
const SMALL_FILE_BYTES_MAX = 64 << 20;

export type PackOptions = {
  readonly clock: Clock;
  readonly tokenizer?: "required" | "optional"; // required by default: without it no text can be served
  readonly onProgress?: (progress: Progress) => void;
};

/** Hashes the checkpoint in `directory` and checks all of it: configuration, every header, tokenizer. Writes nothing. */
export function makeManifest(directory: string, options: PackOptions): Promise<Result<Manifest>> {
  return refusalsOf(async () => (await packed(directory, options)).manifest);
}

/** Writes the manifest into the folder, whole or not at all. */
export async function writeManifest(directory: string, manifest: Manifest): Promise<string> {
  const path = join(directory, MANIFEST_FILE);
  await writeFile(`${path}.new`, formatManifest(manifest));
  await rename(`${path}.new`, path);
  return path;
}

export type PackedModel = {
  readonly manifest: Manifest;
  readonly manifestPath: string;
  readonly addedBytes: number; // of copies by column; 0 where there are none
  readonly written: readonly string[]; // files made of a GGUF file's metadata
  readonly notes: readonly string[]; // what whoever packs should know, in words
};

/**
 * As {@link makeManifest}, and writes what ranks read: the manifest, the leaves' hashes and, unless `columns` is false,
 * copies of the matrices that tensor-parallel ranks cut by columns.
 */
export function packModel(
  directory: string,
  { columns = true, ...options }: PackOptions & { readonly columns?: boolean },
): Promise<Result<PackedModel>> {
  return refusalsOf(async () => {
    const { written, notes } = await describeGguf(directory, folderSource(directory), {
      tokenizer: options.tokenizer ?? "required",
    });
    const leaves = new LeavesFile(directory);
    try {
      const { model, meter } = await packedOf(directory, options, leaves);
      for (const name of await readdir(directory))
        if (isAddedFile(name) && name !== LEAVES_FILE) await rm(join(directory, name));
      const copies = columns ? await writeCopies(directory, model, leaves, meter) : [];
      const eachLayer = ggufFilesOf(model.manifest).length > 0;
      const held = await heldBytesOf(model.tensors, model.config, { eachLayer });
      const manifest = {
        ...manifestOf([...model.manifest.files, ...copies], model.manifest.configText),
        ...(held.length > 0 ? { held } : {}),
      };
      await leaves.finish();
      const manifestPath = await writeManifest(directory, manifest);
      const addedBytes = copies.reduce((total, { sizeBytes }) => total + sizeBytes, 0);
      return { manifest, manifestPath, addedBytes, written, notes };
    } finally {
      await leaves.abandon();
    }
  });
}

/** A bare checkpoint folder as an open model, its manifest made in memory; a tokenizer is not needed. */
export function openUnpacked(directory: string, options: PackOptions): Promise<Result<OpenModel>> {
  return refusalsOf(() => packed(directory, { tokenizer: "optional", ...options }));
}

type Opened = Awaited<ReturnType<typeof openWith>>;

const packed = async (directory: string, options: PackOptions): Promise<Opened> =>
  (await packedOf(directory, options)).model;

async function packedOf(
  directory: string,
  options: PackOptions,
  leaves?: LeavesFile,
): Promise<{ readonly model: Opened; readonly meter: ProgressMeter }> {
  const folder = folderSource(directory);
  const configText = new TextDecoder().decode(await configOf(directory, folder));
  const config = valueOrThrow(parseModelConfig(configText));
  if (options.tokenizer !== "optional") await checkTokenizer(folder, config.vocabularySize);

  const sizes = await sizesOf(folder, directory);
  const total = sizes.values().reduce((a, b) => a + b, 0);
  const meter = new ProgressMeter(options.clock, total, options.onProgress);
  const files: ManifestFile[] = [];
  for (const [path, sizeBytes] of [...sizes].toSorted(([a], [b]) => (a < b ? -1 : 1)))
    files.push(await hashed(folder, path, sizeBytes, meter, leaves));
  const model = await openWith(new SourceList([folder]), manifestOf(files, configText), { clock: options.clock });
  await model.tensors.checkAll();
  return { model, meter };
}

async function configOf(directory: string, folder: FolderSource): Promise<Uint8Array> {
  const found = await refusalsOf(() => folder.readSmall("config.json", SMALL_FILE_BYTES_MAX));
  if (found.ok) return found.value;
  const [gguf] = found.code === "MissingFile" ? await ggufFilesIn(directory) : [];
  if (gguf === undefined) throw new RefusalError(found);
  const where = folder.where("config.json");
  throw new RefusalError(
    refuse("MissingFile", `${where}: no such file; run "tessellate pack ${directory}" once, which makes it of ${gguf}`),
  );
}

/** Copies by column of all weights files that have matrices to copy, in the order of their paths. */
async function writeCopies(
  directory: string,
  model: Opened,
  leaves: LeavesFile,
  meter: ProgressMeter,
): Promise<readonly ManifestFile[]> {
  const entries = await Promise.all([...columnTensors(model.config)].map((name) => model.tensors.find(name)));
  const copied = copiedOf(entries.filter((entry) => entry !== undefined));
  const hashedBytes = model.manifest.files.reduce((total, { sizeBytes }) => total + sizeBytes, 0);
  meter.expect(hashedBytes + copied.reduce((total, [, entries]) => total + columnsBytes(entries), 0));
  const files: ManifestFile[] = [];
  for (const [path, entries] of copied) {
    const options = {
      directory,
      folder: folderSource(directory),
      onBytes: (byteCount: number) => meter.advance(byteCount),
      onLeaves: (hashes: Uint8Array) => leaves.write(hashes),
    };
    files.push(await writeColumns(path, entries, options));
  }
  return files;
}

/**
 * The leaves' hashes as they are made; in their place only when all are there. Opened for the first of them: by then the
 * folder was found to hold a model.
 */
class LeavesFile {
  readonly #path: string;
  #file: FileHandle | undefined;

  constructor(directory: string) {
    this.#path = join(directory, LEAVES_FILE);
  }

  async write(hashes: Uint8Array): Promise<void> {
    if (hashes.length === 0) return;
    this.#file ??= await open(`${this.#path}.new`, "w");
    await this.#file.writeFile(hashes);
  }

  async finish(): Promise<void> {
    await this.#close();
    await rename(`${this.#path}.new`, this.#path);
  }

  /** After `finish` it does nothing. */
  async abandon(): Promise<void> {
    await this.#close();
    await rm(`${this.#path}.new`, { force: true });
  }

  async #close(): Promise<void> {
    await this.#file?.close();
    this.#file = undefined;
  }
}

function folderSource(directory: string): FolderSource {
  const place = valueOrThrow(placeOf({ path: directory }));
  if (place.kind === "folder") return new FolderSource(place);
  throw new RefusalError(refuse("MalformedSource", `${directory} is no folder`));
}

/** Every file of the model and its size. A weights file that the index names and nobody has is refused as MissingFile. */
async function sizesOf(folder: FolderSource, directory: string): Promise<ReadonlyMap<string, number>> {
  const sizes = new Map<string, number>([["config.json", await folder.sizeOf("config.json")]]);
  const addIfThere = async (path: string): Promise<boolean> => {
    const size = await refusalsOf(() => folder.sizeOf(path));
    if (!size.ok && size.code !== "MissingFile") throw new RefusalError(size);
    if (size.ok) sizes.set(path, size.value);
    return size.ok;
  };
  for (const path of OPTIONAL_FILES) await addIfThere(path);
  if (await addIfThere(SINGLE_FILE)) return sizes;
  if (!(await addIfThere(INDEX_FILE))) {
    for (const path of await ggufFilesIn(directory)) sizes.set(path, await folder.sizeOf(path));
    return sizes;
  }
  const index = parseIndex(folder.where(INDEX_FILE), await folder.readSmall(INDEX_FILE, SMALL_FILE_BYTES_MAX));
  for (const path of new Set(index.values())) sizes.set(path, await folder.sizeOf(path));
  return sizes;
}

async function hashed(
  folder: FolderSource,
  path: string,
  sizeBytes: number,
  meter: ProgressMeter,
  leaves: LeavesFile | undefined,
): Promise<ManifestFile> {
  const hasher = new ChunkHasher();
  for await (const piece of folder.stream(path, { start: 0, end: sizeBytes }, sizeBytes)) {
    hasher.update(piece);
    await leaves?.write(hasher.takeLeaves());
    meter.advance(piece.length);
  }
  const file = hasher.finish(path);
  await leaves?.write(hasher.takeLeaves());
  return file;
}

/** A tokenizer that can say a token which the model does not have belongs to another model. */
async function checkTokenizer(folder: FolderSource, vocabularySize: number): Promise<void> {
  const where = folder.where("tokenizer.json");
  const found = await refusalsOf(() => folder.readSmall("tokenizer.json", SMALL_FILE_BYTES_MAX));
  if (!found.ok && found.code === "MissingFile")
    throw new RefusalError(
      refuse(
        "MissingTokenizer",
        `${where}: not there, so no text can be served; copy it from the model's source, or convert the tokenizer it has`,
      ),
    );
  if (!found.ok) throw new RefusalError(found);
  const tokens = tokensOf(parseJson(new TextDecoder().decode(found.value)), vocabularySize);
  if (tokens === undefined)
    throw new RefusalError(
      refuse("MalformedTokenizer", `${where}: has no model.vocab; fetch it again from the model's source`),
    );
  for (const [token, id] of tokens)
    if (typeof id !== "number" || !(id < vocabularySize))
      throw new RefusalError(
        refuse(
          "WrongVocabulary",
          `${where}: token ${shown(token)} has the id ${shown(id)}, but vocab_size in config.json is ${vocabularySize}; take the tokenizer of this model`,
        ),
      );
}

/** Tokens and ids of a tokenizer.json: a map for BPE and WordPiece, a list of [token, score] for Unigram. */
function tokensOf(json: unknown, vocabularySize: number): readonly (readonly [unknown, unknown])[] | undefined {
  const model = isJsonObject(json) ? json["model"] : undefined;
  const vocabulary = isJsonObject(model) ? model["vocab"] : undefined;
  const added = isJsonObject(json) && Array.isArray(json["added_tokens"]) ? json["added_tokens"] : [];
  const extra = added
    .filter(isJsonObject)
    .filter((token) => !isRowless(token, vocabularySize))
    .map((token) => [token["content"], token["id"]] as const);
  if (isJsonObject(vocabulary)) return [...Object.entries(vocabulary), ...extra];
  if (Array.isArray(vocabulary))
    return [
      ...vocabulary.map((entry: unknown, id) => [Array.isArray(entry) ? entry[0] : entry, id] as const),
      ...extra,
    ];
  return undefined;
}
