/** Gemma 2: soft caps on scores and logits, a window in every other layer. Defaults as in transformers' Gemma2Config. */
import type { Family } from "../family.ts";
import { gemmaDecoder, gemmaTensors, softcapOf } from "./gemma.ts";
import { attending, layerTypes, layersOf, windowsByType } from "./layers.ts";
import { neutralExcept } from "./options.ts";
import { ropeOf } from "./rope.ts";

export const gemma2: Family = {
  modelType: "gemma2",
  architecture: "Gemma2ForCausalLM",
  neutral: neutralExcept("attention_bias", "sliding_window", "attn_logit_softcapping", "final_logit_softcapping"),
  read(fields) {
    const decoder = gemmaDecoder(fields, "gemma2", 8192);
    const types = layerTypes(fields, decoder.layerCount, (layer) =>
      layer % 2 === 0 ? "sliding_attention" : "full_attention",
    );
    const windows = windowsByType(fields, types, 4096, decoder.maxPositions);
    const rope = ropeOf(fields, decoder.headSize, decoder.maxPositions);
    const attentionSoftcap = softcapOf(fields, "attn_logit_softcapping", 50);
    const logitSoftcap = softcapOf(fields, "final_logit_softcapping", 30);
    return {
      ...decoder,
      ...layersOf(decoder.layerCount, (layer) => attending(rope, windows(layer))),
      ...(attentionSoftcap === undefined ? {} : { attentionSoftcap }),
      ...(logitSoftcap === undefined ? {} : { logitSoftcap }),
    };
  },
  tensors: gemmaTensors,
};
