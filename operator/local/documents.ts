/**
 * YAML files as kubectl would take them, without an API server: every document is checked against the schema of its
 * CustomResourceDefinition in crds/, unknown fields included, and every refusal names file, line and field.
 */
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Ajv, type ErrorObject } from "ajv";
import { type Document, LineCounter, isMap, isSeq, parse, parseAllDocuments } from "yaml";
import { type Refusal, type Result, ok, refuse } from "../../core/result.ts";

export type DocumentCode = "UnreadableFile" | "MalformedYaml" | "UnknownKind" | "InvalidDocument" | "DuplicateName";

/** A document that its schema accepts, with the schema's defaults filled in. */
export type CheckedDocument = { readonly kind: string; readonly name: string; readonly file: string; readonly value: Readonly<Record<string, unknown>> };

type Schema = { readonly [key: string]: unknown };
type Kind = { readonly schema: Schema; readonly versions: readonly string[] };

const CRDS = fileURLToPath(new URL("../../crds/", import.meta.url));
const NAME = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;

/** Reads and checks all documents of the files, in order. The first refusal ends it. */
export function readDocuments(files: readonly string[]): Result<readonly CheckedDocument[], DocumentCode> {
  const kinds = readKinds();
  const all: CheckedDocument[] = [];
  for (const file of files) {
    const documents = readFile(file, kinds);
    if (!documents.ok) return documents;
    for (const document of documents.value) {
      const twin = all.find(({ kind, name }) => kind === document.kind && name === document.name);
      if (twin !== undefined) {
        return refuse("DuplicateName", `${file}: ${document.kind} ${document.name} stands in ${twin.file} already: give one of the two another metadata.name`);
      }
      all.push(document);
    }
  }
  return ok(all);
}

function readFile(file: string, kinds: ReadonlyMap<string, Kind>): Result<readonly CheckedDocument[], DocumentCode> {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    return refuse("UnreadableFile", `cannot read ${file}: ${error instanceof Error ? error.message : String(error)}`);
  }
  const lines = new LineCounter();
  const checked: CheckedDocument[] = [];
  for (const document of parseAllDocuments(text, { lineCounter: lines, uniqueKeys: true })) {
    if (!("contents" in document)) continue;
    const error = document.errors[0];
    if (error !== undefined) return refuse("MalformedYaml", `${file}:${error.linePos?.[0].line ?? 1}: ${error.message.split("\n")[0]}`);
    if (document.contents === null) continue;
    const one = check(file, document, lines, kinds);
    if (!one.ok) return one;
    checked.push(one.value);
  }
  return ok(checked);
}

function check(file: string, document: Document, lines: LineCounter, kinds: ReadonlyMap<string, Kind>): Result<CheckedDocument, DocumentCode> {
  const value: unknown = document.toJS();
  const at = (path: readonly string[]) => `${file}:${lineOf(document, lines, path)}`;
  if (!isObject(value)) return refuse("InvalidDocument", `${at([])}: a document must be an object with apiVersion, kind, metadata and spec`);
  const { apiVersion, kind: kindName, metadata } = value;
  const kind = kinds.get(String(kindName));
  if (kind === undefined) return refuse("UnknownKind", `${at(["kind"])}: kind ${JSON.stringify(kindName)} is none of ${[...kinds.keys()].join(", ")}`);
  if (!kind.versions.includes(String(apiVersion))) {
    return refuse("UnknownKind", `${at(["apiVersion"])}: apiVersion ${JSON.stringify(apiVersion)} of ${String(kindName)} must be ${kind.versions.join(" or ")}`);
  }
  const name = isObject(metadata) ? metadata["name"] : undefined;
  if (typeof name !== "string" || !NAME.test(name) || name.length > 63) {
    return refuse("InvalidDocument", `${at(["metadata", "name"])}: metadata.name ${JSON.stringify(name)} must be lower-case letters, digits and "-", at most 63`);
  }
  const ajv = new Ajv({ allErrors: true, useDefaults: true, strict: false, validateFormats: false });
  const validate = ajv.compile(kind.schema);
  if (!validate(value)) {
    const error = mostTelling(validate.errors ?? []);
    return { ...describe(error, kind.schema, at), code: "InvalidDocument" };
  }
  return ok({ kind: String(kindName), name, file, value });
}

/** An unknown field says more than the `required` that a misspelling brings with it. */
function mostTelling(errors: readonly ErrorObject[]): ErrorObject | undefined {
  return errors.find(({ keyword }) => keyword === "additionalProperties") ?? errors[0];
}

function describe(error: ErrorObject | undefined, schema: Schema, at: (path: readonly string[]) => string): Refusal {
  const path = (error?.instancePath ?? "").split("/").slice(1).map(unescapePointer);
  const shown = path.map((part) => (/^\d+$/.test(part) ? `[${part}]` : `.${part}`)).join("").replace(/^\./, "");
  if (error?.keyword === "additionalProperties") {
    const field = String(error.params["additionalProperty"]);
    const known = fieldsAt(schema, path);
    const near = known.find((name) => distance(name.toLowerCase(), field.toLowerCase()) <= 2);
    const hint = near === undefined ? `the fields here are ${known.join(", ")}` : `did you mean ${near}?`;
    return refuse("InvalidDocument", `${at([...path, field])}: unknown field ${shown === "" ? field : `${shown}.${field}`}: ${hint}`);
  }
  const allowed = error?.params["allowedValues"];
  const detail = Array.isArray(allowed) ? `must be one of ${allowed.join(", ")}` : (error?.message ?? "is not valid");
  return refuse("InvalidDocument", `${at(path)}: ${shown === "" ? "the document" : shown} ${detail}`);
}

function fieldsAt(schema: Schema, path: readonly string[]): readonly string[] {
  let here: unknown = schema;
  for (const part of path) {
    if (!isObject(here)) return [];
    const properties = here["properties"];
    here = /^\d+$/.test(part) ? here["items"] : isObject(properties) ? properties[part] : undefined;
  }
  return isObject(here) && isObject(here["properties"]) ? Object.keys(here["properties"]) : [];
}

/** Levenshtein distance, enough for short field names. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

/** The line of the deepest part of `path` that the document has. */
function lineOf(document: Document, lines: LineCounter, path: readonly string[]): number {
  for (let length = path.length; length > 0; length--) {
    const parent: unknown = length === 1 ? document.contents : document.getIn(path.slice(0, length - 1), true);
    const key = path[length - 1] ?? "";
    if (isMap(parent)) {
      const pair = parent.items.find((item) => String(item.key) === key);
      const start = rangeStart(pair?.key);
      if (start !== undefined) return lines.linePos(start).line;
    }
    if (isSeq(parent)) {
      const start = rangeStart(parent.items[Number(key)]);
      if (start !== undefined) return lines.linePos(start).line;
    }
  }
  return lines.linePos(rangeStart(document.contents) ?? 0).line;
}

function rangeStart(node: unknown): number | undefined {
  if (!isObject(node) || !Array.isArray(node["range"])) return undefined;
  const start: unknown = node["range"][0];
  return typeof start === "number" ? start : undefined;
}

function readKinds(): ReadonlyMap<string, Kind> {
  const kinds = new Map<string, Kind>();
  for (const file of readdirSync(CRDS).filter((name) => name.endsWith(".yaml")).sort()) {
    const crd: unknown = parse(readFileSync(join(CRDS, file), "utf8"));
    if (!isObject(crd) || !isObject(crd["spec"])) continue;
    const { group, names, versions } = crd["spec"];
    const version: unknown = Array.isArray(versions) ? versions[0] : undefined;
    if (!isObject(names) || !isObject(version) || !isObject(version["schema"])) continue;
    const schema = version["schema"]["openAPIV3Schema"];
    if (!isObject(schema)) continue;
    kinds.set(String(names["kind"]), { schema: closed(withTopLevel(schema)), versions: [`${String(group)}/${String(version["name"])}`] });
  }
  return kinds;
}

function withTopLevel(schema: Schema): Schema {
  const properties = isObject(schema["properties"]) ? schema["properties"] : {};
  return { ...schema, properties: { apiVersion: { type: "string" }, kind: { type: "string" }, ...properties, metadata: { type: "object", additionalProperties: true } } };
}

/** The schema with every object closed that does not say it is open: what `kubectl apply --validate=strict` checks. */
function closed(schema: unknown): Schema {
  if (!isObject(schema)) return {};
  const copy: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(schema)) {
    if (key.startsWith("x-kubernetes-")) continue;
    if (key === "properties" && isObject(value)) copy[key] = Object.fromEntries(Object.entries(value).map(([name, part]) => [name, closed(part)]));
    else if (key === "items" || (key === "additionalProperties" && isObject(value))) copy[key] = closed(value);
    else copy[key] = value;
  }
  if (schema["x-kubernetes-int-or-string"] === true) copy["type"] = ["integer", "string"];
  const open = schema["additionalProperties"] !== undefined || schema["x-kubernetes-preserve-unknown-fields"] === true;
  if (isObject(schema["properties"]) && !open) copy["additionalProperties"] = false;
  return copy;
}

const unescapePointer = (part: string) => part.replaceAll("~1", "/").replaceAll("~0", "~");
const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null && !Array.isArray(value);
