/** Which files of a folder are a model in GGUF. */
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { refusal } from "../formats/encoding.ts";

/** Set by the tools that cut a file: name-00001-of-00003.gguf. */
const PART = /^(.+)-(\d{5})-of-(\d{5})\.gguf$/;

/**
 * The one GGUF file of `directory`, or all parts of the one that was cut, in order; none where there is no GGUF. Refused
 * (RefusalError): SeveralGgufFiles, MissingFile where a part is.
 */
export async function ggufFilesIn(directory: string): Promise<readonly string[]> {
  const names = (await readdir(directory).catch(() => []))
    .filter((name) => /^[A-Za-z0-9][\w.-]*\.gguf$/.test(name) && !name.startsWith("mmproj"))
    .sort();
  const [first] = names;
  if (first === undefined) return [];
  const [, stem, , count] = PART.exec(first) ?? [];
  const expected =
    stem === undefined
      ? [first]
      : Array.from({ length: Number(count) }, (_, at) => `${stem}-${String(at + 1).padStart(5, "0")}-of-${count}.gguf`);
  const other = names.find((name) => !expected.includes(name));
  if (other !== undefined)
    throw refusal(
      "SeveralGgufFiles",
      `${directory} has ${first} and ${other}; keep one model to a folder, in one quantisation`,
    );
  const missing = expected.find((name) => !names.includes(name));
  if (missing !== undefined)
    throw refusal("MissingFile", `${join(directory, missing)}: no such file; fetch all ${count} parts`);
  return expected;
}
