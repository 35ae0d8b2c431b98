/** Mistral: Llama with a sliding window in every layer, where one is set. Defaults as in transformers' MistralConfig. */
import type { Family } from "../family.ts";
import { activationOf, decoderOf } from "./decoder.ts";
import { attending, layersOf, onlyLayerType, windowOf } from "./layers.ts";
import { tensorsNamed } from "./names.ts";
import { neutralExcept } from "./options.ts";
import { ropeOf } from "./rope.ts";

export const mistral: Family = {
  modelType: "mistral",
  architecture: "MistralForCausalLM",
  neutral: neutralExcept("sliding_window"),
  read(fields) {
    const decoder = decoderOf(fields, "mistral", {
      kvHeadCount: 8,
      normEpsilon: 1e-6,
      tiedEmbeddings: false,
      maxPositions: 131_072,
      bosTokenId: 1,
      eosTokenId: 2,
    });
    const window = windowOf(fields, 4096, decoder.maxPositions);
    onlyLayerType(fields, window === undefined ? "full_attention" : "sliding_attention", "as sliding_window stands");
    const rope = ropeOf(fields, decoder.headSize, decoder.maxPositions);
    return {
      ...decoder,
      ...layersOf(decoder.layerCount, () => attending(rope, window)),
      activation: activationOf(fields),
    };
  },
  tensors: tensorsNamed(),
};
