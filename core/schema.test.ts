import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "chai";
import { parse } from "yaml";
import { parseProvider, providerSchema } from "./gen/crds/provider.ts";
import { parseSettlement, settlementSchema } from "./gen/crds/settlement.ts";
import { parseShardedModel, shardedModelSchema } from "./gen/crds/shardedmodel.ts";
import { parseShardNode, shardNodeSchema } from "./gen/crds/shardnode.ts";
import { parseShardPlan, shardPlanSchema } from "./gen/crds/shardplan.ts";
import type { Result } from "./result.ts";
import { ruleIsKnown } from "./schema-rules.ts";
import { type Schema, problemsOf, withDefaults } from "./schema.ts";

const CRDS = fileURLToPath(new URL("../crds/", import.meta.url));
const yamlIn = (folder: string) => readdirSync(join(CRDS, folder)).filter((name) => name.endsWith(".yaml"));
const textOf = (path: string) => readFileSync(join(CRDS, path), "utf8");

const PARSERS: Readonly<Record<string, (manifest: unknown) => Result<unknown>>> = {
  Provider: parseProvider,
  Settlement: parseSettlement,
  ShardedModel: parseShardedModel,
  ShardNode: parseShardNode,
  ShardPlan: parseShardPlan,
};
const SCHEMAS = [providerSchema, settlementSchema, shardedModelSchema, shardNodeSchema, shardPlanSchema];

const parseManifest = (manifest: { readonly kind: string }): Result<unknown> => {
  const parser = PARSERS[manifest.kind];
  expect(parser, `a parser of ${manifest.kind}`).to.not.equal(undefined);
  return parser?.(manifest) ?? { ok: false, code: "NoParser", detail: "" };
};

describe("the schemas of crds/", () => {
  for (const name of yamlIn(".")) {
    it(`${name} describes every field`, () => {
      const walk = (schema: Record<string, unknown>, path: string): void => {
        // What Kubernetes itself describes cannot be described again.
        if (!path.endsWith(".metadata"))
          expect(schema["description"], path).to.be.a("string").with.length.greaterThan(5);
        for (const [field, child] of Object.entries(schema["properties"] ?? {})) walk(child, `${path}.${field}`);
        for (const key of ["items", "additionalProperties"]) {
          const child = schema[key];
          if (child !== undefined) walk(child as Record<string, unknown>, `${path}.${key}`);
        }
      };
      const crd = parse(textOf(name));
      for (const version of crd.spec.versions) {
        walk(version.schema.openAPIV3Schema, crd.spec.names.kind);
        for (const column of version.additionalPrinterColumns)
          expect(column.description, column.name).to.be.a("string");
      }
    });
  }

  it("have no CEL rule that local mode cannot judge", () => {
    const unknown: string[] = [];
    const walk = (schema: Schema): void => {
      for (const { rule } of schema.rules ?? []) if (!ruleIsKnown(rule)) unknown.push(rule);
      for (const child of [...Object.values(schema.properties ?? {}), schema.items, schema.additionalProperties]) {
        if (child) walk(child);
      }
    };
    SCHEMAS.forEach(walk);
    expect(unknown).to.deep.equal([]);
  });

  for (const name of yamlIn("examples/valid")) {
    it(`take examples/valid/${name}`, () => {
      expect(parseManifest(parse(textOf(`examples/valid/${name}`)))).to.include({ ok: true });
    });
  }

  for (const name of yamlIn("examples/invalid")) {
    it(`refuse examples/invalid/${name} and say what to do`, () => {
      const text = textOf(`examples/invalid/${name}`);
      const wanted = /^# expect without an API server: (.*)$/m.exec(text)?.[1] ?? /^# expect: (.*)$/m.exec(text)?.[1];
      const refusal = parseManifest(parse(text));
      expect(refusal.ok, "refused").to.equal(false);
      if (!refusal.ok) expect(refusal.detail).to.contain(wanted ?? "an `# expect:` line");
    });
  }
});

describe("withDefaults", () => {
  const schema: Schema = {
    type: "object",
    properties: {
      a: { type: "integer", default: 1 },
      b: { type: "object", default: {}, properties: { c: { type: "string", default: "x" } } },
      d: { type: "object", properties: { e: { type: "boolean", default: true } } },
      f: { type: "array", items: { type: "object", properties: { g: { type: "integer", default: 2 } } } },
    },
  };
  const cases = [
    { name: "fills what is absent, and what is in a filled object", value: {}, want: { a: 1, b: { c: "x" } } },
    { name: "takes null for absent", value: { a: null }, want: { a: 1, b: { c: "x" } } },
    {
      name: "does not make an object that has no default itself",
      value: { d: {} },
      want: { a: 1, b: { c: "x" }, d: { e: true } },
    },
    { name: "goes into lists", value: { f: [{}, { g: 3 }] }, want: { a: 1, b: { c: "x" }, f: [{ g: 2 }, { g: 3 }] } },
    { name: "keeps what is given", value: { a: 5, b: { c: "y" } }, want: { a: 5, b: { c: "y" } } },
  ];
  for (const { name, value, want } of cases) it(name, () => expect(withDefaults(schema, value)).to.deep.equal(want));

  it("does not share a default between objects", () => {
    const first = withDefaults(schema, {}) as { b: { c: string } };
    first.b.c = "changed";
    expect(withDefaults(schema, {})).to.deep.equal({ a: 1, b: { c: "x" } });
  });
});

describe("problemsOf", () => {
  it("shows all that is wrong at once, each with its path", () => {
    const schema: Schema = {
      type: "object",
      required: ["name"],
      properties: {
        name: { type: "string" },
        counts: { type: "array", maxItems: 2, items: { type: "integer", minimum: 0 } },
      },
    };
    expect(problemsOf(schema, { cuonts: [], counts: [1, -1] })).to.deep.equal([
      { path: ["name"], why: "is required" },
      { path: ["cuonts"], why: "unknown field; did you mean counts?" },
      { path: ["counts", 1], why: "is -1; it must be at least 0" },
    ]);
  });
});
