/** Mixtral: Mistral with a mixture of experts in every layer. Defaults as in transformers' MixtralConfig. */
import type { Family } from "../family.ts";
import { activationOf, decoderOf } from "./decoder.ts";
import { expertsOf } from "./experts.ts";
import { attending, layersOf, onlyLayerType, windowOf } from "./layers.ts";
import { separateExperts, tensorsNamed } from "./names.ts";
import { neutralExcept } from "./options.ts";
import { ropeOf } from "./rope.ts";

export const mixtral: Family = {
  modelType: "mixtral",
  architecture: "MixtralForCausalLM",
  neutral: neutralExcept("sliding_window", "num_local_experts", "num_experts"),
  read(fields) {
    const decoder = decoderOf(fields, "mixtral", {
      kvHeadCount: 8,
      normEpsilon: 1e-5,
      tiedEmbeddings: false,
      maxPositions: 131_072,
      bosTokenId: 1,
      eosTokenId: 2,
    });
    const window = windowOf(fields, null, decoder.maxPositions);
    onlyLayerType(fields, window === undefined ? "full_attention" : "sliding_attention", "as sliding_window stands");
    const rope = ropeOf(fields, decoder.headSize, decoder.maxPositions, { theta: 1_000_000 });
    return {
      ...decoder,
      ...layersOf(
        decoder.layerCount,
        () => attending(rope, window),
        () => true,
      ),
      activation: activationOf(fields),
      // A softmax over all, of which the chosen are made to sum to 1, is a softmax over the chosen.
      experts: expertsOf(fields, { count: 8, perToken: 2 }, decoder.ffnSize, "softmaxOfChosen"),
    };
  },
  tensors: tensorsNamed({
    ffn: separateExperts({
      router: "block_sparse_moe.gate",
      experts: "block_sparse_moe.experts",
      gate: "w1",
      up: "w3",
      down: "w2",
    }),
  }),
};
