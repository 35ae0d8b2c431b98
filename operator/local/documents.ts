/**
 * YAML files as kubectl would take them, without an API server: every document is checked against the schema of its
 * CustomResourceDefinition, unknown fields included, and every refusal names file, line and field.
 */
import { readFileSync } from "node:fs";
import { type Document, LineCounter, isMap, isSeq, parseAllDocuments } from "yaml";
import { providerResource, providerSchema, type Provider } from "../../core/gen/crds/provider.ts";
import { shardedModelResource, shardedModelSchema, type ShardedModel } from "../../core/gen/crds/shardedmodel.ts";
import { shardNodeResource, shardNodeSchema, type ShardNode } from "../../core/gen/crds/shardnode.ts";
import { isJsonObject, shown } from "../../core/json.ts";
import { type Result, ok, refuse } from "../../core/result.ts";
import {
  type Problem,
  type Resource,
  type Schema,
  objectProblems,
  showProblem,
  withDefaults,
} from "../../core/schema.ts";

export type DocumentCode = "UnreadableFile" | "MalformedYaml" | "UnknownKind" | "InvalidDocument" | "DuplicateName";

/** Everything that the files hold, with the schemas' defaults filled in. */
export type Documents = {
  readonly models: readonly ShardedModel[];
  readonly providers: readonly Provider[];
  readonly nodes: readonly ShardNode[];
};

type Read = { readonly kind: string; readonly name: string; readonly file: string; readonly value: unknown };

const KINDS: ReadonlyMap<string, { readonly resource: Resource; readonly schema: Schema }> = new Map([
  ["ShardedModel", { resource: shardedModelResource, schema: shardedModelSchema }],
  ["Provider", { resource: providerResource, schema: providerSchema }],
  ["ShardNode", { resource: shardNodeResource, schema: shardNodeSchema }],
]);

/** Reads and checks all documents of the files, in order; a file that is named twice, once. Refusals are of the first file that has any. */
export function readDocuments(files: readonly string[]): Result<Documents, DocumentCode> {
  const all: Read[] = [];
  for (const file of new Set(files)) {
    const documents = readFile(file);
    if (!documents.ok) return documents;
    for (const document of documents.value) {
      const twin = all.find(({ kind, name }) => kind === document.kind && name === document.name);
      if (twin !== undefined) {
        const where = twin.file === file ? "twice" : `and in ${twin.file}`;
        return refuse(
          "DuplicateName",
          `${file}: ${document.kind} ${document.name} is here ${where}: give one of the two another metadata.name`,
        );
      }
      all.push(document);
    }
  }
  const of = <T>(wanted: string) => all.filter(({ kind }) => kind === wanted).map(({ value }) => value as T);
  return ok({
    models: of<ShardedModel>("ShardedModel"),
    providers: of<Provider>("Provider"),
    nodes: of<ShardNode>("ShardNode"),
  });
}

function readFile(file: string): Result<readonly Read[], DocumentCode> {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    return refuse("UnreadableFile", `cannot read ${file}: ${error instanceof Error ? error.message : String(error)}`);
  }
  const lines = new LineCounter();
  const read: Read[] = [];
  for (const document of parseAllDocuments(text, { lineCounter: lines, uniqueKeys: true })) {
    if (!("contents" in document)) continue;
    const error = document.errors[0];
    if (error !== undefined)
      return refuse("MalformedYaml", `${file}:${error.linePos?.[0].line ?? 1}: ${error.message.split("\n")[0]}`);
    if (document.contents === null) continue;
    const one = check(file, document, lines);
    if (!one.ok) return one;
    read.push(one.value);
  }
  return ok(read);
}

function check(file: string, document: Document, lines: LineCounter): Result<Read, DocumentCode> {
  const value: unknown = document.toJS();
  const kindName = isJsonObject(value) ? value["kind"] : undefined;
  const kind = typeof kindName === "string" ? KINDS.get(kindName) : undefined;
  if (typeof kindName !== "string" || kind === undefined) {
    const line = lineOf(document, lines, ["kind"]);
    return refuse("UnknownKind", `${file}:${line}: kind ${shown(kindName)} is none of ${[...KINDS.keys()].join(", ")}`);
  }
  const filled = withDefaults(kind.schema, value);
  const problems = objectProblems(kind.resource, kind.schema, filled);
  if (problems.length > 0) {
    const show = (problem: Problem) => `${file}:${lineOf(document, lines, problem.path)}: ${showProblem(problem)}`;
    return refuse("InvalidDocument", problems.map(show).join("\n"));
  }
  const metadata = isJsonObject(filled) && isJsonObject(filled["metadata"]) ? filled["metadata"] : {};
  return ok({ kind: kindName, name: String(metadata["name"]), file, value: filled });
}

/** The line of the deepest part of `path` that the document has. */
function lineOf(document: Document, lines: LineCounter, path: Problem["path"]): number {
  for (let length = path.length; length > 0; length--) {
    const parent: unknown = length === 1 ? document.contents : document.getIn(path.slice(0, length - 1), true);
    const key = path[length - 1] ?? "";
    const node = isMap(parent)
      ? parent.items.find((item) => String(item.key) === String(key))?.key
      : isSeq(parent)
        ? parent.items[Number(key)]
        : undefined;
    const start = rangeStart(node);
    if (start !== undefined) return lines.linePos(start).line;
  }
  return lines.linePos(rangeStart(document.contents) ?? 0).line;
}

function rangeStart(node: unknown): number | undefined {
  if (typeof node !== "object" || node === null || !("range" in node) || !Array.isArray(node.range)) return undefined;
  const start: unknown = node.range[0];
  return typeof start === "number" ? start : undefined;
}
