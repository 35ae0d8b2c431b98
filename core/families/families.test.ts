/** Each family's options in every spelling, and what it refuses by name. */
import { expect } from "chai";
import fc from "fast-check";
import { type ModelConfig, parseModelConfig } from "../model-config.ts";
import { valueOrThrow } from "../result.ts";
import { tensorPlaces } from "../tensor-places.ts";
import { FAMILIES } from "./all.ts";
import { NEUTRAL } from "./options.ts";

const SIZES = {
  hidden_size: 64,
  intermediate_size: 96,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 16,
  vocab_size: 100,
  max_position_embeddings: 256,
  num_local_experts: 8,
  num_experts_per_tok: 2,
};

/** Families without experts refuse experts. */
function textOf(modelType: string, changes: object): string {
  const { num_local_experts: _count, ...dense } = SIZES;
  const withExperts = ["mixtral", "qwen3_moe", "gpt_oss"].includes(modelType);
  return JSON.stringify({ model_type: modelType, ...(withExperts ? SIZES : dense), ...changes });
}
const parsed = (modelType: string, changes: object) => parseModelConfig(textOf(modelType, changes));
const read = (modelType: string, changes: object) => valueOrThrow(parsed(modelType, changes));

/** Layers in short: window (- for none), r where q and k turn, E where there are experts. */
const layersIn = ({ layerKinds, attentionKinds }: ModelConfig): string =>
  layerKinds
    .map(({ attention, experts }) => {
      const kind = attentionKinds[attention];
      return `${kind?.window ?? "-"}${kind?.rope === undefined ? "" : "r"}${experts ? "E" : ""}`;
    })
    .join(" ");

describe("layers by family", () => {
  const types = ["full_attention", "sliding_attention", "full_attention", "sliding_attention"];
  const cases: readonly (readonly [modelType: string, changes: object, layers: string])[] = [
    ["llama", {}, "-r -r -r -r"],
    ["mistral", {}, "-r -r -r -r"], // 4096 by default, longer than the context
    ["mistral", { sliding_window: 8 }, "8r 8r 8r 8r"],
    ["mistral", { sliding_window: 256 }, "-r -r -r -r"],
    ["mistral", { sliding_window: null }, "-r -r -r -r"],
    ["qwen2", { sliding_window: 8, max_window_layers: 1 }, "-r -r -r -r"],
    ["qwen2", { use_sliding_window: true, sliding_window: 8, max_window_layers: 3 }, "-r -r -r 8r"],
    ["qwen2", { use_sliding_window: true, sliding_window: 8, max_window_layers: 0 }, "8r 8r 8r 8r"],
    ["qwen2", { use_sliding_window: true, sliding_window: 8 }, "-r -r -r -r"],
    ["qwen3", { use_sliding_window: true, sliding_window: 8, layer_types: types }, "-r 8r -r 8r"],
    ["qwen3", { use_sliding_window: true, sliding_window: null, max_window_layers: 1 }, "-r -r -r -r"],
    ["gemma2", { sliding_window: 8 }, "8r -r 8r -r"],
    ["gemma2", { sliding_window: 8, layer_types: types }, "-r 8r -r 8r"],
    ["gemma3_text", { sliding_window: 8 }, "8r 8r 8r 8r"],
    ["gemma3_text", { sliding_window: 8, sliding_window_pattern: 3 }, "8r 8r -r 8r"],
    ["gemma3_text", { sliding_window: 8, sliding_window_pattern: 3, layer_types: types }, "-r 8r -r 8r"],
    ["phi3", { sliding_window: 8 }, "8r 8r 8r 8r"],
    ["olmo2", {}, "-r -r -r -r"],
    ["granite", {}, "-r -r -r -r"],
    ["smollm3", {}, "-r -r -r -"],
    ["smollm3", { no_rope_layer_interval: 2 }, "-r - -r -"],
    ["smollm3", { no_rope_layers: [0, 1, 1, 0] }, "- -r -r -"],
    ["smollm3", { use_sliding_window: true, sliding_window: 8 }, "-r -r -r 8"],
    ["smollm3", { use_sliding_window: true, sliding_window: 8, layer_types: types }, "-r 8r -r 8"],
    ["smollm3", { sliding_window: 8 }, "-r -r -r -"],
    ["mixtral", {}, "-rE -rE -rE -rE"],
    ["mixtral", { sliding_window: 8 }, "8rE 8rE 8rE 8rE"],
    ["qwen3_moe", {}, "-rE -rE -rE -rE"],
    ["qwen3_moe", { decoder_sparse_step: 2 }, "-r -rE -r -rE"],
    ["qwen3_moe", { mlp_only_layers: [0, 3] }, "-r -rE -rE -r"],
    ["qwen3_moe", { use_sliding_window: true, sliding_window: 8, max_window_layers: 4 }, "8rE 8rE 8rE 8rE"],
    ["gpt_oss", { sliding_window: 8 }, "8rE -rE 8rE -rE"],
    ["gpt_oss", { sliding_window: 8, layer_types: types }, "-rE 8rE -rE 8rE"],
  ];
  for (const [modelType, changes, layers] of cases)
    it(`${modelType} ${JSON.stringify(changes)}: ${layers}`, () =>
      expect(layersIn(read(modelType, changes))).to.equal(layers));
});

describe("ropes by family", () => {
  const ropesOf = (modelType: string, changes: object) =>
    read(modelType, changes).attentionKinds.map(({ rope }) => rope?.theta ?? "none");

  it("have each family's own theta where none is given", () => {
    for (const { modelType } of FAMILIES) {
      const own: Readonly<Record<string, readonly unknown[]>> = {
        gemma3_text: [10_000],
        smollm3: [2_000_000, "none"],
        mixtral: [1_000_000],
        gpt_oss: [150_000, 150_000],
        gemma2: [10_000],
      };
      expect(ropesOf(modelType, {}), modelType).to.deep.equal(own[modelType] ?? [10_000]);
    }
  });

  it("of Gemma 3 are two, in both spellings", () => {
    const pattern = { sliding_window: 8, sliding_window_pattern: 2 };
    const scaling = { rope_scaling: { rope_type: "linear", factor: 8 } };
    const older = read("gemma3_text", { ...pattern, ...scaling, rope_theta: 5, rope_local_base_freq: 3 });
    const newer = read("gemma3_text", {
      ...pattern,
      rope_parameters: {
        full_attention: { rope_type: "linear", factor: 8, rope_theta: 5 },
        sliding_attention: { rope_type: "default", rope_theta: 3 },
      },
    });
    expect(newer).to.deep.equal(older);
    expect(older.attentionKinds).to.deep.equal([
      { window: 8, rope: { theta: 3, rotarySize: 16, scaling: { kind: "none" } } },
      { rope: { theta: 5, rotarySize: 16, scaling: { kind: "linear", factor: 8 } } },
    ]);
  });

  const scalingOf = (modelType: string, changes: object) => read(modelType, changes).attentionKinds[0]?.rope?.scaling;

  it("stretch by YaRN as its settings say, and as the paper does where they are silent", () => {
    const yarn = { kind: "yarn", factor: 4, betaFast: 32, betaSlow: 1, originalPositions: 64, truncate: true };
    const settings = { rope_type: "yarn", factor: 4, original_max_position_embeddings: 64 };
    const at = (changes: object) => scalingOf("qwen2", { rope_scaling: { ...settings, ...changes } });
    const grown = (scale: number) => 0.1 * scale * Math.log(4) + 1;
    expect(at({})).to.deep.equal({ ...yarn, attentionFactor: grown(1) });
    expect(at({ attention_factor: 1.5, beta_fast: 16 })).to.deep.equal({ ...yarn, attentionFactor: 1.5, betaFast: 16 });
    expect(at({ mscale: 0.5, mscale_all_dim: 2 })).to.deep.include({ attentionFactor: grown(0.5) / grown(2) });
    expect(at({ mscale: 0, mscale_all_dim: 2 })).to.deep.include({ attentionFactor: grown(1) });
    expect(at({ factor: null })).to.deep.include({ factor: 4 }); // 256 positions of 64
  });

  it("of Phi take the outer original length, older names and part of a head", () => {
    const factors = { short_factor: [1, 2, 3, 4, 5, 6], long_factor: [6, 5, 4, 3, 2, 1] };
    const changes = { partial_rotary_factor: 0.75, original_max_position_embeddings: 64 };
    for (const type of ["su", "yarn", "longrope"]) {
      const config = read("phi3", { ...changes, rope_scaling: { type, ...factors } });
      expect(config.attentionKinds[0]?.rope).to.deep.equal({
        theta: 10_000,
        rotarySize: 12,
        scaling: {
          kind: "longrope",
          shortFactors: [1, 2, 3, 4, 5, 6],
          longFactors: [6, 5, 4, 3, 2, 1],
          originalPositions: 64,
          attentionFactor: Math.sqrt(1 + Math.log(4) / Math.log(64)),
        },
      });
    }
  });
});

describe("options by family", () => {
  it("differ in what is silent: null switches off, absent does not", () => {
    expect(read("gemma2", {})).to.include({ attentionSoftcap: 50, logitSoftcap: 30, tiedEmbeddings: true });
    expect(read("gemma2", { attn_logit_softcapping: null, final_logit_softcapping: null })).to.not.have.any.keys(
      "attentionSoftcap",
      "logitSoftcap",
    );
    expect(read("mistral", { num_attention_heads: 8, num_key_value_heads: undefined }).kvHeadCount).to.equal(8);
    expect(read("llama", { num_key_value_heads: null }).kvHeadCount).to.equal(4);
    expect(read("qwen3", { head_dim: undefined }).headSize).to.equal(128);
    expect(read("qwen3_moe", { head_dim: undefined }).headSize).to.equal(16);
    expect(read("gpt_oss", {})).to.include({ qkvBias: true, attentionOutBias: true, sinks: true });
  });

  it("of experts: weights by norm_topk_prob, count by either name", () => {
    expect(read("qwen3_moe", {}).experts).to.include({ count: 8, perToken: 2, size: 768, weights: "chosenOfSoftmax" });
    const renamed = { num_local_experts: undefined, num_experts: 6, norm_topk_prob: true, moe_intermediate_size: 32 };
    expect(read("qwen3_moe", renamed).experts).to.include({ count: 6, size: 32, weights: "softmaxOfChosen" });
  });

  it("add biases where attention_bias and mlp_bias are honoured", () => {
    const biases = (modelType: string, changes: object) =>
      tensorPlaces(read(modelType, changes))
        .filter(({ role }) => role.startsWith("layers.0.") && role.endsWith("bias"))
        .map(({ role }) => role.split(".")[2])
        .join("");
    expect(biases("llama", { attention_bias: true, mlp_bias: true })).to.equal("qkvogateupdown");
    expect(biases("qwen2", {})).to.equal("qkv");
    expect(biases("olmo2", { attention_bias: true })).to.equal("qkvo");
    expect(biases("smollm3", { mlp_bias: true })).to.equal("gateupdown");
  });

  const refused: readonly (readonly [modelType: string, changes: object, ...names: string[]])[] = [
    ["llama", { partial_rotary_factor: 0.5 }, "partial_rotary_factor is 0.5"],
    ["llama", { rope_scaling: { rope_type: "linear", factor: 2, partial_rotary_factor: 0.5 } }, "rope_scaling.partial"],
    ["llama", { rope_parameters: { full_attention: {} } }, "rope_parameters.full_attention"],
    ["mistral", { attention_bias: true }, "attention_bias"],
    ["mistral", { sliding_window: 8, layer_types: ["full_attention"] }, "layer_types"],
    ["qwen2", { layer_types: Array(4).fill("sliding_attention") }, "layer_types", "use_sliding_window"],
    ["qwen2", { layer_types: ["full_attention"] }, "layer_types has 1 entries"],
    ["qwen2", { use_mrope: true }, "use_mrope"],
    ["qwen3", { layer_types: Array(4).fill("chunked_attention") }, "chunked_attention"],
    ["gemma2", { hidden_activation: "relu" }, "hidden_activation", "relu"],
    ["gemma2", { sliding_window: null }, "sliding_window"],
    ["gemma2", { use_bidirectional_attention: true }, "use_bidirectional_attention"],
    ["gemma3_text", { rope_parameters: { rope_theta: 1 } }, "rope_parameters.rope_theta"],
    ["gemma3_text", { attn_logit_softcapping: 50 }, "attn_logit_softcapping"],
    ["phi3", { partial_rotary_factor: 0.6 }, "partial_rotary_factor 0.6"],
    ["phi3", { rope_scaling: { type: "longrope", short_factor: [1], long_factor: [1] } }, "rope_scaling.short_factor"],
    ["phi3", { lm_head_bias: true }, "lm_head_bias"],
    ["smollm3", { no_rope_layers: [1, 0] }, "no_rope_layers"],
    ["smollm3", { layer_types: Array(4).fill("sliding_attention") }, "layer_types"],
    ["mixtral", { num_experts_per_tok: 9 }, "num_experts_per_tok"],
    ["mixtral", { num_hidden_layers: 4096, num_local_experts: 4096 }, "4096 experts in 4096 layers"],
    ["qwen3_moe", { mlp_only_layers: 3 }, "mlp_only_layers"],
    ["qwen3_moe", { shared_expert_intermediate_size: 5 }, "shared_expert_intermediate_size"],
    ["gpt_oss", { hidden_act: "gelu" }, "hidden_act"],
    ["gpt_oss", { architectures: ["GptOssForSequenceClassification"] }, "architectures"],
  ];
  for (const [modelType, changes, ...names] of refused)
    it(`${modelType} refuses ${JSON.stringify(changes).slice(0, 80)}`, () => {
      const result = parsed(modelType, changes);
      if (result.ok) throw new Error("was taken");
      for (const name of ["config.json: ", ...names]) expect(result.detail).to.include(name);
    });

  it("whatever they say, are read or refused, never thrown over", () => {
    const options = ["rope_scaling", "rope_parameters", "layer_types", "no_rope_layers", "mlp_only_layers"];
    const option = fc.constantFrom(...Object.keys(SIZES), ...Object.keys(NEUTRAL), ...options);
    const family = fc.constantFrom(...FAMILIES.map(({ modelType }) => modelType));
    fc.assert(
      fc.property(family, option, fc.jsonValue(), (modelType, name, value) => {
        const result = parsed(modelType, { [name]: value });
        if (result.ok && result.value.layerCount < 100) tensorPlaces(result.value);
      }),
    );
  });
});
