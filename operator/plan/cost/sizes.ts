/** What a step of the wanted model reads and sends: bytes of an average layer, of the head and of a hand-off. */
import { heldScale } from "../../../core/held-bytes.ts";
import { kvBytesPerPosition } from "../../../core/kv-cache.ts";
import type { LayerRange } from "../../../core/ranges.ts";
import { type Slice, cutSlices, shardBytes } from "../../../core/slice.ts";
import type { ModelFacts, ModelSpec } from "../types.ts";

/** Of one rank of a segment. Layers may differ (experts in some): these are of the average one. */
export type RankSizes = {
  readonly layerBytes: number; // weights
  readonly expertBytes: number; // of these, what lies in experts
  readonly kvBytesPerPosition: number; // of one layer
  readonly headBytes: number;
};

export type ModelSizes = {
  readonly layerCount: number;
  readonly expertShare: number; // of a layer's experts that one row goes through, in [0, 1]
  readonly rowBytes: number; // of a hand-off, a row
  readonly partialBytes: number; // of an all-reduce, a row: f32 whatever the hand-off's form
  readonly vocabularySize: number;
  /** By rank of a segment with these slice weights. */
  ranks(sliceWeights: readonly number[]): readonly RankSizes[];
};

/** Session, position, shape and gRPC's frame beside the values. */
const FRAME_BYTES = 64;

export function modelSizes(
  { quantization, handOffDtype, kvDtype }: Pick<ModelSpec, "quantization" | "handOffDtype" | "kvDtype">,
  { config, held }: Pick<ModelFacts, "config" | "held">,
): ModelSizes {
  const { layerCount, hiddenSize, experts } = config;
  const all: LayerRange = { start: 0, end: layerCount };
  const scale = heldScale(config, quantization, held);
  const bytes = (slice: Slice, last: boolean) =>
    shardBytes(config, all, slice, quantization, { first: false, last }, scale);
  const sizesOf = (slice: Slice): RankSizes => {
    const layers = bytes(slice, false);
    const withoutExperts = bytes({ ...slice, experts: { start: 0, end: 0 } }, false);
    return {
      layerBytes: layers / layerCount,
      expertBytes: (layers - withoutExperts) / layerCount,
      kvBytesPerPosition: kvBytesPerPosition(config, all, slice, kvDtype) / layerCount,
      headBytes: bytes(slice, true) - layers,
    };
  };
  const known = new Map<string, readonly RankSizes[]>();
  return {
    layerCount,
    expertShare: experts === undefined ? 1 : experts.perToken / experts.count,
    rowBytes: hiddenSize * (handOffDtype === "f16" ? 2 : 4) + FRAME_BYTES,
    partialBytes: hiddenSize * 4 + FRAME_BYTES,
    vocabularySize: config.vocabularySize,
    ranks: (sliceWeights) => {
      const key = sliceWeights.join(",");
      const found = known.get(key) ?? cutSlices(config, sliceWeights).map(sizesOf);
      known.set(key, found);
      return found;
    },
  };
}
