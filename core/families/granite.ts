/** Granite 3.x: Llama with four multipliers. Defaults as in transformers' GraniteConfig. */
import type { Family } from "../family.ts";
import { activationOf, attentionBiases, decoderOf } from "./decoder.ts";
import { attending, layersOf, onlyLayerType } from "./layers.ts";
import { tensorsNamed } from "./names.ts";
import { neutralExcept } from "./options.ts";
import { ropeOf } from "./rope.ts";

export const granite: Family = {
  modelType: "granite",
  architecture: "GraniteForCausalLM",
  neutral: neutralExcept(
    "attention_bias",
    "mlp_bias",
    "attention_multiplier",
    "embedding_multiplier",
    "logits_scaling",
    "residual_multiplier",
  ),
  read(fields) {
    onlyLayerType(fields, "full_attention", "in this family");
    const decoder = decoderOf(fields, "granite", {
      normEpsilon: 1e-6,
      tiedEmbeddings: false,
      maxPositions: 2048,
      bosTokenId: 1,
      eosTokenId: 2,
    });
    const rope = ropeOf(fields, decoder.headSize, decoder.maxPositions);
    return {
      ...decoder,
      ...layersOf(decoder.layerCount, () => attending(rope)),
      ...attentionBiases(fields),
      mlpBias: fields.flag("mlp_bias"),
      activation: activationOf(fields),
      attentionScale: fields.positive("attention_multiplier", 1),
      embeddingScale: fields.positive("embedding_multiplier", 1),
      residualScale: fields.positive("residual_multiplier", 1),
      logitScale: 1 / fields.positive("logits_scaling", 1),
    };
  },
  tensors: tensorsNamed(),
};
