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
      kvDtype: "f32",
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

  it("reads the form of the KV cache", () => {
    expect(modelSpecOf(modelOf({ kvCache: { dtype: "int8" } })).kvDtype).to.equal("int8");
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

describe("what one may ask of a plan", () => {
  const placed = (spec: object) => modelSpecOf(modelOf(spec));

  it("is left to the planner where nobody says it", () => {
    const spec = placed({});
    expect(spec).to.include({ slotCount: 4, slotsByPlanner: true, spares: 0, planPolicy: "Automatic" });
    expect(spec).to.not.have.property("objective");
    expect(placed({ slots: 9 })).to.not.have.property("slotsByPlanner");
  });

  it("is one of three objectives, with its bound in our units", () => {
    const objective = (given: object) => placed({ objective: given }).objective;
    expect(objective({ throughput: { maxTimePerTokenMs: 80 } })).to.deep.equal({
      kind: "Throughput",
      timePerTokenMsMax: 80,
    });
    expect(objective({ latency: { maxPricePerHour: "2.5" } })).to.deep.equal({
      kind: "Latency",
      pricePerHourMax: 2_500_000n,
    });
    expect(objective({ price: { minTokensPerSecond: 50 } })).to.deep.equal({ kind: "Price", tokensPerSecondMin: 50 });
  });

  it("is where it may go", () => {
    const placement = {
      edges: { providers: ["campus"] },
      regions: ["north"],
      devices: ["cuda"],
      maxPricePerHour: "3",
      replacement: "SameDevice",
    };
    expect(placed({ placement }).placement).to.deep.include({
      edgeProviders: ["campus"],
      regions: ["north"],
      devices: ["cuda"],
      pricePerHourMax: 3_000_000n,
      replacement: "SameDevice",
    });
  });
});

describe("what a machine measured", () => {
  it("goes before what its owner wrote", () => {
    const measured = {
      memoryBytesPerSecond: 30e9,
      layerTimes: { bytes: 1e8, oneMicros: 4000, manyMicros: 9000, manyRows: 8 },
      links: [{ to: "o", roundTripMicros: 300, bytesPerSecond: 1e9 }],
      reliability: 0,
      cached: [{ root: "sha256:aa", bytes: 7 }],
    };
    const node = {
      ...nodeOf({ memoryBytesPerSecond: "10G", region: "north", pricePerHour: "0.35" }),
      status: { measured },
    };
    expect(nodeFactsOf(node, [], true)).to.deep.include({
      memoryBytesPerSecond: 30e9,
      layerTimes: measured.layerTimes,
      links: measured.links,
      reliability: 0.001,
      cached: { "sha256:aa": 7 },
      region: "north",
      pricePerHour: 350_000n,
    });
  });

  it("may be the label that Kubernetes has for regions", () => {
    const node = { ...nodeOf({}), metadata: { name: "n", labels: { "topology.kubernetes.io/region": "south" } } };
    expect(nodeFactsOf(node, [], true).region).to.equal("south");
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
