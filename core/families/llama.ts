/**
 * Llama 2, 3 and 3.x. Defaults are those of Hugging Face transformers' LlamaConfig; both its spellings of the rotary
 * settings are read (`rope_theta` + `rope_scaling` up to v4, `rope_parameters` from v5 on).
 */
import type { Family } from "../family.ts";
import { LAYER_COUNT_MAX, NEUTRAL, SIZE_MAX, llamaTensors, onlyLayerTypes, ropeOf, uniformLayers } from "./common.ts";

export const llama: Family = {
  modelType: "llama",
  architecture: "LlamaForCausalLM",
  neutral: NEUTRAL,
  read(fields) {
    onlyLayerTypes(fields, "full_attention");
    const headCount = fields.integer("num_attention_heads", { max: SIZE_MAX });
    const hiddenSize = fields.integer("hidden_size", { max: SIZE_MAX });
    const headSize = fields.integer("head_dim", { absent: hiddenSize / headCount, max: SIZE_MAX });
    const layerCount = fields.integer("num_hidden_layers", { max: LAYER_COUNT_MAX });
    const vocabularySize = fields.integer("vocab_size", { max: SIZE_MAX });
    const attentionBias = fields.flag("attention_bias");
    const bosTokenId = fields.tokenIds("bos_token_id", 1, vocabularySize)[0];
    return {
      family: "llama",
      hiddenSize,
      layerCount,
      headCount,
      kvHeadCount: fields.integer("num_key_value_heads", { absent: headCount, max: SIZE_MAX }),
      headSize,
      ffnSize: fields.integer("intermediate_size", { max: SIZE_MAX }),
      vocabularySize,
      normEpsilon: fields.positive("rms_norm_eps", 1e-6),
      tiedEmbeddings: fields.flag("tie_word_embeddings"),
      maxPositions: fields.integer("max_position_embeddings", { absent: 2048 }),
      ...uniformLayers(layerCount, { rope: ropeOf(fields, headSize) }),
      attentionScale: headSize ** -0.5,
      sinks: false,
      qkvBias: attentionBias,
      attentionOutBias: attentionBias,
      mlpBias: fields.flag("mlp_bias"),
      norms: { attentionIn: true, attentionOut: false, ffnIn: true, ffnOut: false },
      activation: { kind: "silu" },
      embeddingScale: 1,
      residualScale: 1,
      logitScale: 1,
      eosTokenIds: fields.tokenIds("eos_token_id", 2, vocabularySize),
      ...(bosTokenId === undefined ? {} : { bosTokenId }),
    };
  },
  tensors: llamaTensors,
};
