/**
 * `tessellate pack`: hashes a checkpoint once and checks that it can be served, so that what is wrong with it is told to
 * the one who has it in hand and not to a hundred ranks.
 */
import { rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../../core/clock.ts";
import { isJsonObject, parseJson, shown } from "../../core/json.ts";
import {
  CHUNK_BYTES,
  MANIFEST_FILE,
  type Manifest,
  type ManifestFile,
  formatManifest,
  manifestOf,
} from "../../core/manifest.ts";
import { merkleLeaf } from "../../core/merkle.ts";
import { parseModelConfig } from "../../core/model-config.ts";
import { RefusalError, type Result, refuse, valueOrThrow } from "../../core/result.ts";
import { placeOf } from "../../core/source.ts";
import { INDEX_FILE, SINGLE_FILE, parseIndex } from "./checkpoint.ts";
import { FolderSource } from "./folder-source.ts";
import { type OpenModel, openWith, refusalsOf } from "./open-model.ts";
import { type Progress, ProgressMeter } from "./progress.ts";

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

/** A bare checkpoint folder as an open model, its manifest made in memory; a tokenizer is not needed. */
export function openUnpacked(directory: string, options: PackOptions): Promise<Result<OpenModel>> {
  return refusalsOf(() => packed(directory, { tokenizer: "optional", ...options }));
}

async function packed(directory: string, options: PackOptions): Promise<OpenModel> {
  const folder = folderSource(directory);
  const configText = new TextDecoder().decode(await folder.readSmall("config.json", SMALL_FILE_BYTES_MAX));
  const config = valueOrThrow(parseModelConfig(configText));
  if (options.tokenizer !== "optional") await checkTokenizer(folder, config.vocabularySize);

  const sizes = await sizesOf(folder);
  const total = sizes.values().reduce((a, b) => a + b, 0);
  const meter = new ProgressMeter(options.clock, total, options.onProgress);
  const files: ManifestFile[] = [];
  for (const [path, sizeBytes] of sizes) files.push(await hashed(folder, path, sizeBytes, meter));
  const model = await openWith(folder, manifestOf(files, configText), { clock: options.clock });
  await model.tensors.checkAll();
  return model;
}

function folderSource(directory: string): FolderSource {
  const place = valueOrThrow(placeOf({ path: directory }));
  if (place.kind === "folder") return new FolderSource(place);
  throw new RefusalError(refuse("MalformedSource", `${directory} is no folder`));
}

/** Every file of the model and its size. A weights file that the index names and nobody has is refused as MissingFile. */
async function sizesOf(folder: FolderSource): Promise<ReadonlyMap<string, number>> {
  const sizes = new Map<string, number>([["config.json", await folder.sizeOf("config.json")]]);
  const addIfThere = async (path: string): Promise<boolean> => {
    const size = await refusalsOf(() => folder.sizeOf(path));
    if (!size.ok && size.code !== "MissingFile") throw new RefusalError(size);
    if (size.ok) sizes.set(path, size.value);
    return size.ok;
  };
  for (const path of OPTIONAL_FILES) await addIfThere(path);
  if ((await addIfThere(SINGLE_FILE)) || !(await addIfThere(INDEX_FILE))) return sizes;
  const index = parseIndex(folder.where(INDEX_FILE), await folder.readSmall(INDEX_FILE, SMALL_FILE_BYTES_MAX));
  for (const path of new Set(index.values())) sizes.set(path, await folder.sizeOf(path));
  return sizes;
}

async function hashed(
  folder: FolderSource,
  path: string,
  sizeBytes: number,
  meter: ProgressMeter,
): Promise<ManifestFile> {
  const leaves: Uint8Array[] = [];
  const chunk = new Uint8Array(CHUNK_BYTES);
  let filled = 0;
  for await (const piece of folder.stream(path, { start: 0, end: sizeBytes }, sizeBytes)) {
    for (let taken = 0; taken < piece.length; ) {
      const part = piece.subarray(taken, taken + CHUNK_BYTES - filled);
      chunk.set(part, filled);
      filled += part.length;
      taken += part.length;
      if (filled < CHUNK_BYTES) continue;
      leaves.push(merkleLeaf(chunk));
      filled = 0;
    }
    meter.advance(piece.length);
  }
  if (filled > 0) leaves.push(merkleLeaf(chunk.subarray(0, filled)));
  return { path, sizeBytes, chunks: new Uint8Array(Buffer.concat(leaves)) };
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
  const tokens = tokensOf(parseJson(new TextDecoder().decode(found.value)));
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
function tokensOf(json: unknown): readonly (readonly [unknown, unknown])[] | undefined {
  const model = isJsonObject(json) ? json["model"] : undefined;
  const vocabulary = isJsonObject(model) ? model["vocab"] : undefined;
  const added = isJsonObject(json) && Array.isArray(json["added_tokens"]) ? json["added_tokens"] : [];
  const extra = added.filter(isJsonObject).map((token) => [token["content"], token["id"]] as const);
  if (isJsonObject(vocabulary)) return [...Object.entries(vocabulary), ...extra];
  if (Array.isArray(vocabulary))
    return [
      ...vocabulary.map((entry: unknown, id) => [Array.isArray(entry) ? entry[0] : entry, id] as const),
      ...extra,
    ];
  return undefined;
}
