/**
 * A folder that holds nothing but a GGUF file, made one that everybody else can read: its metadata as config.json,
 * tokenizer.json and tokenizer_config.json beside it. What is already there is left as it is.
 */
import { access, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { JsonObject } from "../../../core/json.ts";
import { RefusalError, valueOrThrow } from "../../../core/result.ts";
import type { FolderSource } from "../folder-source.ts";
import { floatsOf } from "../formats/grouped-integers.ts";
import type { TensorEntry } from "../safetensors.ts";
import { isRoundedAgain } from "./block-types.ts";
import { FACTOR_TENSORS, ggufConfig } from "./gguf-config.ts";
import { ggufFilesIn } from "./gguf-files.ts";
import { readGgufHeader } from "./gguf-index.ts";
import { ggufTokenizer } from "./gguf-tokenizer.ts";
import type { GgufHeader } from "./header.ts";

export type GgufDescription = {
  readonly written: readonly string[]; // files that were not there before
  readonly notes: readonly string[]; // for whoever packs
};

/**
 * Writes what is missing beside the GGUF files of `directory`; nothing where it has none. Throws RefusalError:
 * MalformedTensors, UnknownModelType, UnsupportedOption, SeveralGgufFiles, MissingFile; MissingTokenizer where one is
 * required and the metadata does not do.
 */
export async function describeGguf(
  directory: string,
  folder: FolderSource,
  options: { readonly tokenizer: "required" | "optional" },
): Promise<GgufDescription> {
  const files = await ggufFilesIn(directory);
  const [first] = files;
  if (first === undefined || (await isThere(directory, "model.safetensors"))) return { written: [], notes: [] };
  const headers: GgufHeader[] = [];
  const read = async (path: string, range: { readonly start: number; readonly end: number }): Promise<Uint8Array> => {
    const pieces: Uint8Array[] = [];
    for await (const piece of folder.stream(path, range, await folder.sizeOf(path))) pieces.push(piece.slice());
    return new Uint8Array(Buffer.concat(pieces));
  };
  for (const path of files)
    headers.push(
      await readGgufHeader(folder.where(path), path, await folder.sizeOf(path), (range) => read(path, range)),
    );
  const metadata = new Map(headers.toReversed().flatMap((header) => [...header.metadata]));
  const tensors = new Map(headers.flatMap((header) => [...header.tensors]));
  const factors = new Map<string, Float32Array>();
  for (const name of FACTOR_TENSORS) {
    const entry = tensors.get(name);
    if (entry !== undefined) factors.set(name, floatsOf(entry, await read(entry.path, entry.bytes)));
  }
  const where = folder.where(first);
  const written: string[] = [];
  const notes = [...roundedNotes(tensors)];
  const put = async (path: string, json: JsonObject): Promise<void> => {
    await writeFile(join(directory, path), `${JSON.stringify(json, undefined, 1)}\n`, { flag: "wx" });
    written.push(path);
  };
  if (!(await isThere(directory, "config.json")))
    await put("config.json", valueOrThrow(ggufConfig({ where, metadata, tensors, factors })));
  if (!(await isThere(directory, "tokenizer.json"))) {
    const made = ggufTokenizer(where, metadata);
    if (!made.ok) {
      if (options.tokenizer === "required") throw new RefusalError(made);
      notes.push(made.detail);
    } else {
      await put("tokenizer.json", made.value.tokenizer);
      if (!(await isThere(directory, "tokenizer_config.json")))
        await put("tokenizer_config.json", made.value.tokenizerConfig);
    }
  }
  return { written, notes };
}

function* roundedNotes(tensors: ReadonlyMap<string, TensorEntry>): Iterable<string> {
  const types = [...new Set(tensors.values().map(({ dtype }) => dtype))].filter(isRoundedAgain).sort();
  if (types.length > 0)
    yield `tensors of ${types.join(", ")} are read exactly, but held as int4 or int8 they are rounded once more`;
}

const isThere = (directory: string, path: string): Promise<boolean> =>
  access(join(directory, path)).then(
    () => true,
    () => false,
  );
