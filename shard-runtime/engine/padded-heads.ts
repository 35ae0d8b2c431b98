/**
 * Head sizes that the engine's attention does not take (it wants multiples of 16) as ones that it does: zeros among the
 * rows of q, k and v and the columns of the output projection change no result. Rotary embedding pairs the first half of
 * a head with the second, so each half is filled up by itself.
 */
import type { ModelConfig } from "../../core/model-config.ts";
import { type Range, lengthOf } from "../../core/ranges.ts";
import { paddedHeadSize } from "../../core/slice.ts";
import type { TensorSource } from "./tensor-source.ts";

const HEADS_IN_ROWS = /\.[qkv]\.(weight|bias)$/;
const HEADS_IN_COLUMNS = /\.o\.weight$/;

/** The same model with padded heads; ranges of rows and columns are those of the padded tensors. */
export function withPaddedHeads(
  source: TensorSource,
  config: ModelConfig,
): { readonly source: TensorSource; readonly config: ModelConfig } {
  const headSize = paddedHeadSize(config);
  if (headSize === config.headSize) return { source, config };
  const originals = (padded: Range) => originalsOf(padded, config.headSize, headSize);
  return {
    config: { ...config, headSize },
    source: {
      async read(name, part = {}) {
        if (HEADS_IN_ROWS.test(name) && part.rows !== undefined) {
          const { taken, places } = originals(part.rows);
          const values = await source.read(name, { ...part, rows: taken });
          const width = lengthOf(taken) === 0 ? 0 : values.length / lengthOf(taken);
          return spread(values, 1, lengthOf(part.rows), places, width);
        }
        if (HEADS_IN_COLUMNS.test(name) && part.columns !== undefined) {
          const { taken, places } = originals(part.columns);
          const values = await source.read(name, { ...part, columns: taken });
          return spread(values, values.length / lengthOf(taken), lengthOf(part.columns), places, 1);
        }
        return source.read(name, part);
      },
    },
  };
}

/**
 * Which originals a range of padded indexes holds: the range `taken` that covers them, and for each of those its place
 * in the padded range. At least one is always taken, so that its width can be known; one outside has no place.
 */
function originalsOf(padded: Range, size: number, paddedSize: number) {
  const half = size / 2;
  const first = Math.floor(padded.start / paddedSize) * size;
  const last = Math.ceil(padded.end / paddedSize) * size;
  const taken = { start: first, end: last };
  const places = Array.from({ length: last - first }, (_, index) => {
    const original = first + index;
    const within = original % size;
    const inHead = within < half ? within : paddedSize / 2 + within - half;
    const place = Math.floor(original / size) * paddedSize + inHead - padded.start;
    return place >= 0 && place < lengthOf(padded) ? place : undefined;
  });
  return { taken, places };
}

/** Items of `width` values, `places.length` to a row, put at their places in rows of `count` items, zeros between. */
function spread(
  values: Float32Array,
  rowCount: number,
  count: number,
  places: readonly (number | undefined)[],
  width: number,
): Float32Array {
  const out = new Float32Array(rowCount * count * width);
  for (let row = 0; row < rowCount; row += 1) {
    for (const [index, place] of places.entries()) {
      if (place === undefined) continue;
      const from = (row * places.length + index) * width;
      out.set(values.subarray(from, from + width), (row * count + place) * width);
    }
  }
  return out;
}
