/**
 * What a rank reads of a model with attention and one FFN in every layer, without the packer: for measuring what fetching
 * costs. Test material.
 */
import { present } from "../../core/assert.ts";
import type { ModelConfig } from "../../core/model-config.ts";
import { type Range, lengthOf } from "../../core/ranges.ts";
import type { Slice } from "../../core/slice.ts";
import { tensorPlaces } from "../../core/tensor-places.ts";
import type { TensorRead } from "./checkpoint.ts";

/** The parts of the layers' tensors that the slice needs, in the order of use; KV heads once each. */
export function sliceReads(config: ModelConfig, layers: Range, slice: Slice): readonly TensorRead[] {
  const heads = ({ start, end }: Range): Range => ({ start: start * config.headSize, end: end * config.headSize });
  const kvHeads = { start: Math.min(...slice.kvHeads), end: Math.max(...slice.kvHeads) + 1 };
  const parts: Readonly<Record<string, object>> = {
    "q.weight": { rows: heads(slice.heads) },
    "k.weight": { rows: heads(kvHeads) },
    "v.weight": { rows: heads(kvHeads) },
    "o.weight": { columns: heads(slice.heads) },
    "gate.weight": { rows: slice.columns },
    "up.weight": { rows: slice.columns },
    "down.weight": { columns: slice.columns },
  };
  return tensorPlaces(config).flatMap(({ role }) => {
    const [, layer = "", name = ""] = /^layers\.(\d+)\.(.*)$/.exec(role) ?? [];
    if (layer === "" || Number(layer) < layers.start || Number(layer) >= layers.end) return [];
    const part = parts[name];
    return [part === undefined ? { role } : { role, part }];
  });
}

/** Bytes of these parts in a checkpoint of `elementBytes` a value. */
export function storedBytes(config: ModelConfig, reads: readonly TensorRead[], elementBytes: number): number {
  const shapes = new Map(tensorPlaces(config).map(({ role, shape }) => [role, shape]));
  return reads.reduce((total, { role, part = {} }) => {
    const [rowCount = 1, width = 1] = present(shapes.get(role), "the role of a place");
    const rows = part.rows === undefined ? rowCount : lengthOf(part.rows);
    return total + rows * (part.columns === undefined ? width : lengthOf(part.columns)) * elementBytes;
  }, 0);
}
