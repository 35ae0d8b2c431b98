/** Qwen 2 and 2.5: biases on q, k and v alone. Defaults as in transformers' Qwen2Config. */
import type { Family } from "../family.ts";
import { activationOf, decoderOf } from "./decoder.ts";
import { attending, layersOf, qwenWindows } from "./layers.ts";
import { tensorsNamed } from "./names.ts";
import { neutralExcept } from "./options.ts";
import { ropeOf } from "./rope.ts";

export const qwen2: Family = {
  modelType: "qwen2",
  architecture: "Qwen2ForCausalLM",
  neutral: neutralExcept("sliding_window", "use_sliding_window"),
  read(fields) {
    const decoder = decoderOf(fields, "qwen2", {
      kvHeadCount: 32,
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
      qkvBias: true,
      activation: activationOf(fields),
    };
  },
  tensors: tensorsNamed(),
};
