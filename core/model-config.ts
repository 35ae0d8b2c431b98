/**
 * What a checkpoint's config.json says about its arithmetic, in our words. Anything that would change the arithmetic and
 * that the engine does not do is refused by name: a model that runs but answers differently from its makers' code is
 * worse than one that does not run. Defaults are those of Hugging Face transformers' LlamaConfig; both its spellings of
 * the rotary settings are read (`rope_theta` + `rope_scaling` up to v4, `rope_parameters` from v5 on).
 */
import { type JsonObject, isJsonObject, parseJson, shown } from "./json.ts";
import { type Refusal, type Result, ok, refuse } from "./result.ts";

/** How rotary frequencies are stretched. `llama3` is the frequency-dependent form of Llama 3.1. */
export type RopeScaling =
  | { readonly kind: "none" }
  | { readonly kind: "linear"; readonly factor: number }
  | {
      readonly kind: "llama3";
      readonly factor: number;
      readonly lowFrequencyFactor: number;
      readonly highFrequencyFactor: number;
      readonly originalPositions: number;
    };

export type ModelConfig = {
  readonly family: "llama";
  readonly hiddenSize: number;
  readonly layerCount: number;
  readonly headCount: number; // query heads, a multiple of kvHeadCount
  readonly kvHeadCount: number;
  readonly headSize: number; // even; headCount × headSize need not be hiddenSize
  readonly ffnSize: number;
  readonly vocabularySize: number;
  readonly normEpsilon: number;
  readonly rope: { readonly theta: number; readonly scaling: RopeScaling };
  readonly tiedEmbeddings: boolean; // the head is the embedding
  readonly maxPositions: number;
  readonly attentionBias: boolean; // on q, k, v and o projections
  readonly mlpBias: boolean; // on gate, up and down projections
  readonly eosTokenIds: readonly number[]; // each within the vocabulary; may be empty
  readonly bosTokenId?: number;
};

export type ModelConfigCode = "MalformedConfig" | "UnknownModelType" | "UnsupportedOption";

/** Characters of a config.json; real ones are under 10 Ki. */
const TEXT_LENGTH_MAX = 1 << 20;
const SIZE_MAX = 2 ** 24;
const LAYER_COUNT_MAX = 4096;

/** Options that change a decoder's arithmetic, and the values under which they change nothing. */
const NEUTRAL: readonly (readonly [option: string, neutral: readonly unknown[]])[] = [
  ["hidden_act", ["silu", "swish"]],
  ["hidden_activation", ["silu", "swish"]],
  ["pretraining_tp", [1]],
  ["quantization_config", []],
  ["compression_config", []],
  ["sliding_window", []],
  ["use_sliding_window", [false]],
  ["rope_interleaved", [false]],
  ["partial_rotary_factor", [1]],
  ["no_rope_layers", []],
  ["attn_logit_softcapping", []],
  ["final_logit_softcapping", []],
  ["logit_scale", [1]],
  ["logits_scaling", [1]],
  ["embedding_multiplier", [1]],
  ["residual_multiplier", [1]],
  ["attention_multiplier", []],
  ["scale_embedding", [false]],
  ["use_qk_norm", [false]],
  ["qk_layernorm", [false]],
  ["parallel_residual", [false]],
  ["num_experts", [0, 1]],
  ["num_local_experts", [0, 1]],
  ["is_encoder_decoder", [false]],
  ["add_cross_attention", [false]],
  ["vision_config", []],
];

/**
 * The configuration in a config.json. Refusals name the field, what was found and what to do:
 * `MalformedConfig` (no JSON, a missing or impossible value), `UnknownModelType`, `UnsupportedOption`.
 */
export function parseModelConfig(text: string): Result<ModelConfig, ModelConfigCode> {
  if (text.length > TEXT_LENGTH_MAX)
    return refuse("MalformedConfig", `config.json has ${text.length} characters, at most ${TEXT_LENGTH_MAX} are read`);
  const json = parseJson(text);
  if (!isJsonObject(json))
    return refuse("MalformedConfig", "config.json is no JSON object; fetch the checkpoint again");
  const unsupported = refusedModel(json) ?? refusedOption(json);
  if (unsupported !== undefined) return unsupported;

  const fields = new Fields(json);
  const headCount = fields.integer("num_attention_heads", { max: SIZE_MAX });
  const hiddenSize = fields.integer("hidden_size", { max: SIZE_MAX });
  const maxPositions = fields.integer("max_position_embeddings", { absent: 2048 });
  const vocabularySize = fields.integer("vocab_size", { max: SIZE_MAX });
  const bosTokenId = fields.tokenIds("bos_token_id", 1, vocabularySize)[0];
  const config: ModelConfig = {
    family: "llama",
    hiddenSize,
    layerCount: fields.integer("num_hidden_layers", { max: LAYER_COUNT_MAX }),
    headCount,
    kvHeadCount: fields.integer("num_key_value_heads", { absent: headCount, max: SIZE_MAX }),
    headSize: fields.integer("head_dim", { absent: hiddenSize / headCount, max: SIZE_MAX }),
    ffnSize: fields.integer("intermediate_size", { max: SIZE_MAX }),
    vocabularySize,
    normEpsilon: fields.positive("rms_norm_eps", 1e-6),
    rope: ropeOf(fields),
    tiedEmbeddings: fields.flag("tie_word_embeddings"),
    maxPositions,
    attentionBias: fields.flag("attention_bias"),
    mlpBias: fields.flag("mlp_bias"),
    eosTokenIds: fields.tokenIds("eos_token_id", 2, vocabularySize),
    ...(bosTokenId === undefined ? {} : { bosTokenId }),
  };
  if (fields.refusal !== undefined) return fields.refusal;
  return refusedShape(config) ?? ok(config);
}

function refusedModel(json: JsonObject): Refusal<ModelConfigCode> | undefined {
  if (json["model_type"] !== "llama")
    return refuse(
      "UnknownModelType",
      `config.json: model_type is ${shown(json["model_type"])}, only "llama" is served; choose a Llama-family checkpoint`,
    );
  const architectures = json["architectures"] ?? ["LlamaForCausalLM"];
  if (!Array.isArray(architectures) || !architectures.includes("LlamaForCausalLM"))
    return refuse(
      "UnsupportedOption",
      `config.json: architectures is ${shown(architectures)}, only LlamaForCausalLM (which writes text) is served`,
    );
  return undefined;
}

function refusedOption(json: JsonObject): Refusal<ModelConfigCode> | undefined {
  for (const [option, neutral] of NEUTRAL) {
    const value = json[option];
    if (value === undefined || value === null || neutral.includes(value)) continue;
    const hint = option.endsWith("tion_config")
      ? "use the unquantised checkpoint and let spec.quantization shrink it"
      : neutral.length > 0
        ? `only ${neutral.map(shown).join(" or ")} is honoured`
        : "it is not honoured, so the answers would differ from the model's own";
    return refuse("UnsupportedOption", `config.json: ${option} is ${shown(value)}; ${hint}`);
  }
  const layerTypes = json["layer_types"];
  if (Array.isArray(layerTypes) && layerTypes.some((type) => type !== "full_attention"))
    return refuse(
      "UnsupportedOption",
      `config.json: layer_types is ${shown(layerTypes)}; only "full_attention" is honoured`,
    );
  return undefined;
}

/** Sizes that each are possible, but not together. */
function refusedShape(config: ModelConfig): Refusal<ModelConfigCode> | undefined {
  if (config.headCount % config.kvHeadCount !== 0)
    return refuse(
      "MalformedConfig",
      `config.json: num_attention_heads ${config.headCount} is no multiple of num_key_value_heads ${config.kvHeadCount}`,
    );
  if (config.headSize % 2 !== 0)
    return refuse("MalformedConfig", `config.json: head_dim ${config.headSize} is odd, rotary embeddings turn pairs`);
  return undefined;
}

/** v5 keeps everything in `rope_parameters`; before, `rope_scaling` (`rope_type`, or `type` still earlier) and `rope_theta`. */
function ropeOf(fields: Fields): ModelConfig["rope"] {
  const where = fields.json["rope_parameters"] == null ? "rope_scaling" : "rope_parameters";
  const settings = fields.json[where] ?? {};
  if (!isJsonObject(settings)) {
    fields.refuse("MalformedConfig", `${where} is ${shown(settings)}, expected an object`);
    return { theta: 1, scaling: { kind: "none" } };
  }
  const inner = new Fields(settings, `${where}.`);
  const theta =
    settings["rope_theta"] === undefined ? fields.positive("rope_theta", 10_000) : inner.positive("rope_theta");
  const scaling = scalingOf(inner);
  if (inner.refusal !== undefined) fields.refusal ??= inner.refusal;
  return { theta, scaling };
}

function scalingOf(inner: Fields): RopeScaling {
  const kind = inner.json["rope_type"] ?? inner.json["type"] ?? "default";
  const partial = inner.json["partial_rotary_factor"] ?? 1;
  if (partial !== 1)
    inner.refuse("UnsupportedOption", `partial_rotary_factor is ${shown(partial)}; only 1 is honoured`);
  if (kind === "default") return { kind: "none" };
  if (kind === "linear") return { kind, factor: inner.positive("factor") };
  if (kind === "llama3") {
    const lowFrequencyFactor = inner.positive("low_freq_factor");
    const highFrequencyFactor = inner.positive("high_freq_factor");
    if (highFrequencyFactor <= lowFrequencyFactor)
      inner.refuse(
        "MalformedConfig",
        `high_freq_factor ${highFrequencyFactor} must be above low_freq_factor ${lowFrequencyFactor}`,
      );
    return {
      kind,
      factor: inner.positive("factor"),
      lowFrequencyFactor,
      highFrequencyFactor,
      originalPositions: inner.integer("original_max_position_embeddings"),
    };
  }
  inner.refuse("UnsupportedOption", `rope_type is ${shown(kind)}; only "default", "linear" and "llama3" are honoured`);
  return { kind: "none" };
}

/** Reads fields of an object and remembers the first refusal, so that a parse reads as a list of its fields. */
class Fields {
  refusal: Refusal<ModelConfigCode> | undefined;
  readonly json: JsonObject;
  readonly #prefix: string;

  constructor(json: JsonObject, prefix = "") {
    this.json = json;
    this.#prefix = prefix;
  }

  refuse(code: ModelConfigCode, detail: string): void {
    this.refusal ??= refuse(code, `config.json: ${this.#prefix}${detail}`);
  }

  /** A whole number in [1, max]. */
  integer(name: string, { absent, max = 2 ** 31 - 1 }: { absent?: number; max?: number } = {}): number {
    const value = this.json[name] ?? absent;
    if (typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= max) return value;
    this.refuse("MalformedConfig", `${name} is ${shown(value)}, expected a whole number from 1 to ${max}`);
    return 1;
  }

  /** A finite number above zero. */
  positive(name: string, absent?: number): number {
    const value = this.json[name] ?? absent;
    if (typeof value === "number" && Number.isFinite(value) && value > 0) return value;
    this.refuse("MalformedConfig", `${name} is ${shown(value)}, expected a number above 0`);
    return 1;
  }

  flag(name: string): boolean {
    const value = this.json[name] ?? false;
    if (typeof value === "boolean") return value;
    this.refuse("MalformedConfig", `${name} is ${shown(value)}, expected true or false`);
    return false;
  }

  /** One id, several or none (null). An absent key means `absent`. Ids outside the vocabulary can never come, so they drop out. */
  tokenIds(name: string, absent: number, vocabularySize: number): readonly number[] {
    const value = this.json[name] === undefined ? absent : this.json[name];
    const ids: readonly unknown[] = Array.isArray(value) ? value : value === null ? [] : [value];
    const whole = ids.filter((id): id is number => typeof id === "number" && Number.isInteger(id));
    if (whole.length < ids.length)
      this.refuse("MalformedConfig", `${name} is ${shown(value)}, expected a token id, a list of them or null`);
    return whole.filter((id) => id >= 0 && id < vocabularySize);
  }
}
