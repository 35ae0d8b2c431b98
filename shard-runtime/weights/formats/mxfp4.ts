/**
 * MXFP4 as gpt-oss has it for its experts: `<name>_blocks` [experts, outputs, inputs / 32, 16], two 4-bit floats (e2m1) a
 * byte with the earlier one low, and `<name>_scales` [experts, outputs, inputs / 32], a power of two for each block. The
 * unquantised tensor of that name is [experts, inputs, outputs]: the other way round.
 */
import { lengthOf } from "../../../core/ranges.ts";
import type { TensorBlocks } from "../../engine/tensor-source.ts";
import { type Encoding, type Format, type Rect, covering, windowOf } from "./encoding.ts";
import { partOf } from "./grouped-integers.ts";

const BLOCK = 32;
const BLOCK_BYTES = BLOCK / 2;

/** Twice the value of every e2m1: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives. */
const TWICE = Int8Array.of(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12);

export const mxfp4Format: Format = {
  mainTensor: (name) => `${name}_blocks`,
  async encodingOf({ name, shape, extent }, lookup) {
    const { planes, rows: inputCount, columns: outputCount } = extent;
    if (shape.length !== 3 || (await lookup.find(`${name}_blocks`)) === undefined) return undefined;
    const blockCount = inputCount / BLOCK;
    const blocks = await partOf(lookup, `${name}_blocks`, ["U8"], [planes, outputCount, blockCount, BLOCK_BYTES]);
    const scales = await partOf(lookup, `${name}_scales`, ["U8"], [planes, outputCount, blockCount]);
    return {
      transposed: true,
      scattered: false,
      windows({ plane, rows, columns }) {
        const { start, end } = covering(columns, BLOCK);
        const ofBlocks = { rowBytes: blockCount * BLOCK_BYTES, planeRows: outputCount, plane };
        return [
          windowOf(blocks, ofBlocks, rows, { start: start * BLOCK_BYTES, end: end * BLOCK_BYTES }),
          windowOf(scales, { rowBytes: blockCount, planeRows: outputCount, plane }, rows, { start, end }),
        ];
      },
      decode: (rect, [values = new Uint8Array(), exponents = new Uint8Array()]) => decode(rect, values, exponents),
      blocks: (rect, [values = new Uint8Array(), exponents = new Uint8Array()]) => blocksOf(rect, values, exponents),
    } satisfies Encoding;
  },
};

/** e8m0: 2^(byte - 127), halved since TWICE is doubled. Exact: the smallest is a subnormal f32. 255 is no number. */
const HALF_SCALES = Float32Array.from({ length: 256 }, (_, byte) => (byte === 255 ? Number.NaN : 2 ** (byte - 128)));

function decode({ rows, columns }: Rect, values: Uint8Array, exponents: Uint8Array): Float32Array {
  const blocks = covering(columns, BLOCK);
  const blockCount = lengthOf(blocks);
  const out = new Float32Array(lengthOf(rows) * lengthOf(columns));
  for (let row = 0, at = 0; row < lengthOf(rows); row += 1)
    for (let column = columns.start; column < columns.end; column += 1, at += 1) {
      const block = row * blockCount + Math.floor(column / BLOCK) - blocks.start;
      const byte = values[block * BLOCK_BYTES + ((column % BLOCK) >> 1)] ?? 0;
      out[at] = (TWICE[column % 2 === 0 ? byte & 15 : byte >> 4] ?? 0) * (HALF_SCALES[exponents[block] ?? 0] ?? 0);
    }
  return out;
}

/** Not sixteen evenly spaced values, but within 8 bits all of them: nothing is rounded. */
function blocksOf({ columns }: Rect, values: Uint8Array, exponents: Uint8Array): TensorBlocks | undefined {
  if (columns.start % BLOCK !== 0 || columns.end % BLOCK !== 0 || exponents.includes(255)) return undefined;
  const bytes = new Uint8Array(values.length * 2);
  for (const [index, byte] of values.entries()) {
    bytes[2 * index] = 128 + (TWICE[byte & 15] ?? 0);
    bytes[2 * index + 1] = 128 + (TWICE[byte >> 4] ?? 0);
  }
  return { bits: 8, blockSize: BLOCK, values: bytes, scales: Float32Array.from(exponents, (e) => HALF_SCALES[e] ?? 0) };
}
