/**
 * OLMo 2: norms on what attention and FFN add instead of on what they read, and on q and k over all heads together.
 * Defaults as in transformers' Olmo2Config.
 */
import type { Family } from "../family.ts";
import { activationOf, attentionBiases, decoderOf } from "./decoder.ts";
import { attending, layersOf, onlyLayerType } from "./layers.ts";
import { tensorsNamed } from "./names.ts";
import { neutralExcept } from "./options.ts";
import { ropeOf } from "./rope.ts";

export const olmo2: Family = {
  modelType: "olmo2",
  architecture: "Olmo2ForCausalLM",
  neutral: neutralExcept("attention_bias"),
  read(fields) {
    onlyLayerType(fields, "full_attention", "in this family");
    const decoder = decoderOf(fields, "olmo2", {
      normEpsilon: 1e-5,
      tiedEmbeddings: false,
      maxPositions: 2048,
      bosTokenId: null,
      eosTokenId: 50_279,
    });
    const rope = ropeOf(fields, decoder.headSize, decoder.maxPositions);
    return {
      ...decoder,
      ...layersOf(decoder.layerCount, () => attending(rope)),
      ...attentionBiases(fields),
      qkNorm: "row",
      norms: { attentionIn: false, attentionOut: true, ffnIn: false, ffnOut: true },
      activation: activationOf(fields),
    };
  },
  tensors: tensorsNamed({ norms: { attentionOut: "post_attention_layernorm", ffnOut: "post_feedforward_layernorm" } }),
};
