/** Which layer attends how: windows by layer, in every way in which config.json files have said it over the years. */
import type { Fields } from "../config-fields.ts";
import { shown } from "../json.ts";
import type { AttentionKind, ModelConfig, Rope } from "../model-config.ts";

type Layers = Pick<ModelConfig, "attentionKinds" | "layerKinds">;
export type LayerType = "full_attention" | "sliding_attention";

/** Layers 0 to `layerCount` - 1, alike ones sharing one kind of attention, in order of first use. */
export function layersOf(
  layerCount: number,
  attentionOf: (layer: number) => AttentionKind,
  hasExperts: (layer: number) => boolean = () => false,
): Layers {
  const indexes = new Map<string, number>();
  const attentionKinds: AttentionKind[] = [];
  const layerKinds = Array.from({ length: layerCount }, (_, layer) => {
    const kind = attentionOf(layer);
    const key = JSON.stringify(kind);
    const attention = indexes.get(key) ?? attentionKinds.push(kind) - 1;
    indexes.set(key, attention);
    return { attention, experts: hasExperts(layer) };
  });
  return { attentionKinds, layerKinds };
}

export const attending = (rope: Rope | undefined, window?: number): AttentionKind => ({
  ...(window === undefined ? {} : { window }),
  ...(rope === undefined ? {} : { rope }),
});

/** `sliding_window`, where null switches it off. One as long as the model's context hides nothing and is none. */
export function windowOf(fields: Fields, unsaid: number | null, maxPositions: number): number | undefined {
  const value = fields.json["sliding_window"];
  if ((value === undefined ? unsaid : value) === null) return undefined;
  const window = fields.integer("sliding_window", unsaid === null ? {} : { absent: unsaid });
  return window < maxPositions ? window : undefined;
}

/** `layer_types`, or else what older files mean without it. */
export function layerTypes(
  fields: Fields,
  layerCount: number,
  unsaid: (layer: number) => LayerType,
): readonly LayerType[] {
  const types = fields.json["layer_types"] ?? undefined;
  if (types === undefined) return Array.from({ length: layerCount }, (_, layer) => unsaid(layer));
  const listed: readonly unknown[] = Array.isArray(types) ? types : [types];
  const strange = listed.find((type) => !isLayerType(type));
  if (strange !== undefined)
    fields.refuse(
      "UnsupportedOption",
      `layer_types has ${shown(strange)}; only "full_attention" and "sliding_attention" are honoured`,
    );
  else if (listed.length !== layerCount)
    fields.refuse("MalformedConfig", `layer_types has ${listed.length} entries, num_hidden_layers is ${layerCount}`);
  return listed.filter(isLayerType);
}

const isLayerType = (type: unknown): type is LayerType => type === "full_attention" || type === "sliding_attention";

/** Refuses a model whose `layer_types` says otherwise than its family's code does, which does not read it. */
export function onlyLayerType(fields: Fields, only: LayerType, because: string): void {
  const types = fields.json["layer_types"] ?? undefined;
  if (types === undefined || (Array.isArray(types) && types.every((type) => type === only))) return;
  fields.refuse("UnsupportedOption", `layer_types is ${shown(types)}; only ${shown(only)} is honoured ${because}`);
}

/** The window of `sliding_attention` layers, which must have a size where there are such layers. */
export function windowsByType(
  fields: Fields,
  types: readonly LayerType[],
  unsaid: number | null,
  maxPositions: number,
): (layer: number) => number | undefined {
  const isSaid = (fields.json["sliding_window"] === undefined ? unsaid : fields.json["sliding_window"]) !== null;
  if (!isSaid && types.includes("sliding_attention"))
    fields.refuse("MalformedConfig", "sliding_window is nothing, but layer_types has sliding_attention");
  const window = windowOf(fields, unsaid, maxPositions);
  return (layer) => (types[layer] === "sliding_attention" ? window : undefined);
}

/**
 * Qwen 2's and 3's windows: off unless `use_sliding_window`, and then only in layers from `max_window_layers` on where
 * `layer_types` does not say.
 */
export function qwenWindows(
  fields: Fields,
  layerCount: number,
  maxPositions: number,
): (layer: number) => number | undefined {
  const windowed = fields.flag("use_sliding_window") && fields.json["sliding_window"] !== null;
  const first = fields.count("max_window_layers", 28);
  const types = layerTypes(fields, layerCount, (layer) =>
    windowed && layer >= first ? "sliding_attention" : "full_attention",
  );
  if (windowed) return windowsByType(fields, types, 4096, maxPositions);
  if (types.includes("sliding_attention"))
    fields.refuse("UnsupportedOption", "layer_types has sliding_attention, but use_sliding_window is not true");
  return () => undefined;
}
