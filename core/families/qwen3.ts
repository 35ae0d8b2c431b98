/** Qwen 3: an RMS norm on every head of q and k in place of Qwen 2's biases. Defaults as in transformers' Qwen3Config. */
import type { Family } from "../family.ts";
import { activationOf, attentionBiases, decoderOf } from "./decoder.ts";
import { attending, layersOf, qwenWindows } from "./layers.ts";
import { tensorsNamed } from "./names.ts";
import { neutralExcept } from "./options.ts";
import { ropeOf } from "./rope.ts";

export const qwen3: Family = {
  modelType: "qwen3",
  architecture: "Qwen3ForCausalLM",
  neutral: neutralExcept("attention_bias", "sliding_window", "use_sliding_window"),
  read(fields) {
    const decoder = decoderOf(fields, "qwen3", {
      kvHeadCount: 32,
      headSize: 128,
      normEpsilon: 1e-6,
      tiedEmbeddings: false,
      maxPositions: 32_768,
      bosTokenId: null,
      eosTokenId: null,
    });
    const windows = qwenWindows(fields, decoder.layerCount, decoder.maxPositions);
    const rope = ropeOf(fields, decoder.headSize, decoder.maxPositions);
    return {
      ...decoder,
      ...layersOf(decoder.layerCount, (layer) => attending(rope, windows(layer))),
      ...attentionBiases(fields),
      qkNorm: "head",
      activation: activationOf(fields),
    };
  },
  tensors: tensorsNamed(),
};
