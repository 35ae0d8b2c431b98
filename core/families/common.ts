/** What most families have in common: tensor names, and options that change nothing. */
import { isJsonObject, shown } from "../json.ts";
import type { Fields } from "../config-fields.ts";
import type { TensorPlace } from "../family.ts";
import type { AttentionKind, ModelConfig, Rope, RopeScaling } from "../model-config.ts";

export const SIZE_MAX = 2 ** 24;
export const LAYER_COUNT_MAX = 4096;

/** Options of any family, and the values under which they change nothing. A family that honours one leaves it out. */
export const NEUTRAL: Readonly<Record<string, readonly unknown[]>> = {
  hidden_act: ["silu", "swish"],
  hidden_activation: ["silu", "swish"],
  pretraining_tp: [1],
  quantization_config: [],
  compression_config: [],
  sliding_window: [],
  use_sliding_window: [false],
  rope_interleaved: [false],
  partial_rotary_factor: [1],
  no_rope_layers: [],
  attn_logit_softcapping: [],
  final_logit_softcapping: [],
  logit_scale: [1],
  logits_scaling: [1],
  embedding_multiplier: [1],
  residual_multiplier: [1],
  attention_multiplier: [],
  scale_embedding: [false],
  use_qk_norm: [false],
  qk_layernorm: [false],
  parallel_residual: [false],
  num_experts: [0, 1],
  num_local_experts: [0, 1],
  is_encoder_decoder: [false],
  add_cross_attention: [false],
  vision_config: [],
};

/** The neutral options without those that a family reads itself. */
export const neutralExcept = (...honoured: readonly string[]): Readonly<Record<string, readonly unknown[]>> =>
  Object.fromEntries(Object.entries(NEUTRAL).filter(([option]) => !honoured.includes(option)));

/** Refuses a model whose `layer_types` has others than these. */
export function onlyLayerTypes(fields: Fields, ...honoured: readonly string[]): void {
  const types = fields.json["layer_types"];
  if (!Array.isArray(types) || types.every((type) => honoured.includes(String(type)))) return;
  const list = honoured.map(shown).join(" and ");
  fields.refuse("UnsupportedOption", `layer_types is ${shown(types)}; only ${list} is honoured`);
}

/** Every layer alike. */
export const uniformLayers = (layerCount: number, attention: AttentionKind) => ({
  attentionKinds: [attention],
  layerKinds: Array.from({ length: layerCount }, () => ({ attention: 0, experts: false })),
});

/** v5 keeps everything in `rope_parameters`; before, `rope_scaling` (`rope_type`, or `type` still earlier) and `rope_theta`. */
export function ropeOf(fields: Fields, headSize: number): Rope {
  const where = fields.json["rope_parameters"] == null ? "rope_scaling" : "rope_parameters";
  const settings = fields.json[where] ?? {};
  if (!isJsonObject(settings)) {
    fields.refuse("MalformedConfig", `${where} is ${shown(settings)}, expected an object`);
    return { theta: 1, rotarySize: headSize, scaling: { kind: "none" } };
  }
  const inner = fields.within(settings, `${where}.`);
  const theta =
    settings["rope_theta"] === undefined ? fields.positive("rope_theta", 10_000) : inner.positive("rope_theta");
  const scaling = scalingOf(inner);
  return { theta, rotarySize: headSize, scaling };
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

const plain = (role: string, shape: readonly number[], stored: string): TensorPlace => ({
  role,
  shape,
  stored,
  storedShape: shape,
});

/** Tensors named as Llama names them. */
export function llamaTensors(config: ModelConfig): readonly TensorPlace[] {
  const { hiddenSize, vocabularySize, tiedEmbeddings } = config;
  return [
    plain("embedding.weight", [vocabularySize, hiddenSize], "model.embed_tokens.weight"),
    ...Array.from({ length: config.layerCount }, (_, layer) => layerTensors(config, layer)).flat(),
    plain("norm", [hiddenSize], "model.norm.weight"),
    plain("head.weight", [vocabularySize, hiddenSize], tiedEmbeddings ? "model.embed_tokens.weight" : "lm_head.weight"),
  ];
}

function layerTensors(config: ModelConfig, layer: number): readonly TensorPlace[] {
  const { hiddenSize, ffnSize } = config;
  const queries = config.headCount * config.headSize;
  const keys = config.kvHeadCount * config.headSize;
  const role = `layers.${layer}.`;
  const stored = `model.layers.${layer}.`;
  const linear = (own: string, theirs: string, outputs: number, inputs: number, bias: boolean) => [
    plain(`${role}${own}.weight`, [outputs, inputs], `${stored}${theirs}.weight`),
    ...(bias ? [plain(`${role}${own}.bias`, [outputs], `${stored}${theirs}.bias`)] : []),
  ];
  return [
    plain(`${role}attentionIn.norm`, [hiddenSize], `${stored}input_layernorm.weight`),
    ...linear("q", "self_attn.q_proj", queries, hiddenSize, config.qkvBias),
    ...linear("k", "self_attn.k_proj", keys, hiddenSize, config.qkvBias),
    ...linear("v", "self_attn.v_proj", keys, hiddenSize, config.qkvBias),
    ...linear("o", "self_attn.o_proj", hiddenSize, queries, config.attentionOutBias),
    plain(`${role}ffnIn.norm`, [hiddenSize], `${stored}post_attention_layernorm.weight`),
    ...linear("gate", "mlp.gate_proj", ffnSize, hiddenSize, config.mlpBias),
    ...linear("up", "mlp.up_proj", ffnSize, hiddenSize, config.mlpBias),
    ...linear("down", "mlp.down_proj", hiddenSize, ffnSize, config.mlpBias),
  ];
}
