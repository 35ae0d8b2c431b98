/**
 * The tensors of a model by role, whatever its family calls them:
 *
 *     embedding.weight  norm  head.weight
 *     layers.N.{attentionIn,attentionOut,ffnIn,ffnOut}.norm
 *     layers.N.{q,k,v,o,gate,up,down}.{weight,bias}  layers.N.{q,k}.norm  layers.N.sinks
 *     layers.N.router.{weight,bias}  layers.N.experts.E.{gate,up,down}.{weight,bias}
 */
import { present } from "./assert.ts";
import { FAMILIES } from "./families/all.ts";
import type { TensorPlace } from "./family.ts";
import type { ModelConfig } from "./model-config.ts";

/** All of them, in the order in which the model uses them. A tied head names the embedding's tensor once more. */
export function tensorPlaces(config: ModelConfig): readonly TensorPlace[] {
  const family = FAMILIES.find(({ modelType }) => modelType === config.family);
  return present(family, `the family ${config.family} is known`).tensors(config);
}

export type NamedShape = readonly [name: string, shape: readonly number[]];

/** Names and shapes as a checkpoint holds them, each once. */
export const storedTensors = (config: ModelConfig): readonly NamedShape[] => [
  ...new Map(tensorPlaces(config).map(({ stored, storedShape }) => [stored, storedShape] as const)),
];
