/**
 * What the API server does with an object before it stores it, for where there is no API server: defaults filled in,
 * every field checked, in its order (defaults first). Reads the schemas that `tools/generate.ts` takes from `crds/`,
 * so that local mode and `tessellate plan` refuse what a cluster would refuse, in the same words.
 */
import { type JsonObject, isJsonObject, shown } from "./json.ts";
import { type Result, ok, refuse } from "./result.ts";
import { ruleHolds } from "./schema-rules.ts";

/** A structural schema, the part of it that our CRDs use. */
export type Schema = {
  readonly type?: string;
  readonly format?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: Schema;
  readonly items?: Schema;
  readonly required?: readonly string[];
  readonly enum?: readonly string[];
  readonly default?: unknown;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly maxProperties?: number;
  readonly pattern?: string;
  readonly rules?: readonly Rule[];
  readonly "x-kubernetes-int-or-string"?: boolean;
  readonly "x-kubernetes-list-type"?: string;
  readonly "x-kubernetes-list-map-keys"?: readonly string[];
};

/** A CEL rule and what the user is told where it does not hold. */
export type Rule = { readonly rule: string; readonly message: string };

/** Which object a manifest must be. */
export type Resource = { readonly group: string; readonly version: string; readonly kind: string };

/** `value` as the API server would store it: what is absent, or null, takes its default; nothing is checked. */
export function withDefaults(schema: Schema, value: unknown): unknown {
  if (Array.isArray(value)) {
    const { items } = schema;
    return items ? value.map((item) => withDefaults(items, item)) : value;
  }
  if (!isJsonObject(value)) return value;
  const filled: Record<string, unknown> = { ...value };
  for (const [field, child] of Object.entries(schema.properties ?? {})) {
    if (filled[field] === null) delete filled[field];
    if (filled[field] === undefined && child.default !== undefined) filled[field] = structuredClone(child.default);
  }
  for (const field of Object.keys(filled)) {
    const child = schema.properties?.[field] ?? schema.additionalProperties;
    if (child) filled[field] = withDefaults(child, filled[field]);
  }
  return filled;
}

/** One thing that is wrong with an object: where (field names and list indexes), and what to do. */
export type Problem = { readonly path: readonly (string | number)[]; readonly why: string };

/**
 * A manifest as it would be stored, or the refusal `InvalidManifest` whose detail has one line for each thing that is
 * wrong: the field's path, what it is, what it should be. `T` is the generated type that belongs to `schema`.
 */
export function parseObject<T>(resource: Resource, schema: Schema, manifest: unknown): Result<T, "InvalidManifest"> {
  const filled = withDefaults(schema, manifest);
  const problems = objectProblems(resource, schema, filled);
  return problems.length === 0 ? ok(filled as T) : refuse("InvalidManifest", problems.map(showProblem).join("\n"));
}

/** Everything that would make the API server refuse `object`, whose defaults are filled in already. */
export function objectProblems(resource: Resource, schema: Schema, object: unknown): readonly Problem[] {
  const apiVersion = `${resource.group}/${resource.version}`;
  if (!isJsonObject(object)) return [{ path: [], why: `a ${resource.kind} is an object, not ${shown(object)}` }];
  if (object["kind"] !== resource.kind)
    return [{ path: ["kind"], why: `is ${shown(object["kind"])}; expected ${resource.kind}` }];
  if (object["apiVersion"] !== apiVersion) {
    return [{ path: ["apiVersion"], why: `is ${shown(object["apiVersion"])}; expected ${apiVersion}` }];
  }
  const metadata = object["metadata"];
  if (!isJsonObject(metadata) || typeof metadata["name"] !== "string" || metadata["name"] === "") {
    return [{ path: ["metadata", "name"], why: "is missing; give the object a name" }];
  }
  return problemsOf(schema, object);
}

/** `spec.placement.providers.min: is 0; it must be at least 1`. */
export function showProblem({ path, why }: Problem): string {
  const place = path.map((part) => (typeof part === "number" ? `[${part}]` : `.${part}`)).join("");
  return place === "" ? why : `${place.replace(/^[.]/, "")}: ${why}`;
}

/** Everything about `value` that `schema` does not allow. */
export function problemsOf(schema: Schema, value: unknown, path: Problem["path"] = []): readonly Problem[] {
  const own = ownProblem(schema, value);
  if (own !== undefined) return [{ path, why: own }];
  const inner = [...fieldProblems(schema, value, path), ...itemProblems(schema, value, path)];
  if (inner.length > 0) return inner; // as in CEL: rules speak of values that have their form
  return (schema.rules ?? [])
    .filter(({ rule }) => !ruleHolds(rule, value))
    .map(({ message }) => ({ path, why: message }));
}

function ownProblem(schema: Schema, value: unknown): string | undefined {
  if (schema["x-kubernetes-int-or-string"]) {
    return Number.isInteger(value) || typeof value === "string" ? undefined : `is ${shown(value)}; expected a quantity`;
  }
  switch (schema.type) {
    case "object":
      return isJsonObject(value) ? undefined : `is ${shown(value)}; expected an object`;
    case "array":
      return Array.isArray(value) ? listProblem(schema, value) : `is ${shown(value)}; expected a list`;
    case "boolean":
      return typeof value === "boolean" ? undefined : `is ${shown(value)}; expected true or false`;
    case "integer":
    case "number":
      return numberProblem(schema, value);
    default:
      return textProblem(schema, value);
  }
}

function numberProblem(schema: Schema, value: unknown): string | undefined {
  const whole = schema.type === "integer";
  if (typeof value !== "number" || (whole && !Number.isInteger(value))) {
    return `is ${shown(value)}; expected a ${whole ? "whole number" : "number"}`;
  }
  const { minimum = -Infinity, maximum = schema.format === "int32" ? 2 ** 31 - 1 : Infinity } = schema;
  if (value < minimum) return `is ${value}; it must be at least ${minimum}`;
  return value > maximum ? `is ${value}; it must be at most ${maximum}` : undefined;
}

function textProblem(schema: Schema, value: unknown): string | undefined {
  if (typeof value !== "string") return `is ${shown(value)}; expected a text (in YAML, put it in quotes)`;
  if (schema.enum && !schema.enum.includes(value)) return `is ${shown(value)}; choose one of ${schema.enum.join(", ")}`;
  const { minLength = 0, maxLength = Infinity, pattern } = schema;
  if (value.length < minLength) return "is empty; give it a value or leave it out";
  if (value.length > maxLength) return `has ${value.length} characters; at most ${maxLength} are allowed`;
  if (pattern && !new RegExp(pattern).test(value)) return `is ${shown(value)}; it must match ${pattern}`;
  return undefined;
}

function listProblem(schema: Schema, value: readonly unknown[]): string | undefined {
  const { minItems = 0, maxItems = Infinity } = schema;
  if (value.length < minItems) return `has ${value.length} items; at least ${minItems} are needed`;
  if (value.length > maxItems) return `has ${value.length} items; at most ${maxItems} are allowed`;
  const keys = schema["x-kubernetes-list-map-keys"];
  if (!keys && schema["x-kubernetes-list-type"] !== "set") return undefined;
  const seen = new Set<string>();
  for (const item of value) {
    const key = JSON.stringify(keys && isJsonObject(item) ? keys.map((name) => item[name]) : item);
    if (seen.has(key)) return `has ${key} twice; take one out`;
    seen.add(key);
  }
  return undefined;
}

function fieldProblems(schema: Schema, value: unknown, path: Problem["path"]): readonly Problem[] {
  const { properties, additionalProperties, required = [], maxProperties = Infinity } = schema;
  if (!isJsonObject(value) || (!properties && !additionalProperties)) return [];
  const problems: Problem[] = required
    .filter((field) => value[field] === undefined)
    .map((field) => ({ path: [...path, field], why: "is required" }));
  const count = Object.keys(value).length;
  if (count > maxProperties) problems.push({ path, why: `has ${count} fields; at most ${maxProperties} are allowed` });
  for (const [field, item] of Object.entries(value)) {
    const child = properties?.[field] ?? additionalProperties;
    if (child) problems.push(...problemsOf(child, item, [...path, field]));
    else problems.push({ path: [...path, field], why: `unknown field${suggestion(field, properties ?? {})}` });
  }
  return problems;
}

function itemProblems(schema: Schema, value: unknown, path: Problem["path"]): readonly Problem[] {
  const { items } = schema;
  if (!Array.isArray(value) || !items) return [];
  return value.flatMap((item, index) => problemsOf(items, item, [...path, index]));
}

function suggestion(field: string, known: JsonObject): string {
  const names = Object.keys(known);
  const near = names.map((name) => ({ name, distance: editDistance(field.toLowerCase(), name.toLowerCase()) }));
  near.sort((a, b) => a.distance - b.distance);
  const [best] = near;
  if (best && best.distance <= Math.max(1, field.length / 3)) return `; did you mean ${best.name}?`;
  return names.length > 0 ? `; it can be ${names.join(", ")}` : "";
}

/** Levenshtein's distance, one row at a time. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (const [i, letter] of [...a].entries()) {
    const next = [i + 1];
    for (const [j, other] of [...b].entries()) {
      const [swap = 0, drop = 0, add = 0] = [row[j], row[j + 1], next[j]];
      next.push(Math.min(swap + (letter === other ? 0 : 1), drop + 1, add + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
