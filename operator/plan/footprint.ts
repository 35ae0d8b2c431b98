/** What layers cost in memory, on whole nodes and on the ranks of a group: the planner's arithmetic over core/slice.ts. */
import { present } from "../../core/assert.ts";
import { kvBytesPerSlot } from "../../core/kv-cache.ts";
import { type LayerRange, lengthOf } from "../../core/ranges.ts";
import { type Slice, cutSlices, shardBytes } from "../../core/slice.ts";
import type { Holder } from "./holders.ts";
import type { ModelFacts, ModelSpec } from "./types.ts";

/** The runtime's own process and working space, apart from weights and KV; what a rank was measured to take. */
export const RUNTIME_BYTES = 150 << 20;

export type RankBytes = { readonly node: string; readonly weightBytes: number; readonly kvBytes: number };
type Part = { readonly holder: Holder; readonly layers: LayerRange };

export type Footprint = {
  /** Bytes of one layer, weights and the KV of every slot, on one undivided node. */
  readonly layerBytes: number;
  /** Bytes of embedding and head together, on one undivided node. */
  readonly endBytes: number;
  /** Layers that fit, after `used` bytes by node; with `reserveEnds` room for embedding and head is kept on every node. */
  layerCapacity(holder: Holder, used?: ReadonlyMap<string, number>, reserveEnds?: boolean): number;
  /** Bytes by rank of one segment. `first`: with the embedding; `last`: with the head. */
  bytes(part: Part, first: boolean, last: boolean): readonly RankBytes[];
  fits(part: Part, first: boolean, last: boolean, used: ReadonlyMap<string, number>): boolean;
};

export function footprint(model: ModelSpec, { config }: ModelFacts): Footprint {
  // A rank without attention of our own keeps all positions of layers with a window; int8 is refused there, f32 is not.
  const cache = { dtype: model.kvDtype, contextLength: model.contextLength, wraps: model.kvDtype !== "f32" };
  const cuts = new Map<string, readonly Slice[]>();
  const slicesOf = (weights: readonly number[]): readonly Slice[] => {
    const key = weights.join(",");
    const known = cuts.get(key) ?? cutSlices(config, weights);
    cuts.set(key, known);
    return known;
  };
  const rank = (slice: Slice, layers: LayerRange, first: boolean, last: boolean) => {
    const weightBytes = shardBytes(config, layers, slice, model.quantization, { first, last });
    return { weightBytes, kvBytes: kvBytesPerSlot(config, layers, slice, cache) * model.slotCount };
  };
  const total = (slice: Slice, layers: LayerRange, first: boolean, last: boolean) => {
    const { weightBytes, kvBytes } = rank(slice, layers, first, last);
    return weightBytes + kvBytes;
  };
  const whole = present(slicesOf([1])[0], "one weight makes one slice");
  const one = heaviestLayer(config, (layer) => total(whole, layer, false, false));
  const layerBytes = total(whole, one, false, false);
  const bytes = ({ holder, layers }: Part, first: boolean, last: boolean) =>
    holder.nodes.map((node, index) => ({
      node: node.name,
      ...rank(present(slicesOf(holder.sliceWeights)[index], "a slice for every rank"), layers, first, last),
    }));
  return {
    layerBytes,
    endBytes: total(whole, one, true, true) - layerBytes,
    layerCapacity: (holder, used = new Map(), reserveEnds = false) => {
      const capacities = holder.nodes.map((node, index) => {
        const slice = present(slicesOf(holder.sliceWeights)[index], "a slice for every rank");
        const each = total(slice, one, false, false);
        const ends = reserveEnds ? total(slice, one, true, true) - each : 0;
        return Math.floor((node.freeBytes - RUNTIME_BYTES - ends - (used.get(node.name) ?? 0)) / each);
      });
      return Math.min(config.layerCount, Math.max(0, Math.min(...capacities)));
    },
    bytes,
    fits: (part, first, last, used) =>
      lengthOf(part.layers) > 0 &&
      bytes(part, first, last).every(({ weightBytes, kvBytes }, index) => {
        const node = present(part.holder.nodes[index], "a node for every rank");
        return weightBytes + kvBytes + RUNTIME_BYTES + (used.get(node.name) ?? 0) <= node.freeBytes;
      }),
  };
}

/** Layers differ where some have a window or experts: whoever has room for so many of the heaviest has room for any. */
function heaviestLayer({ layerKinds }: ModelFacts["config"], bytesOf: (layer: LayerRange) => number): LayerRange {
  const kinds = new Map(layerKinds.map((kind, layer) => [`${kind.attention} ${kind.experts}`, layer]));
  const layers = [...kinds.values()].map((start) => ({ start, end: start + 1 }));
  return layers.reduce((most, layer) => (bytesOf(layer) > bytesOf(most) ? layer : most));
}
