/** SmolLM3: every fourth layer holds no positions. Defaults as in transformers' SmolLM3Config. */
import type { Fields } from "../config-fields.ts";
import type { Family } from "../family.ts";
import { shown } from "../json.ts";
import { activationOf, attentionBiases, decoderOf } from "./decoder.ts";
import { attending, layerTypes, layersOf, windowsByType } from "./layers.ts";
import { tensorsNamed } from "./names.ts";
import { neutralExcept } from "./options.ts";
import { ropeOf } from "./rope.ts";

export const smollm3: Family = {
  modelType: "smollm3",
  architecture: "SmolLM3ForCausalLM",
  neutral: neutralExcept(
    "attention_bias",
    "mlp_bias",
    "pretraining_tp",
    "no_rope_layers",
    "sliding_window",
    "use_sliding_window",
  ),
  read(fields) {
    const decoder = decoderOf(fields, "smollm3", {
      kvHeadCount: 4,
      normEpsilon: 1e-6,
      tiedEmbeddings: true,
      maxPositions: 32_768,
      bosTokenId: 128_000,
      eosTokenId: 128_001,
    });
    const { layerCount, maxPositions } = decoder;
    const turns = turningLayers(fields, layerCount);
    const windows = windowsOf(fields, layerCount, maxPositions, turns);
    const rope = ropeOf(fields, decoder.headSize, maxPositions, { theta: 2_000_000 });
    return {
      ...decoder,
      ...layersOf(layerCount, (layer) => attending(turns(layer) ? rope : undefined, windows(layer))),
      ...attentionBiases(fields),
      mlpBias: fields.flag("mlp_bias"),
      activation: activationOf(fields),
    };
  },
  tensors: tensorsNamed(),
};

/** Whether a layer turns its queries and keys. `no_rope_layers` has 1 for those that do, in spite of its name. */
function turningLayers(fields: Fields, layerCount: number): (layer: number) => boolean {
  const listed = fields.json["no_rope_layers"] ?? undefined;
  const interval = fields.integer("no_rope_layer_interval", { absent: 4 });
  if (listed === undefined) return (layer) => (layer + 1) % interval !== 0;
  const flags: readonly unknown[] = Array.isArray(listed) ? listed : [];
  if (flags.length < layerCount || !flags.every((flag) => flag === 0 || flag === 1))
    fields.refuse("MalformedConfig", `no_rope_layers is ${shown(listed)}, expected a 0 or 1 for each layer`);
  return (layer) => flags[layer] === 1;
}

/** A window, where one is used, is of the layers without rope unless `layer_types` says otherwise. */
function windowsOf(
  fields: Fields,
  layerCount: number,
  maxPositions: number,
  turns: (layer: number) => boolean,
): (layer: number) => number | undefined {
  const windowed = fields.flag("use_sliding_window") && fields.json["sliding_window"] != null;
  const types = layerTypes(fields, layerCount, (layer) =>
    windowed && !turns(layer) ? "sliding_attention" : "full_attention",
  );
  if (windowed) return windowsByType(fields, types, null, maxPositions);
  if (types.includes("sliding_attention"))
    fields.refuse("UnsupportedOption", "layer_types has sliding_attention, but no window is in use");
  return () => undefined;
}
