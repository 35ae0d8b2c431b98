/**
 * Gemma 3's language model by itself: norms on the heads of q and k, a rope of its own for the layers with a window (five
 * of six). Defaults as in transformers' Gemma3TextConfig.
 */
import type { Fields } from "../config-fields.ts";
import type { Family } from "../family.ts";
import { isJsonObject, shown } from "../json.ts";
import type { Rope } from "../model-config.ts";
import { gemmaDecoder, gemmaTensors, softcapOf } from "./gemma.ts";
import { type LayerType, attending, layerTypes, layersOf, windowsByType } from "./layers.ts";
import { neutralExcept } from "./options.ts";
import { objectIn, readRope } from "./rope.ts";

export const gemma3Text: Family = {
  modelType: "gemma3_text",
  architecture: "Gemma3ForCausalLM",
  neutral: neutralExcept("attention_bias", "sliding_window", "final_logit_softcapping"),
  read(fields) {
    const decoder = gemmaDecoder(fields, "gemma3_text", 131_072);
    const period = fields.integer("sliding_window_pattern", { absent: 6 });
    const types = layerTypes(fields, decoder.layerCount, (layer) =>
      (layer + 1) % period === 0 ? "full_attention" : "sliding_attention",
    );
    const windows = windowsByType(fields, types, 4096, decoder.maxPositions);
    const ropes = ropesByType(fields, decoder.headSize, decoder.maxPositions);
    const logitSoftcap = softcapOf(fields, "final_logit_softcapping");
    return {
      ...decoder,
      ...layersOf(decoder.layerCount, (layer) => attending(ropes[types[layer] ?? "full_attention"], windows(layer))),
      qkNorm: "head",
      ...(logitSoftcap === undefined ? {} : { logitSoftcap }),
    };
  },
  tensors: gemmaTensors,
};

/** v5 has settings by type of layer; before, `rope_scaling` was of the full layers alone and each type had a theta. */
function ropesByType(fields: Fields, headSize: number, maxPositions: number): Readonly<Record<LayerType, Rope>> {
  const byType = objectIn(fields, "rope_parameters") ?? {};
  const strange = Object.keys(byType).find((key) => key !== "full_attention" && key !== "sliding_attention");
  if (strange !== undefined)
    fields.refuse(
      "MalformedConfig",
      `rope_parameters.${strange} is set, expected full_attention and sliding_attention`,
    );
  const ropeOfType = (type: LayerType, thetaName: string, theta: number, scaling: object = {}): Rope => {
    const settings = byType[type] ?? {};
    if (!isJsonObject(settings))
      fields.refuse("MalformedConfig", `rope_parameters.${type} is ${shown(settings)}, expected an object`);
    const inner = fields.within(isJsonObject(settings) ? { ...settings, ...scaling } : {}, `rope_parameters.${type}.`);
    return readRope(fields, inner, headSize, maxPositions, { theta, thetaName });
  };
  return {
    full_attention: ropeOfType("full_attention", "rope_theta", 1_000_000, objectIn(fields, "rope_scaling")),
    sliding_attention: ropeOfType("sliding_attention", "rope_local_base_freq", 10_000),
  };
}
