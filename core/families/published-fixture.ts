/**
 * What the config.json files of published models say (facts alone, in the files' own words) and how many parameters their
 * makers count. Lists of LongRoPE factors, which no test here looks into, are shortened to one number repeated.
 */

export type PublishedModel = {
  readonly name: string;
  readonly parameterCount: number;
  readonly config: { readonly [option: string]: unknown };
};

const common = { use_cache: true, initializer_range: 0.02, attention_dropout: 0, transformers_version: "4.40.0" };

export const sizes = (
  vocab_size: number,
  hidden_size: number,
  intermediate_size: number,
  num_hidden_layers: number,
  num_attention_heads: number,
  num_key_value_heads: number,
) => ({
  ...common,
  vocab_size,
  hidden_size,
  intermediate_size,
  num_hidden_layers,
  num_attention_heads,
  num_key_value_heads,
});

const llama = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  hidden_act: "silu",
  rms_norm_eps: 1e-5,
  pretraining_tp: 1,
  tie_word_embeddings: false,
};
const llama3 = {
  ...llama,
  attention_bias: false,
  mlp_bias: false,
  max_position_embeddings: 131_072,
  rope_theta: 500_000,
  bos_token_id: 128_000,
  eos_token_id: [128_001, 128_008, 128_009],
};
const llama3Scaling = {
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 8192,
  rope_type: "llama3",
};
const mistral = {
  architectures: ["MistralForCausalLM"],
  model_type: "mistral",
  hidden_act: "silu",
  rms_norm_eps: 1e-5,
  tie_word_embeddings: false,
  bos_token_id: 1,
  eos_token_id: 2,
};
const qwen2 = {
  architectures: ["Qwen2ForCausalLM"],
  model_type: "qwen2",
  hidden_act: "silu",
  rms_norm_eps: 1e-6,
  rope_theta: 1_000_000,
  use_sliding_window: false,
  bos_token_id: 151_643,
  eos_token_id: 151_643,
};
const qwen3 = {
  hidden_act: "silu",
  rms_norm_eps: 1e-6,
  rope_theta: 1_000_000,
  rope_scaling: null,
  head_dim: 128,
  attention_bias: false,
  max_position_embeddings: 40_960,
  sliding_window: null,
  use_sliding_window: false,
  bos_token_id: 151_643,
  eos_token_id: 151_645,
};
const gptOss = {
  architectures: ["GptOssForCausalLM"],
  model_type: "gpt_oss",
  hidden_act: "silu",
  rms_norm_eps: 1e-5,
  attention_bias: true,
  head_dim: 64,
  experts_per_token: 4,
  num_experts_per_tok: 4,
  initial_context_length: 4096,
  max_position_embeddings: 131_072,
  output_router_logits: false,
  router_aux_loss_coef: 0.9,
  rope_theta: 150_000,
  rope_scaling: {
    beta_fast: 32,
    beta_slow: 1,
    factor: 32,
    original_max_position_embeddings: 4096,
    rope_type: "yarn",
    truncate: false,
  },
  sliding_window: 128,
  swiglu_limit: 7,
  tie_word_embeddings: false,
  eos_token_id: 200_002,
  pad_token_id: 199_999,
  quantization_config: { quant_method: "mxfp4", modules_to_not_convert: ["lm_head"] },
};
const alternating = (count: number) =>
  Array.from({ length: count }, (_, layer) => (layer % 2 === 0 ? "sliding_attention" : "full_attention"));

export const PUBLISHED_LLAMAS: readonly PublishedModel[] = [
  {
    name: "Llama-2-7b",
    parameterCount: 6_738_415_616,
    config: {
      ...llama,
      ...sizes(32_000, 4096, 11_008, 32, 32, 32),
      max_position_embeddings: 4096,
      rope_scaling: null,
      bos_token_id: 1,
      eos_token_id: 2,
    },
  },
  {
    name: "Llama-3.1-8B",
    parameterCount: 8_030_261_248,
    config: { ...llama3, ...sizes(128_256, 4096, 14_336, 32, 32, 8), rope_scaling: { factor: 8, ...llama3Scaling } },
  },
  {
    name: "Llama-3.2-1B",
    parameterCount: 1_235_814_400,
    config: {
      ...llama3,
      ...sizes(128_256, 2048, 8192, 16, 32, 8),
      head_dim: 64,
      rope_scaling: { factor: 32, ...llama3Scaling },
      tie_word_embeddings: true,
    },
  },
  {
    name: "Mistral-7B-v0.1",
    parameterCount: 7_241_732_096,
    config: {
      ...mistral,
      ...sizes(32_000, 4096, 14_336, 32, 32, 8),
      max_position_embeddings: 32_768,
      rope_theta: 10_000,
      sliding_window: 4096,
    },
  },
  {
    name: "Mistral-7B-v0.3",
    parameterCount: 7_248_023_552,
    config: {
      ...mistral,
      ...sizes(32_768, 4096, 14_336, 32, 32, 8),
      max_position_embeddings: 32_768,
      rope_theta: 1_000_000,
      sliding_window: null,
    },
  },
  {
    name: "Mistral-Nemo",
    parameterCount: 12_247_782_400,
    config: {
      ...mistral,
      ...sizes(131_072, 5120, 14_336, 40, 32, 8),
      head_dim: 128,
      max_position_embeddings: 1_024_000,
      rope_theta: 1_000_000,
      sliding_window: null,
    },
  },
  {
    name: "Qwen2-7B",
    parameterCount: 7_615_616_512,
    config: {
      ...qwen2,
      ...sizes(152_064, 3584, 18_944, 28, 28, 4),
      max_position_embeddings: 131_072,
      max_window_layers: 28,
      sliding_window: 131_072,
      tie_word_embeddings: false,
    },
  },
  {
    name: "Qwen2.5-0.5B",
    parameterCount: 494_032_768,
    config: {
      ...qwen2,
      ...sizes(151_936, 896, 4864, 24, 14, 2),
      max_position_embeddings: 32_768,
      max_window_layers: 24,
      sliding_window: 32_768,
      use_mrope: false,
      tie_word_embeddings: true,
    },
  },
  {
    name: "Qwen3-0.6B",
    parameterCount: 596_049_920,
    config: {
      architectures: ["Qwen3ForCausalLM"],
      model_type: "qwen3",
      ...qwen3,
      ...sizes(151_936, 1024, 3072, 28, 16, 8),
      max_window_layers: 28,
      tie_word_embeddings: true,
    },
  },
  {
    name: "Qwen3-32B",
    parameterCount: 32_762_123_264,
    config: {
      architectures: ["Qwen3ForCausalLM"],
      model_type: "qwen3",
      ...qwen3,
      ...sizes(151_936, 5120, 25_600, 64, 64, 8),
      max_window_layers: 64,
      tie_word_embeddings: false,
    },
  },
  {
    name: "Mixtral-8x7B",
    parameterCount: 46_702_792_704,
    config: {
      ...mistral,
      architectures: ["MixtralForCausalLM"],
      model_type: "mixtral",
      ...sizes(32_000, 4096, 14_336, 32, 32, 8),
      max_position_embeddings: 32_768,
      num_experts_per_tok: 2,
      num_local_experts: 8,
      output_router_logits: false,
      rope_theta: 1_000_000,
      router_aux_loss_coef: 0.02,
      sliding_window: null,
    },
  },
  {
    name: "Qwen3-30B-A3B",
    parameterCount: 30_532_122_624,
    config: {
      architectures: ["Qwen3MoeForCausalLM"],
      model_type: "qwen3_moe",
      ...qwen3,
      ...sizes(151_936, 2048, 6144, 48, 32, 4),
      decoder_sparse_step: 1,
      max_window_layers: 48,
      mlp_only_layers: [],
      moe_intermediate_size: 768,
      norm_topk_prob: true,
      num_experts: 128,
      num_experts_per_tok: 8,
      tie_word_embeddings: false,
    },
  },
  {
    name: "gpt-oss-20b",
    parameterCount: 20_914_757_184,
    config: {
      ...gptOss,
      ...sizes(201_088, 2880, 2880, 24, 64, 8),
      num_local_experts: 32,
      layer_types: alternating(24),
    },
  },
  {
    name: "gpt-oss-120b",
    parameterCount: 116_829_156_672,
    config: {
      ...gptOss,
      ...sizes(201_088, 2880, 2880, 36, 64, 8),
      num_local_experts: 128,
      layer_types: alternating(36),
    },
  },
];
