/** Where the tensors of a model in GGUF files lie: one file, or several numbered ones that each have a header. */
import { type Manifest, type ManifestFile, fileOf } from "../../../core/manifest.ts";
import { valueOrThrow } from "../../../core/result.ts";
import { refusal } from "../formats/encoding.ts";
import type { TensorEntry } from "../safetensors.ts";
import { INDEX_FILE, SINGLE_FILE } from "../safetensors-index.ts";
import type { TensorIndex } from "../tensor-index.ts";
import type { VerifiedReader } from "../verified-reader.ts";
import { FACTOR_TENSORS } from "./gguf-config.ts";
import { GGUF_HEADER_BYTES_MAX, type GgufHeader, parseGgufHeader } from "./header.ts";

/** Bytes of a header that are read first; each further read is as long as all before. */
const FIRST_BYTES = 1 << 20;

/** The GGUF files of a model that has no safetensors. */
export const ggufFilesOf = (manifest: Manifest): readonly ManifestFile[] =>
  [SINGLE_FILE, INDEX_FILE].some((path) => fileOf(manifest, path) !== undefined)
    ? []
    : manifest.files.filter(({ path }) => path.endsWith(".gguf"));

export class GgufIndex implements TensorIndex {
  readonly #reader: Pick<VerifiedReader, "where">;
  readonly #tensors: ReadonlyMap<string, TensorEntry>;
  readonly architecture: string;

  private constructor(reader: Pick<VerifiedReader, "where">, headers: readonly GgufHeader[], architecture: string) {
    this.#reader = reader;
    this.architecture = architecture;
    this.#tensors = new Map(headers.flatMap(({ tensors }) => [...tensors]));
  }

  /** Refused (RefusalError): MalformedTensors; UnknownModelType where no file says of what architecture it is. */
  static async open(reader: VerifiedReader, files: readonly ManifestFile[]): Promise<GgufIndex> {
    const headers: GgufHeader[] = [];
    for (const { path, sizeBytes } of files)
      headers.push(await readGgufHeader(reader.where(path), path, sizeBytes, (range) => reader.read(path, range)));
    const architecture = headers.map(({ metadata }) => metadata.get("general.architecture")).find(isText);
    if (architecture === undefined)
      throw refusal(
        "UnknownModelType",
        `${reader.where(files[0]?.path ?? "")}: general.architecture is not there, so its tensors cannot be told; convert the model again`,
      );
    return new GgufIndex(reader, headers, architecture);
  }

  /** Refuses a file with a tensor that is at none of the places: whoever wrote it meant it to count. */
  assertAllAt(places: readonly { readonly stored: string }[]): void {
    const known = new Set(["output.weight", ...FACTOR_TENSORS, ...places.map(({ stored }) => stored)]);
    const strange = this.#tensors.values().find(({ name }) => !known.has(name) && !name.includes(".attn_rot_embd"));
    if (strange === undefined) return;
    throw refusal(
      "UnsupportedOption",
      `${this.where(strange)} is none that config.json implies, so answers would differ; take the model's own config.json, or convert it again`,
    );
  }

  mayHold(name: string): boolean {
    return this.#tensors.has(name);
  }

  find(name: string): Promise<TensorEntry | undefined> {
    return Promise.resolve(this.#tensors.get(name));
  }

  where({ path, name }: TensorEntry): string {
    return `${this.#reader.where(path)}: tensor ${name}`;
  }

  missing(name: string): string {
    const [first] = this.#tensors.values();
    return `${this.#reader.where(first?.path ?? "model.gguf")}: tensor ${name} is not there; fetch or convert the model again, all files of it`;
  }
}

const isText = (value: unknown): value is string => typeof value === "string";

/** Reads as much of a file as its header takes. Throws RefusalError `MalformedTensors`. */
export async function readGgufHeader(
  where: string,
  path: string,
  fileBytes: number,
  read: (range: { readonly start: number; readonly end: number }) => Promise<Uint8Array>,
): Promise<GgufHeader> {
  let bytes = new Uint8Array();
  for (let wanted = FIRST_BYTES; ; wanted *= 2) {
    const more = await read({ start: bytes.length, end: Math.min(wanted, fileBytes) });
    bytes = new Uint8Array(Buffer.concat([bytes, more]));
    const header = valueOrThrow(parseGgufHeader(where, path, bytes, fileBytes));
    if (header !== "short") return header;
    if (wanted >= GGUF_HEADER_BYTES_MAX)
      throw refusal(
        "MalformedTensors",
        `${where}: the header is longer than ${GGUF_HEADER_BYTES_MAX} bytes; convert the model again`,
      );
  }
}
