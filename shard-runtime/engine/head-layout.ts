/**
 * How the engine's attention wants heads: a multiple of 16 values, and rotary embedding pairs the first half of all of
 * them with the second. A head of another size, or of which only a part turns, is laid out anew: zeros among the rows of
 * q, k and v and the columns of the output projection change no result, nor does an order that q and k share.
 */
import type { ModelConfig } from "../../core/model-config.ts";
import { type Range, lengthOf } from "../../core/ranges.ts";
import { paddedHeadSize } from "../../core/slice.ts";
import type { TensorBlocks, TensorSource } from "./tensor-source.ts";

const ROLE = /^layers\.(\d+)\.([qkvo])\.(weight|bias|norm)$/;

/** Place of each value of a head in the padded head. Undefined: as they are. */
type Places = readonly number[] | undefined;

/**
 * Places of queries and keys. Pairs (i, rotarySize / 2 + i) of those that turn go to (i, half + i), the others fill what
 * is left, and the rotary tables are 1 and 0 there.
 */
export function turningPlaces(headSize: number, rotarySize: number): Places {
  const padded = Math.ceil(headSize / 16) * 16;
  const [half, turning] = [padded / 2, rotarySize / 2];
  if (padded === headSize && rotarySize === headSize) return undefined;
  const left = [
    ...Array.from({ length: half - turning }, (_, i) => turning + i),
    ...Array.from({ length: half - turning }, (_, i) => half + turning + i),
  ];
  return Array.from({ length: headSize }, (_, i) => {
    if (i < turning) return i;
    return i < rotarySize ? half + i - turning : (left[i - rotarySize] ?? 0);
  });
}

/** Places of values and of what the output projection reads: in order, then zeros. */
const plainPlaces = (headSize: number): Places =>
  headSize % 16 === 0 ? undefined : Array.from({ length: headSize }, (_, i) => i);

/** The same weights with heads as the engine holds them; ranges of their rows and columns are those of padded heads. */
export function withHeadLayout(source: TensorSource, config: ModelConfig): TensorSource {
  const { headSize } = config;
  const paddedSize = paddedHeadSize(config);
  const plain = plainPlaces(headSize);
  const kinds = config.attentionKinds.map(({ rope }) => turningPlaces(headSize, rope?.rotarySize ?? headSize));
  const find = (role: string) => {
    const [, layer, letter, what] = ROLE.exec(role) ?? [];
    const turns = letter === "q" || letter === "k";
    const places = turns ? kinds[config.layerKinds[Number(layer)]?.attention ?? 0] : plain;
    if (letter === undefined || places === undefined) return undefined;
    const along = letter !== "o" ? "rows" : what === "weight" ? "columns" : undefined;
    return along === undefined ? undefined : ({ places, along, gain: what === "norm" } as const);
  };
  return {
    async read(role, part = {}) {
      const found = find(role);
      const range = found && part[found.along];
      if (found === undefined || range === undefined) return source.read(role, part);
      const { taken, places } = originalsOf(range, found.places, paddedSize);
      const values = await source.read(role, { ...part, [found.along]: taken });
      const count = lengthOf(range);
      if (found.along === "columns") return spread(values, values.length / lengthOf(taken), count, places, 1);
      // A mean over the padded head is smaller by what the padding adds to its length.
      const scaled = found.gain ? values.map((value) => value * Math.sqrt(headSize / paddedSize)) : values;
      return spread(scaled, 1, count, places, values.length / lengthOf(taken));
    },
    async readBlocks(role, part = {}) {
      const found = find(role);
      const range = found && part[found.along];
      if (found === undefined || range === undefined) return source.readBlocks?.(role, part);
      if (found.along === "columns") return undefined;
      const { taken, places } = originalsOf(range, found.places, paddedSize);
      const blocks = await source.readBlocks?.(role, { ...part, rows: taken });
      return blocks === undefined ? undefined : spreadBlocks(blocks, lengthOf(taken), lengthOf(range), places);
    },
  };
}

/**
 * Which originals a range of padded indexes holds: the range `taken` that covers them, and for each of those its place
 * in the padded range. At least one is always taken, so that its width can be known; one outside has no place.
 */
function originalsOf(padded: Range, headPlaces: readonly number[], paddedSize: number) {
  const size = headPlaces.length;
  const first = Math.floor(padded.start / paddedSize) * size;
  const last = Math.ceil(padded.end / paddedSize) * size;
  const places = Array.from({ length: last - first }, (_, index) => {
    const original = first + index;
    const place = Math.floor(original / size) * paddedSize + (headPlaces[original % size] ?? 0) - padded.start;
    return place >= 0 && place < lengthOf(padded) ? place : undefined;
  });
  return { taken: { start: first, end: last }, places };
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

/** Rows at their places; those between have scale 0, whatever their integers. */
function spreadBlocks(
  blocks: TensorBlocks,
  takenCount: number,
  count: number,
  places: readonly (number | undefined)[],
): TensorBlocks {
  const move = <T extends Uint8Array | Float32Array>(from: T, to: T): T => {
    const width = from.length / takenCount;
    for (const [index, place] of places.entries())
      if (place !== undefined) to.set(from.subarray(index * width, (index + 1) * width), place * width);
    return to;
  };
  const sized = (array: ArrayLike<number>) => (array.length / takenCount) * count;
  return {
    ...blocks,
    values: move(blocks.values, new Uint8Array(sized(blocks.values))),
    scales: move(blocks.scales, new Float32Array(sized(blocks.scales))),
    ...(blocks.zeroPoints === undefined
      ? {}
      : { zeroPoints: move(blocks.zeroPoints, new Uint8Array(sized(blocks.zeroPoints))) }),
  };
}
