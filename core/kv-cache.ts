/**
 * What a session keeps of the positions it has been through, and how much room that takes: the planner counts it, the
 * engine makes it.
 */
import { assert } from "./assert.ts";
import type { ModelConfig } from "./model-config.ts";
import { type LayerRange, lengthOf } from "./ranges.ts";
import { type Slice, paddedHeadSize } from "./slice.ts";

/**
 * Form of keys and values. int8: codes with one f32 scale for every {@link CODES_PER_SCALE} values of a head at a
 * position, rounded once, when the position is written; attention of our own only (native/attention.c).
 */
export const KV_DTYPES = ["f32", "int8"] as const;
export type KvDtype = (typeof KV_DTYPES)[number];

export const CODES_PER_SCALE = 32;

/** Rows of one session that go through attention with a window at once; the others wait for their turn. */
export const WINDOWED_ROWS_MAX = 256;

/** Keys lie in blocks of so many positions. */
const BLOCK_POSITIONS = 16;

/**
 * Positions that a layer must keep room for. With a window that is less than the context where the cache is written
 * round and round: the window of the first row that comes, and the rows themselves.
 */
export function keptPositions(contextLength: number, window: number | undefined): number {
  assert(contextLength > 0 && (window === undefined || window > 0), "a context and a window have positions");
  if (window === undefined) return contextLength;
  const round = Math.ceil((window + WINDOWED_ROWS_MAX) / BLOCK_POSITIONS) * BLOCK_POSITIONS;
  return Math.min(contextLength, round);
}

/** Of keys or of values: one head at one position. */
const bytesOfHead = (headSize: number, dtype: KvDtype): number =>
  dtype === "f32" ? headSize * 4 : headSize + Math.ceil(headSize / CODES_PER_SCALE) * 4;

export type KvCacheShape = {
  readonly dtype: KvDtype;
  readonly contextLength: number; // positions of one slot
  /** Whether layers with a window keep {@link keptPositions} of them; otherwise every layer keeps all. */
  readonly wraps: boolean;
};

/** Bytes of one position of a session on one rank, over so many layers: what a token reads of each position it sees. */
export const kvBytesPerPosition = (config: ModelConfig, layers: LayerRange, slice: Slice, dtype: KvDtype): number =>
  lengthOf(layers) * 2 * slice.kvHeads.length * bytesOfHead(paddedHeadSize(config), dtype);

/** Bytes of one slot on one rank, over all of its layers. */
export function kvBytesPerSlot(
  config: ModelConfig,
  layers: LayerRange,
  slice: Slice,
  { dtype, contextLength, wraps }: KvCacheShape,
): number {
  const perPosition = kvBytesPerPosition(config, { start: 0, end: 1 }, slice, dtype);
  return config.layerKinds.slice(layers.start, layers.end).reduce((sum, { attention }) => {
    const window = wraps ? config.attentionKinds[attention]?.window : undefined;
    return sum + keptPositions(contextLength, window) * perPosition;
  }, 0);
}
