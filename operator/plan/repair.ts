/** One rank's node is gone: who takes that one shard, so that nothing else moves? */
import { RUNTIME_BYTES } from "./footprint.ts";
import { bandwidthOf, eligible } from "./holders.ts";
import { providerLayerLimit } from "./place.ts";
import type { Assignment, ModelFacts, World } from "./types.ts";

/**
 * The same shard on the fastest node that may serve the model, has the room and holds nothing of this chain yet; of the
 * same provider where the segment is tensor parallel (its ranks must stay close). Undefined where there is none.
 */
export function replacementFor(
  world: World & { readonly facts: ModelFacts },
  lost: Assignment,
  assignments: readonly Assignment[],
): Assignment | undefined {
  const { model, facts } = world;
  const others = assignments.filter(
    (assignment) => assignment !== lost && world.nodes.some(({ name }) => name === assignment.node),
  );
  const groupMustStay = lost.sliceWeights.length > 1 && !model.placement.tensorParallelAcrossProviders;
  const layersOf = (provider: string) =>
    others
      .filter(
        (assignment) => assignment.chain === lost.chain && assignment.rank === 0 && assignment.provider === provider,
      )
      .reduce((sum, { layers }) => sum + layers.end - layers.start, 0);
  const withinShare = (provider: string) =>
    lost.rank > 0 ||
    layersOf(provider) + lost.layers.end - lost.layers.start <= providerLayerLimit(model, facts.config.layerCount);
  const keepsProviders = (provider: string) =>
    new Set([...others.filter(({ chain }) => chain === lost.chain).map((assignment) => assignment.provider), provider])
      .size >= model.placement.providersMin;
  const candidates = eligible(model, world.nodes)
    .nodes.filter(
      (node) => !others.some((assignment) => assignment.chain === lost.chain && assignment.node === node.name),
    )
    .filter((node) => !groupMustStay || node.provider === lost.provider)
    .filter((node) => withinShare(node.provider) && keepsProviders(node.provider))
    .filter((node) => bytesOn(node.name, others) + lost.weightBytes + lost.kvBytes + RUNTIME_BYTES <= node.freeBytes)
    .sort((a, b) => bandwidthOf(b) - bandwidthOf(a) || (a.name < b.name ? -1 : 1));
  const best = candidates[0];
  return best === undefined ? undefined : { ...lost, node: best.name, provider: best.provider };
}

/** Bytes that the assignments take on a node, runtimes included. */
export const bytesOn = (node: string, assignments: readonly Assignment[]): number =>
  assignments
    .filter((assignment) => assignment.node === node)
    .reduce((sum, { weightBytes, kvBytes }) => sum + weightBytes + kvBytes + RUNTIME_BYTES, 0);
