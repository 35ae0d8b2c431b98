/**
 * The config.json that a GGUF file's metadata amounts to, for folders that have none. Everything of the architecture's own
 * that is not understood is refused by name: llama.cpp would honour it. What metadata leaves out because llama.cpp has it
 * in its code (which layers slide, Gemma's query scale) is as the makers' own config.json has it.
 */
import { type JsonObject, shown } from "../../../core/json.ts";
import { type Result, ok, refuse } from "../../../core/result.ts";
import type { TensorEntry } from "../safetensors.ts";
import type { GgufValue } from "./header.ts";

export type GgufFacts = {
  readonly where: string; // the file, as people are shown it
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: ReadonlyMap<string, Pick<TensorEntry, "shape">>;
  /** The values of the small tensors that hold rotary factors, by name. */
  readonly factors: ReadonlyMap<string, Float32Array>;
};

export type GgufConfigCode = "MalformedTensors" | "UnknownModelType" | "UnsupportedOption";

/** Small tensors whose values belong into the configuration. */
export const FACTOR_TENSORS: readonly string[] = [
  "rope_freqs.weight",
  "rope_factors_long.weight",
  "rope_factors_short.weight",
];

type Architecture = {
  readonly modelType: string;
  readonly architecture: string;
  /** Keys that only this architecture has, without its name in front. */
  readonly keys?: readonly string[];
  readonly more?: (facts: Reader) => JsonObject;
};

const EXPERT_KEYS = ["expert_count", "expert_used_count", "expert_feed_forward_length"];

/** By general.architecture. */
const ARCHITECTURES: Readonly<Record<string, Architecture>> = {
  llama: { modelType: "llama", architecture: "LlamaForCausalLM", more: biases },
  qwen2: { modelType: "qwen2", architecture: "Qwen2ForCausalLM" },
  qwen3: { modelType: "qwen3", architecture: "Qwen3ForCausalLM" },
  qwen3moe: {
    modelType: "qwen3_moe",
    architecture: "Qwen3MoeForCausalLM",
    keys: EXPERT_KEYS,
    more: (facts) => ({
      ...expertCounts(facts, "num_experts"),
      moe_intermediate_size: facts.number("expert_feed_forward_length"),
      norm_topk_prob: true,
    }),
  },
  gemma2: {
    modelType: "gemma2",
    architecture: "Gemma2ForCausalLM",
    keys: ["attn_logit_softcapping", "final_logit_softcapping", "attention.sliding_window"],
    more: (facts) => ({
      ...gemma(facts, 46),
      sliding_window: facts.number("attention.sliding_window"),
      attn_logit_softcapping: facts.number("attn_logit_softcapping", 50),
      final_logit_softcapping: facts.number("final_logit_softcapping", 30),
    }),
  },
  gemma3: {
    modelType: "gemma3_text",
    architecture: "Gemma3ForCausalLM",
    keys: [
      "attention.sliding_window",
      "attention.sliding_window_pattern",
      "rope.freq_base_swa",
      "final_logit_softcapping",
    ],
    more: (facts) => ({
      ...gemma(facts, 62),
      sliding_window: facts.number("attention.sliding_window"),
      rope_local_base_freq: facts.number("rope.freq_base_swa", 10_000),
      ...slidingLayers(facts),
      ...(facts.has("final_logit_softcapping")
        ? { final_logit_softcapping: facts.number("final_logit_softcapping") }
        : {}),
    }),
  },
  phi3: { modelType: "phi3", architecture: "Phi3ForCausalLM", keys: ["attention.sliding_window"], more: phi },
  granite: {
    modelType: "granite",
    architecture: "GraniteForCausalLM",
    keys: ["embedding_scale", "residual_scale", "attention.scale", "logit_scale"],
    more: (facts) => ({
      embedding_multiplier: facts.number("embedding_scale", 1),
      residual_multiplier: facts.number("residual_scale", 1),
      attention_multiplier: facts.number("attention.scale", 1),
      logits_scaling: facts.number("logit_scale", 1),
      ...biases(facts),
    }),
  },
  olmo2: { modelType: "olmo2", architecture: "Olmo2ForCausalLM" },
  smollm3: { modelType: "smollm3", architecture: "SmolLM3ForCausalLM", more: () => ({ no_rope_layer_interval: 4 }) },
  "gpt-oss": {
    modelType: "gpt_oss",
    architecture: "GptOssForCausalLM",
    keys: [...EXPERT_KEYS, "attention.sliding_window"],
    more: (facts) => ({
      ...expertCounts(facts, "num_local_experts"),
      intermediate_size: facts.number("expert_feed_forward_length"),
      sliding_window: facts.number("attention.sliding_window"),
      attention_bias: true,
    }),
  },
};

const COMMON_KEYS: readonly string[] = [
  "block_count",
  "context_length",
  "embedding_length",
  "feed_forward_length",
  "vocab_size",
  "attention.head_count",
  "attention.head_count_kv",
  "attention.key_length",
  "attention.value_length",
  "attention.layer_norm_rms_epsilon",
  "attention.layer_norm_epsilon",
  "rope.freq_base",
  "rope.dimension_count",
  "rope.scaling.type",
  "rope.scaling.factor",
  "rope.scaling.attn_factor",
  "rope.scaling.original_context_length",
  "rope.scaling.finetuned",
  "rope.scaling.yarn_beta_fast",
  "rope.scaling.yarn_beta_slow",
];

/** config.json as an object; it goes through parseModelConfig like any other. */
export function ggufConfig(facts: GgufFacts): Result<JsonObject, GgufConfigCode> {
  const { where, metadata } = facts;
  const name = metadata.get("general.architecture");
  const known = typeof name === "string" && Object.hasOwn(ARCHITECTURES, name) ? ARCHITECTURES[name] : undefined;
  if (known === undefined || typeof name !== "string")
    return refuse(
      "UnknownModelType",
      `${where}: general.architecture is ${shown(name)}, read are: ${Object.keys(ARCHITECTURES).join(", ")}; ` +
        "choose a model of one of these, or put the model's own config.json beside it",
    );
  const reader = new Reader(facts, name);
  const isMixtral = name === "llama" && reader.number("expert_count", 0) > 0;
  const architecture = isMixtral ? MIXTRAL : known;
  const strange = reader.keys().find((key) => ![...COMMON_KEYS, ...ignorable(isMixtral, architecture)].includes(key));
  if (strange !== undefined)
    return refuse(
      "UnsupportedOption",
      `${where}: ${name}.${strange} is ${shown(metadata.get(`${name}.${strange}`))}, which is not understood; put the model's own config.json beside it`,
    );
  const config = { ...common(reader, architecture), ...architecture.more?.(reader) };
  return reader.refusal ?? ok(config);
}

const MIXTRAL: Architecture = {
  modelType: "mixtral",
  architecture: "MixtralForCausalLM",
  keys: EXPERT_KEYS,
  more: (facts) => expertCounts(facts, "num_local_experts"),
};

/** Dense Llamas say that they have no experts. */
const ignorable = (isMixtral: boolean, { modelType, keys = [] }: Architecture): readonly string[] =>
  !isMixtral && modelType === "llama" ? [...keys, "expert_count", "expert_used_count"] : keys;

/** Reads metadata of one architecture and remembers the first thing that is wrong. */
class Reader {
  readonly facts: GgufFacts;
  readonly architecture: string;
  readonly #prefix: string;
  refusal: ReturnType<typeof refuse<GgufConfigCode>> | undefined;

  constructor(facts: GgufFacts, architecture: string) {
    this.facts = facts;
    this.architecture = architecture;
    this.#prefix = `${architecture}.`;
  }

  keys(): readonly string[] {
    return [...this.facts.metadata.keys()]
      .filter((key) => key.startsWith(this.#prefix))
      .map((key) => key.slice(this.#prefix.length));
  }

  has(key: string): boolean {
    return this.facts.metadata.has(this.#prefix + key);
  }

  text(key: string): string | undefined {
    const value = this.facts.metadata.get(this.#prefix + key);
    return typeof value === "string" ? value : undefined;
  }

  /** A number, or a list of one and the same (some writers say it for every layer). */
  number(key: string, absent?: number): number {
    const value = this.facts.metadata.get(this.#prefix + key) ?? absent;
    if (typeof value === "number" && Number.isFinite(value)) return rounded(value);
    if (Array.isArray(value) && typeof value[0] === "number" && value.every((each) => each === value[0]))
      return rounded(value[0]);
    this.refuse("MalformedTensors", `${this.#prefix}${key} is ${shown(value)}, expected a number`);
    return 1;
  }

  refuse(code: GgufConfigCode, detail: string): void {
    this.refusal ??= refuse(
      code,
      `${this.facts.where}: ${detail}; convert the model again, or put its own config.json beside it`,
    );
  }
}

/** Metadata holds f32; the number that was meant has few digits (1e-5, not 0.000009999999747). */
const rounded = (value: number): number => (Number.isInteger(value) ? value : Number(value.toPrecision(7)));

function common(reader: Reader, { modelType, architecture }: Architecture): JsonObject {
  const { metadata, tensors } = reader.facts;
  const headCount = reader.number("attention.head_count");
  const hiddenSize = reader.number("embedding_length");
  const headSize = reader.number("attention.key_length", hiddenSize / headCount);
  if (reader.number("attention.value_length", headSize) !== headSize)
    reader.refuse("UnsupportedOption", "attention.value_length is not attention.key_length");
  const rotarySize = reader.number("rope.dimension_count", headSize);
  const ids = { bos_token_id: metadata.get("tokenizer.ggml.bos_token_id"), eos_token_id: eosIds(metadata) };
  return {
    architectures: [architecture],
    model_type: modelType,
    hidden_size: hiddenSize,
    intermediate_size: reader.number("feed_forward_length", 1),
    num_hidden_layers: reader.number("block_count"),
    num_attention_heads: headCount,
    num_key_value_heads: reader.number("attention.head_count_kv", headCount),
    ...(headSize * headCount === hiddenSize ? {} : { head_dim: headSize }),
    vocab_size: tensors.get("token_embd.weight")?.shape[0] ?? reader.number("vocab_size"),
    max_position_embeddings: reader.number("context_length"),
    rms_norm_eps: reader.number("attention.layer_norm_rms_epsilon"),
    rope_theta: reader.number("rope.freq_base", 10_000),
    ...(rotarySize === headSize ? {} : { partial_rotary_factor: rotarySize / headSize }),
    ...ropeScaling(reader, rotarySize),
    tie_word_embeddings: !tensors.has("output.weight"),
    bos_token_id: ids.bos_token_id ?? null,
    eos_token_id: ids.eos_token_id,
  };
}

/** Generation ends with the end of a turn as well. */
function eosIds(metadata: GgufFacts["metadata"]): readonly number[] {
  const ids = ["eos", "eot", "eom"].map((name) => metadata.get(`tokenizer.ggml.${name}_token_id`));
  return [...new Set(ids.filter((id): id is number => typeof id === "number"))];
}

function ropeScaling(reader: Reader, rotarySize: number): JsonObject {
  const { factors } = reader.facts;
  const long = factors.get("rope_factors_long.weight");
  const short = factors.get("rope_factors_short.weight");
  const original = () => reader.number("rope.scaling.original_context_length");
  if (long !== undefined && short !== undefined)
    return {
      original_max_position_embeddings: original(),
      rope_scaling: { rope_type: "longrope", long_factor: numbersOf(long), short_factor: numbersOf(short) },
    };
  const frequencies = factors.get("rope_freqs.weight");
  if (frequencies !== undefined) return llama3(reader, frequencies, rotarySize);
  const type = reader.text("rope.scaling.type") ?? "none";
  const factor = reader.number("rope.scaling.factor", 1);
  if (type === "none" || (type === "linear" && factor === 1)) return {};
  if (type === "linear") return { rope_scaling: { rope_type: "linear", factor } };
  if (type === "yarn")
    return {
      rope_scaling: {
        rope_type: "yarn",
        factor,
        original_max_position_embeddings: original(),
        beta_fast: reader.number("rope.scaling.yarn_beta_fast", 32),
        beta_slow: reader.number("rope.scaling.yarn_beta_slow", 1),
        ...(reader.architecture === "gpt-oss" ? { truncate: false } : {}),
      },
    };
  reader.refuse("UnsupportedOption", `rope.scaling.type is ${shown(type)}`);
  return {};
}

const numbersOf = (values: Float32Array): readonly number[] => Array.from(values, rounded);

/** Llama 3.1 and later, as published. */
const LLAMA3 = { low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 } as const;

/**
 * What each frequency is divided by, of which the settings are taken back: the lowest ones are divided by the whole
 * factor; where the other settings are the published ones, all others follow.
 */
function llama3(reader: Reader, divisors: Float32Array, rotarySize: number): JsonObject {
  const factor = Math.max(...divisors);
  const theta = reader.number("rope.freq_base", 10_000);
  const { low_freq_factor: low, high_freq_factor: high, original_max_position_embeddings: original } = LLAMA3;
  const expected = Array.from({ length: rotarySize / 2 }, (_, pair) => {
    const wavelength = 2 * Math.PI * theta ** ((2 * pair) / rotarySize);
    if (wavelength < original / high) return 1;
    if (wavelength > original / low) return factor;
    const smooth = (original / wavelength - low) / (high - low);
    return 1 / ((1 - smooth) / factor + smooth);
  });
  const fits =
    divisors.length === expected.length &&
    expected.every((value, pair) => Math.abs((divisors[pair] ?? 0) / value - 1) < 1e-4);
  if (!fits) reader.refuse("UnsupportedOption", "rope_freqs.weight is not what Llama 3's settings give");
  return { rope_scaling: { rope_type: "llama3", factor: rounded(factor), ...LLAMA3 } };
}

function biases({ facts: { tensors } }: Reader): JsonObject {
  return {
    attention_bias: tensors.has("blk.0.attn_q.bias"),
    ...(tensors.has("blk.0.ffn_up.bias") ? { mlp_bias: true } : {}),
  };
}

const expertCounts = (facts: Reader, name: string): JsonObject => ({
  [name]: facts.number("expert_count"),
  num_experts_per_tok: facts.number("expert_used_count"),
});

/** The largest Gemma of a generation scales queries by the hidden size over the heads, the others by the head's size. */
function gemma(facts: Reader, layerCountOfLargest: number): JsonObject {
  const headCount = facts.number("attention.head_count");
  const hiddenSize = facts.number("embedding_length");
  const isLargest = facts.number("block_count") === layerCountOfLargest;
  const headSize = facts.number("attention.key_length", hiddenSize / headCount);
  return {
    hidden_activation: "gelu_pytorch_tanh",
    head_dim: headSize,
    query_pre_attn_scalar: isLargest ? hiddenSize / headCount : headSize,
  };
}

/** Every so many layers one attends to all; or layer by layer, whether it slides. */
function slidingLayers(facts: Reader): JsonObject {
  const pattern = facts.facts.metadata.get(`${facts.architecture}.attention.sliding_window_pattern`);
  if (Array.isArray(pattern))
    return { layer_types: pattern.map((slides) => (slides ? "sliding_attention" : "full_attention")) };
  return pattern === undefined ? {} : { sliding_window_pattern: facts.number("attention.sliding_window_pattern") };
}

function phi(facts: Reader): JsonObject {
  const window = facts.number("attention.sliding_window", 0);
  const original = facts.number("rope.scaling.original_context_length", facts.number("context_length"));
  return { original_max_position_embeddings: original, ...(window > 0 ? { sliding_window: window } : {}) };
}
