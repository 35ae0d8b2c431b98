import { expect } from "chai";
import type { RankConfig } from "../core/rank-config.ts";
import { valueOrThrow } from "../core/result.ts";
import { parseRankConfig } from "./parse-config.ts";

const CONFIG: RankConfig = {
  name: "default/chat-0-1-1",
  model: { name: "chat", source: { path: "models/demo" }, root: `sha256:${"0f".repeat(32)}` },
  layers: { start: 4, end: 8 },
  rankIndex: 1,
  sliceWeights: [2, 1],
  quantization: "int4",
  kvDtype: "f32",
  device: "cpu",
  contextLength: 1024,
  slotCount: 8,
  threadCount: 2,
  spin: false,
  provider: "campus",
  node: "campus-a1",
  neighbours: ["default/chat-0-0-0", "default/chat-0-1-0"],
  signer: "unix:/run/tessellate/signer.sock",
  listen: { host: "127.0.0.1", port: 0, metricsPort: 0 },
  tls: { caFile: "ca.crt", certificateFile: "tls.crt", keyFile: "tls.key" },
  cacheDirectory: "/var/cache/tessellate",
};

describe("a rank's configuration", () => {
  const sources = [
    { url: "https://models.test/chat" },
    { huggingFace: { repo: "a/b", revision: "main" } },
    { huggingFace: { repo: "a/b", revision: "main", endpoint: "https://hub.test" } },
    { persistentVolumeClaim: { claimName: "models", path: "chat" } },
  ];
  it("is read as it was written", () => {
    expect(valueOrThrow(parseRankConfig(JSON.stringify(CONFIG)))).to.deep.equal(CONFIG);
    for (const source of sources) {
      const config = {
        ...CONFIG,
        hubTokenFile: "/t",
        cacheBytes: 1 << 30,
        rehearsal: { bytesPerSecond: 1e9, rowBytesPerSecond: 1e12, sendDelayMs: 5 },
        fellows: [
          { name: "default/chat-1-1-0", address: "chat-1-1-0.chat.default.svc:7301" },
          { name: "default/chat-2-1-0", address: "file:/state/ranks/chat-2-1-0/address" },
        ],
        model: { ...CONFIG.model, source, mirrors: sources, manifestUrl: "https://m.test/x.json" },
      };
      expect(valueOrThrow(parseRankConfig(JSON.stringify(config)))).to.deep.equal(config);
    }
  });

  const wrong: readonly (readonly [field: string, change: object])[] = [
    ["config", { surprise: 1 }],
    ["name", { name: "chat" }],
    ["name", { name: "Default/chat-0-1-1" }],
    ["rankIndex", { rankIndex: 2 }],
    ["rankIndex", { rankIndex: 0 }],
    ["sliceWeights", { sliceWeights: [], rankIndex: 0 }],
    ["sliceWeights[1]", { sliceWeights: [1, 0] }],
    ["sliceWeights[0]", { sliceWeights: ["1", 1] }],
    ["layers.end", { layers: { start: 4, end: 4 } }],
    ["layers", { layers: [4, 8] }],
    ["quantization", { quantization: "int3" }],
    ["kvDtype", { kvDtype: "f16" }],
    ["device", { device: "the best" }],
    ["contextLength", { contextLength: 0 }],
    ["slotCount", { slotCount: 1.5 }],
    ["threadCount", { threadCount: -1 }],
    ["spin", { spin: "yes" }],
    ["provider", { provider: "" }],
    ["neighbours[0]", { neighbours: ["somebody"] }],
    ["signer", { signer: "http://signer" }],
    ["listen.port", { listen: { host: "127.0.0.1", port: 70_000, metricsPort: 0 } }],
    ["tls", { tls: { caFile: "a" } }],
    ["cacheDirectory", { cacheDirectory: "" }],
    ["model.root", { model: { ...CONFIG.model, root: "sha256:short" } }],
    ["model.source", { model: { ...CONFIG.model, source: { path: "a", url: "https://b.test" } } }],
    ["model.source", { model: { ...CONFIG.model, source: { ftp: "b" } } }],
    ["model.source", { model: { ...CONFIG.model, source: { url: "ftp://b.test" } } }],
    ["model.mirrors[1]", { model: { ...CONFIG.model, mirrors: [{ path: "a" }, { url: "ftp://b.test" }] } }],
    ["cacheBytes", { cacheBytes: -1 }],
    ["rehearsal.bytesPerSecond", { rehearsal: { bytesPerSecond: 0, rowBytesPerSecond: 1, sendDelayMs: 0 } }],
    ["rehearsal.sendDelayMs", { rehearsal: { bytesPerSecond: 1, rowBytesPerSecond: 1, sendDelayMs: 0.5 } }],
    ["fellows[0].address", { fellows: [{ name: "default/chat-1-1-0", address: "http://chat/" }] }],
    ["fellows[0].name", { fellows: [{ name: "somebody", address: "a:1" }] }],
    ["model.source.huggingFace", { model: { ...CONFIG.model, source: { huggingFace: { repo: "a/b" } } } }],
  ];
  for (const [field, change] of wrong)
    it(`is refused where ${field} is wrong: ${JSON.stringify(change).slice(0, 60)}`, () => {
      const refused = parseRankConfig(JSON.stringify({ ...CONFIG, ...change }));
      if (refused.ok) throw new Error("was taken");
      expect(refused.detail.slice(0, field.length + 1)).to.equal(`${field}:`);
    });

  it("is refused where it is no JSON", () => {
    expect(parseRankConfig("{")).to.include({ ok: false, code: "NotJson" });
    expect(parseRankConfig("[]")).to.include({ ok: false, code: "NotJson" });
  });
});
