/** Public keys that a person knows from elsewhere, from a file: what `kubectl get providers -o yaml` prints, or a plain list. */
import { readFileSync } from "node:fs";
import { parseAllDocuments } from "yaml";
import { isJsonObject, shown } from "../core/json.ts";
import { parsePublicKey } from "../core/keys.ts";
import { type Result, ok, refuse } from "../core/result.ts";

/**
 * provider/<name> and gateway/<name> → SPKI DER in base64. The file is YAML or JSON: Provider objects (several documents
 * or a List), or an object of names and keys, in which a name without a kind is a provider's.
 */
export function readKeyList(
  file: string,
): Result<Readonly<Record<string, string>>, "UnreadableFile" | "MalformedKeys"> {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    return refuse("UnreadableFile", `cannot read ${file}: ${error instanceof Error ? error.message : String(error)}`);
  }
  const documents = parseAllDocuments(text);
  const [broken] = documents.flatMap((document) => document.errors);
  if (broken !== undefined) return refuse("MalformedKeys", `${file}: ${broken.message}`);
  const keys: Record<string, string> = {};
  for (const value of documents.flatMap((document): readonly unknown[] => itemsOf(document.toJS()))) {
    const found = entriesOf(value);
    if (found === undefined)
      return refuse("MalformedKeys", `${file}: ${shown(value)} is neither a Provider nor an object of names and keys`);
    for (const [holder, spki] of found) {
      if (typeof spki !== "string") return refuse("MalformedKeys", `${file}: ${holder} has no public key`);
      const key = parsePublicKey(spki, holder);
      if (!key.ok) return refuse("MalformedKeys", `${file}: ${key.detail}`);
      keys[holder] = spki;
    }
  }
  return Object.keys(keys).length > 0 ? ok(keys) : refuse("MalformedKeys", `${file} holds no keys`);
}

const itemsOf = (value: unknown): readonly unknown[] => {
  if (value === null || value === undefined) return [];
  return isJsonObject(value) && Array.isArray(value["items"]) ? value["items"] : [value];
};

function entriesOf(value: unknown): readonly (readonly [holder: string, spki: unknown])[] | undefined {
  if (!isJsonObject(value)) return undefined;
  if (value["kind"] === undefined)
    return Object.entries(value).map(([name, spki]) => [
      /^(provider|gateway)\//.test(name) ? name : `provider/${name}`,
      spki,
    ]);
  const { kind, metadata, spec } = value;
  // The files that people have hold nodes beside providers; those say nothing about keys.
  if (kind !== "Provider") return [];
  const name = isJsonObject(metadata) ? metadata["name"] : undefined;
  const spki = isJsonObject(spec) ? spec["publicKey"] : undefined;
  return typeof name === "string" ? [[`provider/${name}`, spki]] : undefined;
}
