/** What every family says in the same words: sizes, token ids, the activation. Families differ in what they leave unsaid. */
import type { Fields } from "../config-fields.ts";
import { shown } from "../json.ts";
import type { Activation, ModelConfig } from "../model-config.ts";

export const SIZE_MAX = 2 ** 24;
const LAYER_COUNT_MAX = 4096;

/** What config.json need not say: the values of transformers' configuration class. */
export type Unsaid = {
  readonly kvHeadCount?: number; // absent: as many as query heads
  readonly headSize?: number; // absent: hidden_size / num_attention_heads
  readonly normEpsilon: number;
  readonly tiedEmbeddings: boolean;
  readonly maxPositions: number;
  readonly bosTokenId: number | null;
  readonly eosTokenId: number | null;
};

/**
 * A decoder without any of the things that only some families have: one RMS norm before attention and one before a gated
 * FFN, no biases, nothing scaled. A family spreads this and says what it does otherwise; layers it must always say.
 */
export function decoderOf(
  fields: Fields,
  family: string,
  unsaid: Unsaid,
): Omit<ModelConfig, "attentionKinds" | "layerKinds"> {
  const headCount = fields.integer("num_attention_heads", { max: SIZE_MAX });
  const hiddenSize = fields.integer("hidden_size", { max: SIZE_MAX });
  const headSize = fields.integer("head_dim", { absent: unsaid.headSize ?? hiddenSize / headCount, max: SIZE_MAX });
  const vocabularySize = fields.integer("vocab_size", { max: SIZE_MAX });
  // A null says "as many as query heads" also where a missing key says otherwise.
  const kvHeadCountUnsaid = fields.json["num_key_value_heads"] === null ? headCount : (unsaid.kvHeadCount ?? headCount);
  const bosTokenId = fields.tokenIds("bos_token_id", unsaid.bosTokenId, vocabularySize)[0];
  return {
    family,
    hiddenSize,
    layerCount: fields.integer("num_hidden_layers", { max: LAYER_COUNT_MAX }),
    headCount,
    kvHeadCount: fields.integer("num_key_value_heads", { absent: kvHeadCountUnsaid, max: SIZE_MAX }),
    headSize,
    ffnSize: fields.integer("intermediate_size", { max: SIZE_MAX }),
    vocabularySize,
    normEpsilon: fields.positive("rms_norm_eps", unsaid.normEpsilon),
    tiedEmbeddings: fields.flag("tie_word_embeddings", unsaid.tiedEmbeddings),
    maxPositions: fields.integer("max_position_embeddings", { absent: unsaid.maxPositions }),
    attentionScale: headSize ** -0.5,
    sinks: false,
    qkvBias: false,
    attentionOutBias: false,
    mlpBias: false,
    norms: { attentionIn: true, attentionOut: false, ffnIn: true, ffnOut: false },
    activation: { kind: "silu" },
    embeddingScale: 1,
    residualScale: 1,
    logitScale: 1,
    eosTokenIds: fields.tokenIds("eos_token_id", unsaid.eosTokenId, vocabularySize),
    ...(bosTokenId === undefined ? {} : { bosTokenId }),
  };
}

const ACTIVATIONS: Readonly<Record<string, Activation>> = {
  silu: { kind: "silu" },
  swish: { kind: "silu" },
  gelu_pytorch_tanh: { kind: "geluTanh" },
};

/** The activation that an option names. */
export function activationOf(fields: Fields, option = "hidden_act", unsaid = "silu"): Activation {
  const name = fields.json[option] ?? unsaid;
  const activation = typeof name === "string" && Object.hasOwn(ACTIVATIONS, name) ? ACTIVATIONS[name] : undefined;
  if (activation !== undefined) return activation;
  const known = Object.keys(ACTIVATIONS).map(shown).join(", ");
  fields.refuse("UnsupportedOption", `${option} is ${shown(name)}; honoured are: ${known}`);
  return { kind: "silu" };
}

/** `attention_bias` where it stands for the biases of all four projections. */
export function attentionBiases(fields: Fields, unsaid = false): Pick<ModelConfig, "qkvBias" | "attentionOutBias"> {
  const bias = fields.flag("attention_bias", unsaid);
  return { qkvBias: bias, attentionOutBias: bias };
}
