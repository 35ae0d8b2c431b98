/** Qwen 3 with a mixture of experts, in all layers or in some. Defaults as in transformers' Qwen3MoeConfig. */
import type { Family } from "../family.ts";
import { SIZE_MAX, activationOf, attentionBiases, decoderOf } from "./decoder.ts";
import { expertsOf } from "./experts.ts";
import { attending, layersOf, onlyLayerType, windowOf } from "./layers.ts";
import { type Layer, denseFfn, separateExperts, tensorsNamed } from "./names.ts";
import { neutralExcept } from "./options.ts";
import { ropeOf } from "./rope.ts";

const expertsFfn = separateExperts({
  router: "mlp.gate",
  experts: "mlp.experts",
  gate: "gate_proj",
  up: "up_proj",
  down: "down_proj",
});

export const qwen3Moe: Family = {
  modelType: "qwen3_moe",
  architecture: "Qwen3MoeForCausalLM",
  neutral: neutralExcept("attention_bias", "sliding_window", "use_sliding_window", "num_local_experts", "num_experts"),
  read(fields) {
    const decoder = decoderOf(fields, "qwen3_moe", {
      kvHeadCount: 4,
      normEpsilon: 1e-6,
      tiedEmbeddings: false,
      maxPositions: 32_768,
      bosTokenId: null,
      eosTokenId: null,
    });
    // Here the window is of every layer: max_window_layers is not read.
    const window = fields.flag("use_sliding_window") ? windowOf(fields, 4096, decoder.maxPositions) : undefined;
    onlyLayerType(
      fields,
      window === undefined ? "full_attention" : "sliding_attention",
      "as use_sliding_window stands",
    );
    const rope = ropeOf(fields, decoder.headSize, decoder.maxPositions);
    const step = fields.integer("decoder_sparse_step", { absent: 1 });
    const dense = new Set(fields.counts("mlp_only_layers"));
    const size = fields.integer("moe_intermediate_size", { absent: 768, max: SIZE_MAX });
    const weights = fields.flag("norm_topk_prob") ? "softmaxOfChosen" : "chosenOfSoftmax";
    return {
      ...decoder,
      ...layersOf(
        decoder.layerCount,
        () => attending(rope, window),
        (layer) => !dense.has(layer) && (layer + 1) % step === 0,
      ),
      ...attentionBiases(fields),
      qkNorm: "head",
      activation: activationOf(fields),
      experts: expertsOf(fields, { count: 128, perToken: 8 }, size, weights),
    };
  },
  tensors: tensorsNamed({
    ffn: (layer: Layer) => (layer.config.layerKinds[layer.index]?.experts ? expertsFfn(layer) : denseFfn(layer)),
  }),
};
