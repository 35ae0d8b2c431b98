/**
 * One TypeScript module for each CustomResourceDefinition: interfaces with the descriptions as doc comments, the schema
 * as data for `core/schema.ts` (defaults and checks without an API server), and one typed door to both.
 */
import { parse } from "yaml";

type Source = { readonly name: string; readonly text: string };
type Module = { readonly path: string; readonly text: string };

/** The part of a structural schema that our CRDs use. */
type Schema = {
  readonly type?: string;
  readonly description?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: Schema;
  readonly items?: Schema;
  readonly required?: readonly string[];
  readonly enum?: readonly string[];
  readonly default?: unknown;
  readonly "x-kubernetes-int-or-string"?: boolean;
  readonly "x-kubernetes-validations"?: readonly { readonly rule: string; readonly message: string }[];
};

const LINE_MAX = 120;

export function crdModules(sources: readonly Source[]): readonly Module[] {
  return [{ path: "object-meta.ts", text: OBJECT_META }, ...sources.map(moduleFor)];
}

function moduleFor({ name, text }: Source): Module {
  const crd = parse(text);
  const { group, names, scope, versions } = crd.spec;
  const [version] = versions;
  const kind: string = names.kind;
  const schema: Schema = version.schema.openAPIV3Schema;
  const interfaces = interfacesOf(kind, schema);
  const constant = kind.charAt(0).toLowerCase() + kind.slice(1);
  const resource = { group, version: version.name, kind, plural: names.plural, namespaced: scope === "Namespaced" };
  const body = [
    `// From crds/${name}.`,
    'import { type Schema, parseObject } from "../../schema.ts";',
    'import type { ObjectMeta } from "./object-meta.ts";',
    "",
    ...interfaces,
    `/** What the API server calls a ${kind}. */`,
    `export const ${constant}Resource = ${literal(resource, "")} as const;`,
    "",
    `/** The schema of a ${kind}, its rules included, less what only people read. */`,
    `export const ${constant}Schema: Schema = ${literal(lean(schema), "")};`,
    "",
    `/** A manifest as the API server would store it, defaults filled in; refuses what it would refuse. */`,
    `export const parse${kind} = (manifest: unknown) => parseObject<${kind}>(${constant}Resource, ${constant}Schema, manifest);`,
    "",
  ];
  return { path: `${names.singular}.ts`, text: body.join("\n") };
}

/** The interface of an object schema, after those of the objects inside it. */
function interfacesOf(name: string, schema: Schema): string[] {
  const inner: string[] = [];
  const required = new Set(schema.required ?? []);
  const lines = [...doc(schema.description, ""), `export interface ${name} {`];
  for (const [field, child] of Object.entries(schema.properties ?? {})) {
    const optional = required.has(field) || child.default !== undefined || ALWAYS.has(field) ? "" : "?";
    lines.push(
      ...doc(child.description, "  "),
      `  readonly ${field}${optional}: ${typeOf(`${name}${pascal(field)}`, field, child, inner)};`,
    );
  }
  return [...inner, ...lines, "}", ""];
}

/** Every stored object has these, though no schema says so. */
const ALWAYS = new Set(["apiVersion", "kind", "metadata"]);

function typeOf(name: string, field: string, schema: Schema, inner: string[]): string {
  if (field === "metadata") return "ObjectMeta";
  if (schema["x-kubernetes-int-or-string"]) return "number | string";
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  switch (schema.type) {
    case "string":
      return "string";
    case "boolean":
      return "boolean";
    case "integer":
    case "number":
      return "number";
    case "array": {
      const item = typeOf(name.replace(/s$/, ""), "", schema.items ?? {}, inner);
      return item.includes("|") ? `readonly (${item})[]` : `readonly ${item}[]`;
    }
    case "object":
      if (schema.additionalProperties) {
        return `Readonly<Record<string, ${typeOf(`${name}Value`, "", schema.additionalProperties, inner)}>>`;
      }
      inner.push(...interfacesOf(name, schema));
      return name;
    default:
      throw new Error(
        `${name}: the generator knows no type ${JSON.stringify(schema.type)}; teach tools/generate-crds.ts`,
      );
  }
}

/** The schema without descriptions, its rules under a shorter name. */
function lean(schema: Schema): unknown {
  const {
    description: _,
    "x-kubernetes-validations": rules,
    properties,
    items,
    additionalProperties,
    ...rest
  } = schema;
  return {
    ...rest,
    ...(rules && { rules: rules.map(({ rule, message }) => ({ rule: rule.trim(), message: message.trim() })) }),
    ...(properties && { properties: Object.fromEntries(Object.entries(properties).map(([k, v]) => [k, lean(v)])) }),
    ...(items && { items: lean(items) }),
    ...(additionalProperties && { additionalProperties: lean(additionalProperties) }),
  };
}

const pascal = (name: string) => name.charAt(0).toUpperCase() + name.slice(1);

function doc(text: string | undefined, indent: string): string[] {
  if (!text) return [];
  const one = `${indent}/** ${text} */`;
  if (one.length <= LINE_MAX) return [one];
  const lines: string[] = [];
  let line = `${indent} *`;
  for (const word of text.split(/\s+/)) {
    if (line.length + 1 + word.length > LINE_MAX) {
      lines.push(line);
      line = `${indent} *`;
    }
    line += ` ${word}`;
  }
  return [`${indent}/**`, ...lines, line, `${indent} */`];
}

/** JSON as TypeScript, on one line where it fits. */
function literal(value: unknown, indent: string): string {
  const key = (name: string) => (/^[A-Za-z_$][\w$]*$/.test(name) ? name : JSON.stringify(name));
  const flat = JSON.stringify(value);
  if (value === null || typeof value !== "object") return flat;
  const entries = Array.isArray(value) ? value.map((item) => ["", item] as const) : Object.entries(value);
  const [open, close] = Array.isArray(value) ? ["[", "]"] : ["{", "}"];
  if (entries.length === 0) return `${open}${close}`;
  const one = entries.map(([name, item]) => (name ? `${key(name)}: ` : "") + literal(item, `${indent}  `));
  const joined = Array.isArray(value) ? `[${one.join(", ")}]` : `{ ${one.join(", ")} }`;
  if (!joined.includes("\n") && indent.length + joined.length <= 80) return joined;
  return `${open}\n${one.map((line) => `${indent}  ${line},`).join("\n")}\n${indent}${close}`;
}

const OBJECT_META = `
/** What every Kubernetes object says about itself; the part that Tessellate reads or writes. */
export interface ObjectMeta {
  readonly name: string;
  readonly namespace?: string;
  readonly uid?: string;
  readonly generation?: number;
  readonly resourceVersion?: string;
  readonly creationTimestamp?: string;
  readonly deletionTimestamp?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly finalizers?: readonly string[];
  readonly ownerReferences?: readonly OwnerReference[];
}

/** Who an object goes with: deleted with its owner. */
export interface OwnerReference {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  readonly uid: string;
  readonly controller?: boolean;
  readonly blockOwnerDeletion?: boolean;
}
`;
