/** What layers cost in memory, on whole nodes and on the ranks of a group: the planner's arithmetic over core/slice.ts. */
import { present } from "../../core/assert.ts";
import { heldScale } from "../../core/held-bytes.ts";
import { kvBytesPerSlot } from "../../core/kv-cache.ts";
import type { LayerRange } from "../../core/ranges.ts";
import { type Slice, cutSlices, shardBytes } from "../../core/slice.ts";
import type { Holder } from "./holders.ts";
import type { Site } from "./tiling/problem.ts";
import type { Assignment, ModelFacts, ModelSpec } from "./types.ts";

/** The runtime's own process and working space, apart from weights and KV; what a rank was measured to take. */
export const RUNTIME_BYTES = 150 << 20;

/** Memory that a rank takes of its node. */
export const bytesOfRank = ({ weightBytes, kvBytes }: Pick<Assignment, "weightBytes" | "kvBytes">): number =>
  weightBytes + kvBytes + RUNTIME_BYTES;

/** Memory that the assignments take on a node. */
export const bytesOn = (node: string, assignments: readonly Assignment[]): number =>
  assignments.reduce((sum, assignment) => (assignment.node === node ? sum + bytesOfRank(assignment) : sum), 0);

export type RankBytes = { readonly node: string; readonly weightBytes: number; readonly kvBytes: number };
type Part = { readonly holder: Holder; readonly layers: LayerRange };

export type Footprint = {
  /** Bytes of the largest layer, weights and the KV of every slot, on one undivided node. */
  readonly layerBytes: number;
  /** Bytes of embedding and head together, on one undivided node. */
  readonly endBytes: number;
  /** Layers that fit, whichever they are, by what else of the model lies there. */
  layersMax(holder: Holder): Site["layersMax"];
  /** Bytes by rank of one segment: with the embedding where its layers are the first, with the head where the last. */
  bytes(part: Part): readonly RankBytes[];
};

export function footprint(model: ModelSpec, { config, held }: ModelFacts): Footprint {
  // A rank without attention of our own keeps all positions of layers with a window; int8 is refused there, f32 is not.
  const cache = { dtype: model.kvDtype, contextLength: model.contextLength, wraps: model.kvDtype !== "f32" };
  const scale = heldScale(config, model.quantization, held);
  const cuts = new Map<string, readonly Slice[]>();
  const slicesOf = (weights: readonly number[]): readonly Slice[] => {
    const key = weights.join(",");
    const known = cuts.get(key) ?? cutSlices(config, weights);
    cuts.set(key, known);
    return known;
  };
  const rank = (slice: Slice, layers: LayerRange, first: boolean, last: boolean) => {
    const weightBytes = shardBytes(config, layers, slice, model.quantization, { first, last }, scale);
    return { weightBytes, kvBytes: kvBytesPerSlot(config, layers, slice, cache) * model.slotCount };
  };
  const total = (slice: Slice, layers: LayerRange, first: boolean, last: boolean) => {
    const { weightBytes, kvBytes } = rank(slice, layers, first, last);
    return weightBytes + kvBytes;
  };
  const samples = oneOfEachKind(config.layerKinds);
  const sizesOf = (slice: Slice) => {
    const layer = Math.max(...samples.map((start) => total(slice, { start, end: start + 1 }, false, false)));
    const one: LayerRange = { start: 0, end: 1 };
    const bare = total(slice, one, false, false);
    return {
      layer,
      first: total(slice, one, true, false) - bare,
      last: total(slice, one, false, true) - bare,
      whole: total(slice, one, true, true) - bare, // one table may serve at both ends
    };
  };
  const known = new Map<string, readonly ReturnType<typeof sizesOf>[]>();
  const sizesIn = (weights: readonly number[]) => {
    const key = weights.join(",");
    const sizes = known.get(key) ?? slicesOf(weights).map(sizesOf);
    known.set(key, sizes);
    return sizes;
  };
  const whole = present(sizesIn([1])[0], "one weight makes one slice");
  return {
    layerBytes: whole.layer,
    endBytes: whole.whole,
    layersMax: ({ nodes, sliceWeights }) => {
      const sizes = sizesIn(sliceWeights);
      const roomAs = (end: "first" | "last" | "whole" | "inner") =>
        nodes.reduce((least, { freeBytes }, index) => {
          const size = present(sizes[index], "sizes for every rank");
          const left = freeBytes - RUNTIME_BYTES - (end === "inner" ? 0 : size[end]);
          return Math.min(least, Math.max(0, Math.floor(left / size.layer)));
        }, config.layerCount);
      return { inner: roomAs("inner"), first: roomAs("first"), last: roomAs("last"), whole: roomAs("whole") };
    },
    bytes: ({ holder, layers }) =>
      holder.nodes.map(({ name }, index) => ({
        node: name,
        ...rank(
          present(slicesOf(holder.sliceWeights)[index], "a slice for every rank"),
          layers,
          layers.start === 0,
          layers.end === config.layerCount,
        ),
      })),
  };
}

/** The first layer of each kind: layers of one kind have one size. */
function oneOfEachKind(kinds: readonly unknown[]): readonly number[] {
  const seen = new Map<string, number>();
  kinds.forEach((kind, index) => {
    const key = JSON.stringify(kind);
    if (!seen.has(key)) seen.set(key, index);
  });
  return seen.size === 0 ? [0] : [...seen.values()];
}
