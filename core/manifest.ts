/**
 * The model manifest: which bytes a model is. Every file that serving reads is listed with the hash of each 1 MiB chunk,
 * so that a rank can check any byte range by itself, without the rest of the file. The root names the whole model:
 *
 *   leaf       = SHA-256(0x00 || 16 KiB of the file, or the rest of it)       (RFC 6962)
 *   chunk      = RFC 6962 over its 64 leaves                                  (the list is in the manifest)
 *   file root  = RFC 6962 over all leaves of the file, which is the same over its chunks
 *   file leaf  = SHA-256(0x00 || path || 0x00 || size in decimal || 0x00 || file root)
 *   model root = RFC 6962 over the file leaves, sorted by path
 *
 * Why two sizes: a slice of a tensor begins and ends within chunks, and whole chunks at its edges would be a tenth of what
 * a rank reads; leaves alone would make the manifest of 100 GB a file of 270 MB. So leaves lie in a file of their own,
 * {@link LEAVES_FILE}, of which a rank reads the few that it needs; a chunk's leaves are checked by the chunk's hash, so
 * nobody has to vouch for that file, and where it is missing whole chunks are read.
 *
 * The text of config.json is carried along (and checked against its own chunks), so that a planner needs nothing else.
 */
import { base64Of, parseBase64 } from "./base64.ts";
import { digestText } from "./digest.ts";
import { type HeldBytes, parseHeld } from "./held-bytes.ts";
import { type JsonObject, isJsonObject, parseJson, shown } from "./json.ts";
import { merkleLeaf, merkleRoot } from "./merkle.ts";
import { type QuantizationCost, parseCosts } from "./quantization-cost.ts";
import type { Range } from "./ranges.ts";
import { type Result, ok, refuse } from "./result.ts";

export const MANIFEST_FILE = "tessellate-manifest.json";
export const CHUNK_BYTES = 1 << 20;
export const LEAF_BYTES = 16 << 10;
export const LEAVES_PER_CHUNK = CHUNK_BYTES / LEAF_BYTES;
/** The hashes of all leaves, 32 bytes each: the model's own files by path, then the added ones. Not listed, not needed. */
export const LEAVES_FILE = "tessellate-leaves.bin";
const COLUMNS_PREFIX = "tessellate-columns.";

/**
 * Where the matrices of a weights file that ranks cut by columns lie once more, rows for columns, in safetensors form and
 * under the same names. Not called .safetensors: other programs load every file that is.
 */
export const columnsPathOf = (path: string): string => `${COLUMNS_PREFIX}${path.replace(/\.safetensors$/, "")}.bin`;

/** Whether `tessellate pack` made the file, rather than found it. */
export const isAddedFile = (path: string): boolean => path === LEAVES_FILE || path.startsWith(COLUMNS_PREFIX);
/** Room for the chunk list of a model of about a tebibyte. */
export const MANIFEST_BYTES_MAX = 64 << 20;

const KIND = "tessellate/manifest/v2";
const FILE_COUNT_MAX = 10_000;
export const HASH_BYTES = 32;

export type ManifestFile = {
  readonly path: string; // relative, `/` between folders, printable ASCII
  readonly sizeBytes: number;
  readonly chunks: Uint8Array; // 32 bytes per chunk, in order; ceil(sizeBytes / CHUNK_BYTES) of them
};

export type Manifest = {
  readonly root: string; // sha256:…, computed here, never taken on trust
  readonly files: readonly ManifestFile[]; // sorted by path
  readonly configText: string; // config.json, checked against its chunks
  readonly costs?: readonly QuantizationCost[]; // measured by whoever packed it; no part of the root
  readonly held?: readonly HeldBytes[]; // likewise; absent where all matrices are packed anew
};

export type ManifestCode = "MalformedManifest" | "WrongRoot";

export const chunkCountOf = (sizeBytes: number): number => Math.ceil(sizeBytes / CHUNK_BYTES);

export const leafCountOf = (sizeBytes: number): number => Math.ceil(sizeBytes / LEAF_BYTES);

/** The bytes of chunk `index` within its file. */
export const chunkRange = (file: ManifestFile, index: number): Range => ({
  start: index * CHUNK_BYTES,
  end: Math.min((index + 1) * CHUNK_BYTES, file.sizeBytes),
});

/** The hashes of the leaves of `bytes`, which start where a leaf does; 32 bytes each. */
export const leafHashes = (bytes: Uint8Array): readonly Uint8Array[] =>
  Array.from({ length: leafCountOf(bytes.length) }, (_, index) =>
    merkleLeaf(bytes.subarray(index * LEAF_BYTES, (index + 1) * LEAF_BYTES)),
  );

/** What the manifest lists for a chunk of these bytes, 32 bytes; at most {@link CHUNK_BYTES} go in. */
export const chunkHash = (bytes: Uint8Array): Uint8Array => merkleRoot(leafHashes(bytes));

/** Whether `bytes` are chunk `index` of `file`. */
export function isChunk(file: ManifestFile, index: number, bytes: Uint8Array): boolean {
  const { start, end } = chunkRange(file, index);
  return bytes.length === end - start && Buffer.compare(chunkHash(bytes), listedHash(file, index)) === 0;
}

/** Whether `hashes`, 32 bytes each, are those of all the leaves of chunk `index`. */
export function areLeaves(file: ManifestFile, index: number, hashes: Uint8Array): boolean {
  const { start, end } = chunkRange(file, index);
  if (hashes.length !== leafCountOf(end - start) * HASH_BYTES) return false;
  return Buffer.compare(merkleRoot(split(hashes)), listedHash(file, index)) === 0;
}

/** Whether `bytes` are leaf `index` of a chunk whose leaves have these `hashes`. */
export const isLeaf = (hashes: Uint8Array, index: number, bytes: Uint8Array): boolean =>
  Buffer.compare(merkleLeaf(bytes), hashes.subarray(index * HASH_BYTES, (index + 1) * HASH_BYTES)) === 0;

/** Where the hashes of all leaves of `chunks` of a file lie in {@link LEAVES_FILE}. */
export function leafHashesRange(manifest: Manifest, path: string, chunks: Range): Range {
  let before = 0;
  const own = manifest.files.filter((file) => !isAddedFile(file.path));
  for (const file of [...own, ...manifest.files.filter((added) => isAddedFile(added.path))]) {
    const leafCount = leafCountOf(file.sizeBytes);
    if (file.path === path)
      return {
        start: (before + chunks.start * LEAVES_PER_CHUNK) * HASH_BYTES,
        end: (before + Math.min(chunks.end * LEAVES_PER_CHUNK, leafCount)) * HASH_BYTES,
      };
    before += leafCount;
  }
  return { start: 0, end: 0 };
}

/** What {@link LEAVES_FILE} measures. */
export const leavesFileBytes = (manifest: Pick<Manifest, "files">): number =>
  manifest.files.reduce((total, { sizeBytes }) => total + leafCountOf(sizeBytes) * HASH_BYTES, 0);

const split = (hashes: Uint8Array): readonly Uint8Array[] =>
  Array.from({ length: hashes.length / HASH_BYTES }, (_, index) =>
    hashes.subarray(index * HASH_BYTES, (index + 1) * HASH_BYTES),
  );

export const fileOf = (manifest: Manifest, path: string): ManifestFile | undefined =>
  manifest.files.find((file) => file.path === path);

/** `sha256:…` over what the files are; the order they come in does not matter. */
export function modelRoot(files: readonly ManifestFile[]): string {
  const encoder = new TextEncoder();
  const leaves = sortedByPath(files).map((file) => {
    const chunks = Array.from({ length: chunkCountOf(file.sizeBytes) }, (_, index) => listedHash(file, index));
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
  const document = {
    kind: KIND,
    root: manifest.root,
    chunkBytes: CHUNK_BYTES,
    leafBytes: LEAF_BYTES,
    config: manifest.configText,
    ...(manifest.costs === undefined ? {} : { costs: manifest.costs }),
    ...(manifest.held === undefined ? {} : { held: manifest.held }),
    files,
  };
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
  for (const [field, bytes] of [
    ["chunkBytes", CHUNK_BYTES],
    ["leafBytes", LEAF_BYTES],
  ] as const)
    if (json[field] !== bytes) return malformed(`${field} is ${shown(json[field])}, expected ${bytes}`);
  const configText = json["config"];
  if (typeof configText !== "string") return malformed("config is no text");
  const files = parseFiles(json["files"]);
  if (typeof files === "string") return malformed(files);

  const costs = parseCosts(json["costs"]);
  if (typeof costs === "string") return malformed(costs);

  const held = parseHeld(json["held"]);
  if (typeof held === "string") return malformed(held);

  const manifest: Manifest = {
    root: modelRoot(files),
    files,
    configText,
    ...(costs.length > 0 ? { costs } : {}),
    ...(held.length > 0 ? { held } : {}),
  };
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

/** The hash that the manifest lists for a chunk, 32 bytes. */
export const listedHash = (file: ManifestFile, index: number): Uint8Array =>
  file.chunks.subarray(index * HASH_BYTES, (index + 1) * HASH_BYTES);

/** Paths are ASCII, so the order of code units is the order of bytes. */
const sortedByPath = (files: readonly ManifestFile[]): readonly ManifestFile[] =>
  files.toSorted((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
