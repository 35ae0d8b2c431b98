import { expect } from "chai";
import fc from "fast-check";
import { parseModelConfig } from "./model-config.ts";

const LLAMA = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  hidden_act: "silu",
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 4,
  num_attention_heads: 8,
  num_key_value_heads: 2,
  vocab_size: 1000,
  rms_norm_eps: 1e-5,
  max_position_embeddings: 512,
  rope_theta: 500_000,
  eos_token_id: [2, 7],
  bos_token_id: 1,
};

const parsed = (changes: object) => parseModelConfig(JSON.stringify({ ...LLAMA, ...changes }));
function read(changes: object) {
  const result = parsed(changes);
  if (!result.ok) throw new Error(result.detail);
  return result.value;
}

describe("config.json", () => {
  it("is read into our words", () => {
    expect(read({})).to.deep.equal({
      family: "llama",
      hiddenSize: 64,
      layerCount: 4,
      headCount: 8,
      kvHeadCount: 2,
      headSize: 8,
      ffnSize: 128,
      vocabularySize: 1000,
      normEpsilon: 1e-5,
      tiedEmbeddings: false,
      maxPositions: 512,
      attentionKinds: [{ rope: { theta: 500_000, rotarySize: 8, scaling: { kind: "none" } } }],
      layerKinds: Array(4).fill({ attention: 0, experts: false }),
      attentionScale: 8 ** -0.5,
      sinks: false,
      qkvBias: false,
      attentionOutBias: false,
      mlpBias: false,
      norms: { attentionIn: true, attentionOut: false, ffnIn: true, ffnOut: false },
      activation: { kind: "silu" },
      embeddingScale: 1,
      residualScale: 1,
      logitScale: 1,
      eosTokenIds: [2, 7],
      bosTokenId: 1,
    });
  });

  it("has the defaults of its makers where it says nothing", () => {
    const config = read({
      num_key_value_heads: undefined,
      rms_norm_eps: undefined,
      rope_theta: undefined,
      head_dim: null,
      eos_token_id: undefined,
    });
    expect(config).to.include({ kvHeadCount: 8, normEpsilon: 1e-6, headSize: 8 });
    expect(config.attentionKinds[0]?.rope?.theta).to.equal(10_000);
    expect(config.eosTokenIds).to.deep.equal([2]);
  });

  const llama3 = { factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 };
  const stretched = {
    kind: "llama3",
    factor: 8,
    lowFrequencyFactor: 1,
    highFrequencyFactor: 4,
    originalPositions: 8192,
  };
  const ropes = [
    { name: "no scaling", changes: { rope_scaling: null }, theta: 500_000, scaling: { kind: "none" } },
    {
      name: "earliest spelling",
      changes: { rope_scaling: { type: "linear", factor: 4 } },
      theta: 500_000,
      scaling: { kind: "linear", factor: 4 },
    },
    {
      name: "v4 spelling",
      changes: { rope_scaling: { rope_type: "llama3", ...llama3 } },
      theta: 500_000,
      scaling: stretched,
    },
    {
      name: "v5 spelling",
      changes: { rope_parameters: { rope_theta: 7, rope_type: "llama3", ...llama3 } },
      theta: 7,
      scaling: stretched,
    },
    {
      name: "v5 default",
      changes: { rope_theta: undefined, rope_parameters: { rope_theta: 9, rope_type: "default" } },
      theta: 9,
      scaling: { kind: "none" },
    },
  ];
  for (const { name, changes, theta, scaling } of ropes)
    it(`reads rotary settings: ${name}`, () =>
      expect(read(changes).attentionKinds[0]?.rope).to.deep.equal({ theta, rotarySize: 8, scaling }));

  it("drops end tokens that can never come, and takes null for none", () => {
    expect(read({ eos_token_id: [2, 1000, -1] }).eosTokenIds).to.deep.equal([2]);
    expect(read({ eos_token_id: null, bos_token_id: null }))
      .to.deep.include({ eosTokenIds: [] })
      .and.not.have.property("bosTokenId");
  });

  const refused = [
    { changes: { model_type: "opt" }, code: "UnknownModelType", names: ["model_type", "opt", "llama, mistral"] },
    { changes: { model_type: "gemma3" }, code: "UnknownModelType", names: ["gemma3", "pictures", "gemma3_text"] },
    { changes: { model_type: undefined }, code: "UnknownModelType", names: ["model_type", "nothing"] },
    {
      changes: { architectures: ["LlamaForSequenceClassification"] },
      code: "UnsupportedOption",
      names: ["architectures"],
    },
    { changes: { hidden_act: "gelu" }, code: "UnsupportedOption", names: ["hidden_act", "gelu", "silu"] },
    { changes: { pretraining_tp: 2 }, code: "UnsupportedOption", names: ["pretraining_tp"] },
    {
      changes: { quantization_config: { quant_method: "bitsandbytes" } },
      code: "UnsupportedOption",
      names: ["quantization_config.quant_method", "unquantised"],
    },
    { changes: { sliding_window: 4096 }, code: "UnsupportedOption", names: ["sliding_window", "4096"] },
    {
      changes: { layer_types: ["full_attention", "sliding_attention"] },
      code: "UnsupportedOption",
      names: ["layer_types"],
    },
    { changes: { num_local_experts: 8 }, code: "UnsupportedOption", names: ["num_local_experts"] },
    {
      changes: { rope_scaling: { rope_type: "dynamic", factor: 4 } },
      code: "UnsupportedOption",
      names: ["rope_scaling.rope_type", "dynamic"],
    },
    { changes: { rope_scaling: { rope_type: "linear" } }, code: "MalformedConfig", names: ["rope_scaling.factor"] },
    { changes: { rope_scaling: "linear" }, code: "MalformedConfig", names: ["rope_scaling"] },
    {
      changes: { rope_parameters: { rope_type: "llama3", ...llama3, high_freq_factor: 1 } },
      code: "MalformedConfig",
      names: ["rope_parameters.high_freq_factor"],
    },
    { changes: { hidden_size: undefined }, code: "MalformedConfig", names: ["hidden_size", "nothing"] },
    { changes: { hidden_size: "64" }, code: "MalformedConfig", names: ["hidden_size"] },
    { changes: { num_hidden_layers: 0 }, code: "MalformedConfig", names: ["num_hidden_layers", "0"] },
    { changes: { num_hidden_layers: 1e9 }, code: "MalformedConfig", names: ["num_hidden_layers"] },
    { changes: { num_attention_heads: 7 }, code: "MalformedConfig", names: ["head_dim"] },
    { changes: { num_key_value_heads: 3 }, code: "MalformedConfig", names: ["num_key_value_heads 3"] },
    { changes: { head_dim: 7 }, code: "MalformedConfig", names: ["head_dim 7"] },
    { changes: { rms_norm_eps: -1 }, code: "MalformedConfig", names: ["rms_norm_eps"] },
    { changes: { tie_word_embeddings: "yes" }, code: "MalformedConfig", names: ["tie_word_embeddings"] },
    { changes: { eos_token_id: "</s>" }, code: "MalformedConfig", names: ["eos_token_id"] },
  ];
  for (const { changes, code, names } of refused)
    it(`refuses ${JSON.stringify(changes)} as ${code}`, () => {
      const result = parsed(changes);
      if (result.ok) throw new Error("was taken");
      expect(result.code).to.equal(code);
      for (const name of ["config.json", ...names]) expect(result.detail).to.include(name);
    });

  it("never throws, whatever the text", () => {
    fc.assert(fc.property(fc.oneof(fc.string(), fc.json()), (text) => !parseModelConfig(text).ok));
    const fields = fc.constantFrom(...Object.keys(LLAMA), "rope_scaling", "rope_parameters", "head_dim", "layer_types");
    fc.assert(fc.property(fields, fc.jsonValue(), (field, value) => void parsed({ [field]: value })));
  });
});
