/** Llama 2, 3 and 3.x. What config.json leaves out is as in transformers' LlamaConfig. */
import type { Family } from "../family.ts";
import { activationOf, attentionBiases, decoderOf } from "./decoder.ts";
import { attending, layersOf, onlyLayerType } from "./layers.ts";
import { tensorsNamed } from "./names.ts";
import { neutralExcept } from "./options.ts";
import { ropeOf } from "./rope.ts";

export const llama: Family = {
  modelType: "llama",
  architecture: "LlamaForCausalLM",
  neutral: neutralExcept("attention_bias", "mlp_bias"),
  read(fields) {
    onlyLayerType(fields, "full_attention", "in this family");
    const decoder = decoderOf(fields, "llama", {
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
    };
  },
  tensors: tensorsNamed(),
};
