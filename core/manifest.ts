/**
 * The model manifest: which bytes a model is. Every file that serving reads is listed with the hash of each 1 MiB chunk,
 * so that a rank can check any byte range by itself, without the rest of the file. The root names the whole model:
 *
 *   chunk leaf = SHA-256(0x00 || chunk)                                       (RFC 6962; the list is in the manifest)
 *   file root  = RFC 6962 over the file's chunk leaves
 *   file leaf  = SHA-256(0x00 || path || 0x00 || size in decimal || 0x00 || file root)
 *   model root = RFC 6962 over the file leaves, sorted by path
 *
 * The text of config.json is carried along (and checked against its own chunks), so that a planner needs nothing else.
 */
import { base64Of, parseBase64 } from "./base64.ts";
import { digestText } from "./digest.ts";
import { type JsonObject, isJsonObject, parseJson, shown } from "./json.ts";
import { merkleLeaf, merkleRoot } from "./merkle.ts";
import type { Range } from "./ranges.ts";
import { type Result, ok, refuse } from "./result.ts";

export const MANIFEST_FILE = "tessellate-manifest.json";
export const CHUNK_BYTES = 1 << 20;
/** Room for the chunk list of a model of about a tebibyte. */
export const MANIFEST_BYTES_MAX = 64 << 20;

const KIND = "tessellate/manifest/v1";
const FILE_COUNT_MAX = 10_000;
const HASH_BYTES = 32;

export type ManifestFile = {
  readonly path: string; // relative, `/` between folders, printable ASCII
  readonly sizeBytes: number;
  readonly chunks: Uint8Array; // 32 bytes per chunk, in order; ceil(sizeBytes / CHUNK_BYTES) of them
};

export type Manifest = {
  readonly root: string; // sha256:…, computed here, never taken on trust
  readonly files: readonly ManifestFile[]; // sorted by path
  readonly configText: string; // config.json, checked against its chunks
};

export type ManifestCode = "MalformedManifest" | "WrongRoot";

export const chunkCountOf = (sizeBytes: number): number => Math.ceil(sizeBytes / CHUNK_BYTES);

/** The bytes of chunk `index` within its file. */
export const chunkRange = (file: ManifestFile, index: number): Range => ({
  start: index * CHUNK_BYTES,
  end: Math.min((index + 1) * CHUNK_BYTES, file.sizeBytes),
});

/** Whether `bytes` are chunk `index` of `file`. */
export function isChunk(file: ManifestFile, index: number, bytes: Uint8Array): boolean {
  const { start, end } = chunkRange(file, index);
  return bytes.length === end - start && Buffer.compare(merkleLeaf(bytes), chunkLeaf(file, index)) === 0;
}

export const fileOf = (manifest: Manifest, path: string): ManifestFile | undefined =>
  manifest.files.find((file) => file.path === path);

/** `sha256:…` over what the files are; the order they come in does not matter. */
export function modelRoot(files: readonly ManifestFile[]): string {
  const encoder = new TextEncoder();
  const leaves = sortedByPath(files).map((file) => {
    const chunks = Array.from({ length: chunkCountOf(file.sizeBytes) }, (_, index) => chunkLeaf(file, index));
    return merkleLeaf(encoder.encode(`${file.path}\0${file.sizeBytes}\0`), merkleRoot(chunks));
  });
  return digestText(merkleRoot(leaves));
}

/** The manifest of these files. Whoever hashed them (`tessellate pack`) is the one who vouches for them. */
export const manifestOf = (files: readonly ManifestFile[], configText: string): Manifest => ({
  root: modelRoot(files),
  files: sortedByPath(files),
  configText,
});

/** The text that is written to {@link MANIFEST_FILE}: the same for the same files, byte for byte. */
export function formatManifest(manifest: Manifest): string {
  const files = manifest.files.map((file) => ({
    path: file.path,
    sizeBytes: file.sizeBytes,
    chunks: base64Of(file.chunks),
  }));
  const document = { kind: KIND, root: manifest.root, chunkBytes: CHUNK_BYTES, config: manifest.configText, files };
  return `${JSON.stringify(document, undefined, 1)}\n`;
}

/**
 * Reads a manifest from anywhere. `expectedRoot` (sha256:…), where given, is the only root accepted (`WrongRoot`); all
 * other refusals are `MalformedManifest` and name the field.
 */
export function parseManifest(text: string, expectedRoot?: string): Result<Manifest, ManifestCode> {
  const malformed = (detail: string) =>
    refuse("MalformedManifest", `${MANIFEST_FILE}: ${detail}; make it anew with "tessellate pack DIR"`);
  if (text.length > MANIFEST_BYTES_MAX) return malformed(`longer than ${MANIFEST_BYTES_MAX} characters`);
  const json = parseJson(text);
  if (!isJsonObject(json)) return malformed("no JSON object");
  if (json["kind"] !== KIND) return malformed(`kind is ${shown(json["kind"])}, expected ${shown(KIND)}`);
  if (json["chunkBytes"] !== CHUNK_BYTES)
    return malformed(`chunkBytes is ${shown(json["chunkBytes"])}, expected ${CHUNK_BYTES}`);
  const configText = json["config"];
  if (typeof configText !== "string") return malformed("config is no text");
  const files = parseFiles(json["files"]);
  if (typeof files === "string") return malformed(files);

  const manifest: Manifest = { root: modelRoot(files), files, configText };
  if (json["root"] !== manifest.root)
    return malformed(`root is ${shown(json["root"])}, but the files listed have ${manifest.root}`);
  const unlike = configUnlikeFile(manifest);
  if (unlike !== undefined) return malformed(unlike);
  if (expectedRoot !== undefined && expectedRoot !== manifest.root)
    return refuse(
      "WrongRoot",
      `${MANIFEST_FILE}: this model is ${manifest.root}, but ${expectedRoot} was asked for; ` +
        "point the source at that revision, or change the digest if the model was replaced on purpose",
    );
  return ok(manifest);
}

/** The files, or what is wrong with them. */
function parseFiles(value: unknown): readonly ManifestFile[] | string {
  if (!Array.isArray(value) || value.length === 0 || value.length > FILE_COUNT_MAX)
    return `files is ${shown(value)}, expected a list of 1 to ${FILE_COUNT_MAX}`;
  const files: ManifestFile[] = [];
  for (const [index, entry] of value.entries()) {
    if (!isJsonObject(entry)) return `files[${index}] is ${shown(entry)}, expected an object`;
    const file = parseFile(entry);
    if (typeof file === "string") return `files[${index}].${file}`;
    const before = files.at(-1);
    if (before !== undefined && before.path >= file.path)
      return `files[${index}].path ${shown(file.path)} does not come after ${shown(before.path)}`;
    files.push(file);
  }
  return files;
}

function parseFile(entry: JsonObject): ManifestFile | string {
  const { path, sizeBytes, chunks } = entry;
  if (typeof path !== "string" || !isSafePath(path)) return `path is ${shown(path)}, expected a relative path`;
  if (typeof sizeBytes !== "number" || !Number.isSafeInteger(sizeBytes) || sizeBytes < 0)
    return `sizeBytes is ${shown(sizeBytes)}, expected a whole number (${path})`;
  const hashes = typeof chunks === "string" ? parseBase64(chunks) : undefined;
  if (hashes?.ok !== true) return `chunks is ${shown(chunks)}, expected base64 (${path})`;
  if (hashes.value.length !== chunkCountOf(sizeBytes) * HASH_BYTES)
    return `chunks holds ${hashes.value.length / HASH_BYTES} hashes, ${sizeBytes} bytes need ${chunkCountOf(sizeBytes)} (${path})`;
  return { path, sizeBytes, chunks: hashes.value };
}

/** Attacker: a path that climbs out of the model's folder, or that a file system and a URL read differently. */
export const isSafePath = (path: string): boolean =>
  /^[ -~]{1,500}$/.test(path) &&
  path.split("/").every((part) => part !== "" && part !== "." && part !== ".." && !/[\\:]/.test(part));

function configUnlikeFile(manifest: Manifest): string | undefined {
  const file = fileOf(manifest, "config.json");
  if (file === undefined) return "files lacks config.json";
  const bytes = new TextEncoder().encode(manifest.configText);
  for (let index = 0; index < chunkCountOf(file.sizeBytes); index += 1) {
    const { start, end } = chunkRange(file, index);
    if (!isChunk(file, index, bytes.subarray(start, end))) return "config is not the config.json that files lists";
  }
  return bytes.length === file.sizeBytes ? undefined : "config is longer than the config.json that files lists";
}

const chunkLeaf = (file: ManifestFile, index: number): Uint8Array =>
  file.chunks.subarray(index * HASH_BYTES, (index + 1) * HASH_BYTES);

/** Paths are ASCII, so the order of code units is the order of bytes. */
const sortedByPath = (files: readonly ManifestFile[]): readonly ManifestFile[] =>
  files.toSorted((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
