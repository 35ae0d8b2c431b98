import { expect } from "chai";
import type { Provider } from "../../core/gen/crds/provider.ts";
import { parseShardedModel } from "../../core/gen/crds/shardedmodel.ts";
import { parseShardNode } from "../../core/gen/crds/shardnode.ts";
import { valueOrThrow } from "../../core/result.ts";
import { aConfig } from "./builders.ts";
import { modelSpecOf, nodeFactsOf, parseCredits, parseEpoch } from "./model-spec.ts";

const API = "tessellate.dev/v1alpha1";
const modelOf = (spec: object) =>
  valueOrThrow(
    parseShardedModel({
      apiVersion: API,
      kind: "ShardedModel",
      metadata: { name: "m" },
      spec: { model: { source: { path: "p" } }, ...spec },
    }),
  );
const nodeOf = (spec: object) =>
  valueOrThrow(
    parseShardNode({
      apiVersion: API,
      kind: "ShardNode",
      metadata: { name: "n", labels: { zone: "north" } },
      spec: { provider: "campus", memory: { freeBytes: "1Gi" }, ...spec },
    }),
  );
const campus = (publicKey?: string): Provider => ({
  apiVersion: API,
  kind: "Provider",
  metadata: { name: "campus" },
  spec: publicKey === undefined ? {} : { publicKey },
});

describe("modelSpecOf", () => {
  it("fills in what ten lines leave out", () => {
    expect(modelSpecOf(modelOf({}))).to.deep.include({
      namespace: "default",
      source: { path: "p" },
      quantization: "int4",
      contextLength: 4096,
      slotCount: 4,
      replicas: 1,
      handOffDtype: "f16",
      pricePerMillionTokens: 0n,
      epochSeconds: 3600,
      maxQueue: 256,
    });
  });

  it("takes the model's own limit for the context, unless the user says another", () => {
    expect(modelSpecOf(modelOf({}), aConfig({ maxPositions: 512 })).contextLength).to.equal(512);
    expect(modelSpecOf(modelOf({}), aConfig({ maxPositions: 131_072 })).contextLength).to.equal(4096);
    expect(modelSpecOf(modelOf({ contextLength: 16_384 }), aConfig({ maxPositions: 131_072 })).contextLength).to.equal(
      16_384,
    );
  });

  it("reads units: shares, prices, epochs", () => {
    const spec = modelSpecOf(
      modelOf({
        placement: { providers: { maxShare: "40%" } },
        rewards: { pricePerMillionTokens: "0.15", epoch: "30m" },
      }),
    );
    expect(spec.placement.providersMaxSharePercent).to.equal(40);
    expect(spec.pricePerMillionTokens).to.equal(150_000n);
    expect(spec.epochSeconds).to.equal(1800);
  });

  it("keeps the hub's token apart from the source that plans show", () => {
    const source = { huggingFace: { repo: "o/n", tokenSecretRef: { name: "hub" } } };
    const spec = modelSpecOf(modelOf({ model: { source } }));
    expect(spec.source).to.deep.equal({ huggingFace: { repo: "o/n", revision: "main" } });
    expect(spec.hubTokenSecret).to.deep.equal({ name: "hub", key: "token" });
  });
});

describe("nodeFactsOf", () => {
  it("admits a provider that has a key, and no other", () => {
    const admitted = (...providers: readonly Provider[]) => nodeFactsOf(nodeOf({}), providers, true).providerAdmitted;
    expect(admitted(campus("MCow…"))).to.equal(true);
    expect(admitted(campus())).to.equal(false);
    expect(admitted()).to.equal(false);
  });

  it("reads quantities, and the names that the machine goes by", () => {
    const facts = nodeFactsOf(
      nodeOf({ nodeName: "n.example.org", memoryBytesPerSecond: "280G", cache: { hostPath: "/data" } }),
      [],
      false,
    );
    expect(facts).to.deep.include({
      name: "n",
      machine: "n.example.org",
      freeBytes: 2 ** 30,
      memoryBytesPerSecond: 280e9,
      cachePath: "/data",
      ready: false,
      labels: { zone: "north" },
    });
  });
});

describe("parseCredits and parseEpoch", () => {
  it("are exact", () => {
    expect(["0", "1", "0.15", "0.000001", "9999999999.999999"].map(parseCredits)).to.deep.equal([
      0n,
      1_000_000n,
      150_000n,
      1n,
      9_999_999_999_999_999n,
    ]);
    expect(["90s", "30m", "1h", "9999h"].map(parseEpoch)).to.deep.equal([90, 1800, 3600, 35_996_400]);
  });
});
