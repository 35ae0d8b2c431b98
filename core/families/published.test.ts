/** Published models: read as their makers mean them, with exactly as many parameters as they count. */
import { expect } from "chai";
import type { TensorPlace } from "../family.ts";
import { type ModelConfig, parseModelConfig } from "../model-config.ts";
import { valueOrThrow } from "../result.ts";
import { storedTensors, tensorPlaces } from "../tensor-places.ts";
import { PUBLISHED_LLAMAS } from "./published-fixture.ts";
import { PUBLISHED_OTHERS } from "./published-others-fixture.ts";

const PUBLISHED = [...PUBLISHED_LLAMAS, ...PUBLISHED_OTHERS];

function published(name: string): ModelConfig {
  const model = PUBLISHED.find((each) => each.name === name);
  if (model === undefined) throw new Error(`no model ${name}`);
  return valueOrThrow(parseModelConfig(JSON.stringify(model.config)));
}

const rope = (theta: number, rotarySize: number, scaling: object = { kind: "none" }) => ({
  theta,
  rotarySize,
  scaling,
});
const llama3 = (factor: number) => ({
  kind: "llama3",
  factor,
  lowFrequencyFactor: 1,
  highFrequencyFactor: 4,
  originalPositions: 8192,
});
const yarn = {
  kind: "yarn",
  factor: 32,
  betaFast: 32,
  betaSlow: 1,
  originalPositions: 4096,
  attentionFactor: 0.1 * Math.log(32) + 1,
  truncate: false,
};
const longrope = {
  kind: "longrope",
  shortFactors: Array(48).fill(1.1),
  longFactors: Array(48).fill(1.5),
  originalPositions: 4096,
  attentionFactor: Math.sqrt(1 + Math.log(32) / Math.log(4096)),
};
const layers = (count: number, attention: (layer: number) => number, experts = false) =>
  Array.from({ length: count }, (_, layer) => ({ attention: attention(layer), experts }));
const allNorms = { attentionIn: true, attentionOut: true, ffnIn: true, ffnOut: true };

/** What tells each model from a plain Llama; layers are alike and without experts where `layerKinds` is not named. */
const MEANINGS: Readonly<Record<string, Partial<ModelConfig> | object>> = {
  "Llama-2-7b": { headSize: 128, attentionKinds: [{ rope: rope(10_000, 128) }], maxPositions: 4096 },
  "Llama-3.1-8B": {
    attentionKinds: [{ rope: rope(500_000, 128, llama3(8)) }],
    eosTokenIds: [128_001, 128_008, 128_009],
    bosTokenId: 128_000,
  },
  "Llama-3.2-1B": { attentionKinds: [{ rope: rope(500_000, 64, llama3(32)) }], tiedEmbeddings: true },
  "Mistral-7B-v0.1": { attentionKinds: [{ window: 4096, rope: rope(10_000, 128) }] },
  "Mistral-7B-v0.3": { attentionKinds: [{ rope: rope(1_000_000, 128) }], normEpsilon: 1e-5 },
  "Mistral-Nemo": { headSize: 128, headCount: 32, hiddenSize: 5120, attentionScale: 128 ** -0.5 },
  "Qwen2-7B": { qkvBias: true, attentionOutBias: false, attentionKinds: [{ rope: rope(1_000_000, 128) }] },
  "Qwen2.5-0.5B": { qkvBias: true, tiedEmbeddings: true, headSize: 64 },
  "Qwen3-0.6B": { qkNorm: "head", qkvBias: false, headSize: 128, tiedEmbeddings: true, eosTokenIds: [151_645] },
  "Qwen3-32B": { qkNorm: "head", headSize: 128, hiddenSize: 5120 },
  "gemma-2-2b": {
    tiedEmbeddings: true,
    attentionScale: 256 ** -0.5,
    attentionSoftcap: 50,
    logitSoftcap: 30,
    embeddingScale: 48,
    activation: { kind: "geluTanh" },
    norms: allNorms,
    attentionKinds: [{ window: 4096, rope: rope(10_000, 256) }, { rope: rope(10_000, 256) }],
    layerKinds: layers(26, (layer) => layer % 2),
    eosTokenIds: [1, 107],
  },
  "gemma-2-27b": {
    attentionScale: 144 ** -0.5,
    headSize: 128,
    embeddingScale: Math.fround(Math.sqrt(4608)),
    layerKinds: layers(46, (layer) => layer % 2),
  },
  "gemma-3-1b-it": {
    qkNorm: "head",
    norms: allNorms,
    attentionKinds: [{ window: 512, rope: rope(10_000, 256) }, { rope: rope(1_000_000, 256) }],
    layerKinds: layers(26, (layer) => (layer % 6 === 5 ? 1 : 0)),
    eosTokenIds: [1, 106],
  },
  "Phi-3-mini-4k": { headSize: 96, attentionKinds: [{ window: 2047, rope: rope(10_000, 96) }] },
  "Phi-3-mini-128k": { attentionKinds: [{ rope: rope(10_000, 96, longrope) }] },
  "Phi-4": { attentionKinds: [{ rope: rope(250_000, 128) }], kvHeadCount: 10, eosTokenIds: [100_265] },
  "Phi-4-mini": { headSize: 128, attentionKinds: [{ rope: rope(10_000, 96, longrope) }], tiedEmbeddings: true },
  "OLMo-2-7B": {
    qkNorm: "row",
    norms: { attentionIn: false, attentionOut: true, ffnIn: false, ffnOut: true },
    eosTokenIds: [100_257],
  },
  "granite-3.1-8b": {
    attentionScale: 0.0078125,
    embeddingScale: 12,
    residualScale: 0.22,
    logitScale: 1 / 16,
    eosTokenIds: [0],
    bosTokenId: 0,
  },
  "SmolLM3-3B": {
    attentionKinds: [{ rope: rope(5_000_000, 128) }, {}],
    layerKinds: layers(36, (layer) => (layer % 4 === 3 ? 1 : 0)),
    tiedEmbeddings: true,
  },
  "Mixtral-8x7B": {
    experts: { count: 8, perToken: 2, size: 14_336, weights: "softmaxOfChosen", routerBias: false, bias: false },
    layerKinds: layers(32, () => 0, true),
  },
  "Qwen3-30B-A3B": {
    experts: { count: 128, perToken: 8, size: 768, weights: "softmaxOfChosen", routerBias: false, bias: false },
    layerKinds: layers(48, () => 0, true),
    qkNorm: "head",
  },
  "gpt-oss-20b": {
    experts: { count: 32, perToken: 4, size: 2880, weights: "softmaxOfChosen", routerBias: true, bias: true },
    activation: { kind: "clampedSwiGlu", alpha: 1.702, limit: 7 },
    sinks: true,
    qkvBias: true,
    attentionOutBias: true,
    attentionKinds: [{ window: 128, rope: rope(150_000, 64, yarn) }, { rope: rope(150_000, 64, yarn) }],
    layerKinds: layers(24, (layer) => layer % 2, true),
    eosTokenIds: [200_002],
  },
  "gpt-oss-120b": {
    experts: { count: 128, perToken: 4, size: 2880, weights: "softmaxOfChosen", routerBias: true, bias: true },
    layerKinds: layers(36, (layer) => layer % 2, true),
  },
};

const product = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);

describe("published models", () => {
  for (const { name, parameterCount, config } of PUBLISHED) {
    it(`${name}: ${(parameterCount / 1e9).toFixed(2)} billion parameters, and what is peculiar to it`, () => {
      const read = published(name);
      expect(read.family).to.equal(config["model_type"]);
      expect(read).to.deep.include({ layerKinds: layers(read.layerCount, () => 0), ...MEANINGS[name] });
      const counted = storedTensors(read).reduce((sum, [, shape]) => sum + product(shape), 0);
      expect(counted).to.equal(parameterCount);
    });
  }

  it("have a place for every role once, of the shape that is stored there", () => {
    for (const { name } of PUBLISHED) {
      const places = tensorPlaces(published(name));
      expect(new Set(places.map(({ role }) => role)).size, name).to.equal(places.length);
      expect(places.find((place) => !fits(place))).to.equal(undefined, name);
    }
  });
});

/** Whether what a place says of the stored tensor leaves exactly its shape, and nothing past the end. */
function fits({ shape, storedShape, plane, transposed, rows }: TensorPlace): boolean {
  const axes = plane === undefined ? storedShape : storedShape.slice(1);
  const [storedRows = 0, ...columns] = transposed === true ? axes.toReversed() : axes;
  const [rowCount = 0, ...ownColumns] = shape;
  const isPlane = plane === undefined || (plane >= 0 && plane < (storedShape[0] ?? 0));
  const isRows = rows === undefined ? rowCount === storedRows : rows.start + (rowCount - 1) * rows.step < storedRows;
  return isPlane && isRows && columns.join() === ownColumns.join();
}

describe("tensor places", () => {
  const place = (name: string, role: string) => tensorPlaces(published(name)).find((each) => each.role === role);

  it("cut Phi's fused matrices by rows", () => {
    const qkv = { stored: "model.layers.3.self_attn.qkv_proj.weight", storedShape: [5120, 3072] };
    expect(place("Phi-4-mini", "layers.3.q.weight")).to.deep.include({ ...qkv, rows: { start: 0, step: 1 } });
    expect(place("Phi-4-mini", "layers.3.k.weight")).to.deep.include({ ...qkv, rows: { start: 3072, step: 1 } });
    expect(place("Phi-4-mini", "layers.3.v.weight")).to.deep.include({ ...qkv, rows: { start: 4096, step: 1 } });
    expect(place("Phi-4-mini", "layers.3.up.weight")).to.deep.include({
      stored: "model.layers.3.mlp.gate_up_proj.weight",
      rows: { start: 8192, step: 1 },
    });
  });

  it("take one of gpt-oss's experts out of a stack, gate and up by turns", () => {
    expect(place("gpt-oss-20b", "layers.1.experts.7.up.weight")).to.deep.equal({
      role: "layers.1.experts.7.up.weight",
      shape: [2880, 2880],
      stored: "model.layers.1.mlp.experts.gate_up_proj",
      storedShape: [32, 2880, 5760],
      plane: 7,
      transposed: true,
      rows: { start: 1, step: 2 },
    });
    expect(place("gpt-oss-20b", "layers.1.experts.7.down.bias")).to.deep.equal({
      role: "layers.1.experts.7.down.bias",
      shape: [2880],
      stored: "model.layers.1.mlp.experts.down_proj_bias",
      storedShape: [32, 2880],
      plane: 7,
    });
  });

  it("know each family's names for norms, and that Gemma's gains are less 1", () => {
    expect(place("gemma-2-2b", "layers.0.ffnIn.norm")).to.include({
      stored: "model.layers.0.pre_feedforward_layernorm.weight",
      add: 1,
    });
    expect(place("gemma-3-1b-it", "layers.0.q.norm")).to.deep.include({ shape: [256], add: 1 });
    expect(place("OLMo-2-7B", "layers.0.k.norm")).to.deep.include({ shape: [4096] });
    expect(place("OLMo-2-7B", "layers.0.attentionIn.norm")).to.equal(undefined);
    expect(place("Mixtral-8x7B", "layers.0.experts.1.up.weight")).to.include({
      stored: "model.layers.0.block_sparse_moe.experts.1.w3.weight",
    });
  });
});
