/** crds/ against a real API server: it takes what we call valid, refuses the rest in our words, and stores what we expect. */
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "chai";
import { parse } from "yaml";
import { providerSchema } from "../../core/gen/crds/provider.ts";
import { settlementSchema } from "../../core/gen/crds/settlement.ts";
import { shardedModelSchema } from "../../core/gen/crds/shardedmodel.ts";
import { shardNodeSchema } from "../../core/gen/crds/shardnode.ts";
import { shardPlanSchema } from "../../core/gen/crds/shardplan.ts";
import { type Schema, withDefaults } from "../../core/schema.ts";
import { CommandFailed, type ControlPlane, startControlPlane } from "../cluster/control-plane.ts";
import { until } from "../until.ts";

const CRDS = fileURLToPath(new URL("../../crds/", import.meta.url));
const SCHEMAS: Readonly<Record<string, Schema>> = {
  Provider: providerSchema,
  Settlement: settlementSchema,
  ShardedModel: shardedModelSchema,
  ShardNode: shardNodeSchema,
  ShardPlan: shardPlanSchema,
};
const files = (folder: string) =>
  readdirSync(join(CRDS, "examples", folder)).map((name) => ({ name, path: join(CRDS, "examples", folder, name) }));

describe("crds/ on a real API server", function () {
  this.timeout(600_000);
  let cluster: ControlPlane;
  const kubectl = (...args: string[]) => cluster.kubectl(args);
  /** What kubectl complains about. */
  const complaint = (...args: string[]): Promise<string> =>
    kubectl(...args).then(
      () => "nothing",
      (error: unknown) => (error instanceof CommandFailed ? error.stderr : String(error)),
    );

  before(async () => {
    cluster = await startControlPlane();
    await kubectl(
      "apply",
      "--validate=strict",
      ...readdirSync(CRDS)
        .filter((name) => name.endsWith(".yaml"))
        .flatMap((name) => ["-f", join(CRDS, name)]),
    );
    await kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all");
    // Established is not explained yet: what describes all kinds is put together a moment later.
    const { items } = JSON.parse(await kubectl("get", "crd", "-o", "json"));
    for (const { spec } of items) {
      const { plural } = spec.names;
      await until(`${plural} to be explained`, () => kubectl("explain", `${plural}.spec`).then(() => true));
    }
  });
  after(() => cluster?.stop());

  it("explain every field", async () => {
    type Explained = {
      readonly description?: string;
      readonly properties?: Readonly<Record<string, Explained>>;
      readonly items?: Explained;
      readonly additionalProperties?: Explained;
    };
    const bare = (at: string, { description, properties = {}, items, additionalProperties }: Explained): string[] => [
      ...(description === undefined ? [at] : []),
      ...Object.entries(properties).flatMap(([name, each]) => bare(`${at}.${name}`, each)),
      ...(items === undefined ? [] : bare(`${at}[]`, items)),
      ...(additionalProperties === undefined ? [] : bare(`${at}{}`, additionalProperties)),
    ];
    const { items } = JSON.parse(await kubectl("get", "crd", "-o", "json"));
    for (const { spec } of items) {
      const { kind, plural } = spec.names;
      const schema: Explained = spec.versions[0].schema.openAPIV3Schema;
      // The API server has its own words for metadata.
      expect(bare(kind, schema).filter((at) => at !== `${kind}.metadata`)).to.deep.equal([]);
      const tree = await kubectl("explain", plural, "--recursive");
      for (const name of Object.keys(schema.properties?.["spec"]?.properties ?? {})) expect(tree).to.contain(name);
      for (const part of ["spec", "status"])
        expect(await kubectl("explain", `${plural}.${part}`)).not.to.contain("<no description>");
    }
  });

  it("are structural, with nothing that the API server drops", async () => {
    const { items } = JSON.parse(await kubectl("get", "crd", "-o", "json"));
    expect(items).to.have.lengthOf(5);
    for (const crd of items) {
      const conditions: readonly { type: string; status: string; message: string }[] = crd.status.conditions;
      expect(
        conditions.filter(({ type, status }) => type === "NonStructuralSchema" && status === "True"),
        crd.metadata.name,
      ).to.deep.equal([]);
      const ours = parse(readFileSync(join(CRDS, `${crd.spec.names.plural}.yaml`), "utf8"));
      expect(crd.spec.versions[0].schema).to.deep.equal(ours.spec.versions[0].schema);
    }
  });

  for (const { name, path } of files("valid")) {
    it(`take ${name}, and store it with the defaults that withDefaults fills in`, async () => {
      const stored = JSON.parse(await kubectl("create", "--validate=strict", "-o", "json", "-f", path));
      const written = parse(readFileSync(path, "utf8"));
      const { spec } = withDefaults(SCHEMAS[written.kind] ?? {}, written) as { spec: unknown };
      expect(stored.spec).to.deep.equal(spec);
    });
  }

  for (const { name, path } of files("invalid")) {
    it(`refuse ${name} and say what to do`, async () => {
      const wanted = /^# expect: (.*)$/m.exec(readFileSync(path, "utf8"))?.[1] ?? "an `# expect:` line";
      expect(await complaint("create", "--validate=strict", "-f", path)).to.contain(wanted);
    });
  }

  it("let kubectl scale a model", async () => {
    await kubectl("scale", "shardedmodel/assistant", "--replicas=3");
    expect(await kubectl("get", "sm", "assistant", "-o", "jsonpath={.spec.replicas}")).to.equal("3");
  });

  it("show what people ask first", async () => {
    const header = async (kind: string) =>
      (await kubectl("get", kind))
        .split("\n")[0]
        ?.split(/\s{2,}/)
        .filter(Boolean);
    expect(await header("sm")).to.deep.equal(["NAME", "READY", "REASON", "REPLICAS", "PROVIDERS", "TOK/S", "AGE"]);
    expect(await header("sp")).to.deep.equal(["NAME", "MODEL", "RANKS", "MS/TOKEN", "BOTTLENECK", "AGE"]);
    expect(await header("prov")).to.deep.equal(["NAME", "ADMITTED", "REASON", "NODES", "SHARDS", "AGE"]);
    expect(await header("shn")).to.deep.equal([
      "NAME",
      "PROVIDER",
      "DEVICE",
      "MEMORY",
      "BANDWIDTH",
      "SHARDS",
      "READY",
      "REASON",
      "AGE",
    ]);
    expect(await header("stl")).to.deep.equal(["NAME", "EPOCH", "SETTLED", "REASON", "COLLECTED", "PAID", "AGE"]);
    expect(await kubectl("explain", "sm.spec.placement.providers.maxShare")).to.contain(
      "Most of a chain's layers that one provider may hold",
    );
  });

  it("keep a node with its provider, and a settlement as it was made", async () => {
    const patch = (kind: string, name: string, spec: object) =>
      complaint("patch", kind, name, "--type=merge", "-p", JSON.stringify({ spec }));
    expect(await patch("shardnode", "garage-3", { provider: "campus" })).to.contain("a node keeps its provider");
    expect(await patch("settlement", "epoch-411", { epoch: 412 })).to.contain("a settlement is made once");
  });

  it("ignore a status that comes with a spec", async () => {
    await kubectl("patch", "provider", "campus", "--type=merge", "-p", '{"status":{"nodeCount":7}}');
    expect(await kubectl("get", "provider", "campus", "-o", "jsonpath={.status}")).to.equal("");
  });
});
