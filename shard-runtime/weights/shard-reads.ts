/**
 * What a rank reads of a model's tensors, in the order of use: for progress, which has to know its end before the first
 * byte comes. The packer reads by itself; where it reads more than is said here, the end moves.
 */
import type { ModelConfig } from "../../core/model-config.ts";
import type { Range } from "../../core/ranges.ts";
import type { Slice } from "../../core/slice.ts";
import { tensorPlaces } from "../../core/tensor-places.ts";
import type { TensorPart } from "../engine/tensor-source.ts";
import type { TensorRead } from "./checkpoint.ts";

export function shardReads(config: ModelConfig, layers: Range, slice: Slice): readonly TensorRead[] {
  const partOf = partsOf(config, slice);
  return tensorPlaces(config).flatMap(({ role }) => {
    if (!isHeld(role, config, layers, slice)) return [];
    const part = partOf(role);
    return [part === undefined ? { role } : { role, part }];
  });
}

function isHeld(role: string, { layerCount }: ModelConfig, layers: Range, slice: Slice): boolean {
  const [, layer, expert] = /^layers\.(\d+)\.(?:experts\.(\d+)\.)?/.exec(role) ?? [];
  if (layer === undefined) return role.startsWith("embedding.") ? layers.start === 0 : layers.end === layerCount;
  const isOwn = (index: number, { start, end }: Range) => index >= start && index < end;
  return isOwn(Number(layer), layers) && (expert === undefined || isOwn(Number(expert), slice.experts));
}

/** The part of a role's tensor that the slice takes; undefined: all of it. */
function partsOf({ headSize }: ModelConfig, slice: Slice): (role: string) => TensorPart | undefined {
  const values = ({ start, end }: Range): Range => ({ start: start * headSize, end: end * headSize });
  const heads = values(slice.heads);
  const kvHeads = values({ start: Math.min(...slice.kvHeads), end: Math.max(...slice.kvHeads) + 1 });
  const parts: readonly (readonly [RegExp, TensorPart])[] = [
    [/^(embedding|head)\.weight$/, { rows: slice.vocabulary }],
    [/^layers\.\d+\.q\.(weight|bias)$/, { rows: heads }],
    [/^layers\.\d+\.[kv]\.(weight|bias)$/, { rows: kvHeads }],
    [/^layers\.\d+\.o\.weight$/, { columns: heads }],
    [/^layers\.\d+\.(gate|up)\.(weight|bias)$/, { rows: slice.columns }],
    [/^layers\.\d+\.down\.weight$/, { columns: slice.columns }],
  ];
  return (role) => parts.find(([pattern]) => pattern.test(role))?.[1];
}
