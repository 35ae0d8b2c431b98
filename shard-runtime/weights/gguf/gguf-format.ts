/** Tensors in GGUF's block types: rows of blocks, one after the other. */
import { type Range, lengthOf } from "../../../core/ranges.ts";
import type { TensorBlocks } from "../../engine/tensor-source.ts";
import { type Encoding, type Format, type Rect, covering, windowOf } from "../formats/encoding.ts";
import { assertShape } from "../formats/plain.ts";
import type { TensorEntry } from "../safetensors.ts";
import { type BlockType, blockTypeNamed } from "./block-types.ts";

export const ggufFormat: Format = {
  mainTensor: (name) => name,
  async encodingOf(wanted, lookup) {
    const entry = await lookup.find(wanted.name);
    const type = entry === undefined ? undefined : blockTypeNamed(entry.dtype);
    if (entry === undefined || type === undefined) return undefined;
    assertShape(lookup, entry, wanted);
    return blockEncoding(entry, type, wanted.extent.rows);
  },
};

function blockEncoding(entry: TensorEntry, type: BlockType, planeRows: number): Encoding {
  const width = entry.shape.at(-1) ?? 1;
  const rowBytes = (width / type.valueCount) * type.byteCount;
  return {
    transposed: false,
    scattered: false,
    windows({ plane, rows, columns }) {
      const { start, end } = covering(columns, type.valueCount);
      const bytes = { start: start * type.byteCount, end: end * type.byteCount };
      return [windowOf(entry, { rowBytes, planeRows, plane }, rows, bytes)];
    },
    decode: (rect, [raw = new Uint8Array()]) => decode(type, rect, raw),
    blocks: (rect, [raw = new Uint8Array()]) => blocksOf(type, rect, raw),
  };
}

function decode(type: BlockType, { rows, columns }: Rect, raw: Uint8Array): Float32Array {
  const blocks: Range = covering(columns, type.valueCount);
  const blockCount = lengthOf(blocks);
  const width = lengthOf(columns);
  const out = new Float32Array(lengthOf(rows) * width);
  const line = new Float32Array(blockCount * type.valueCount);
  const skipped = columns.start - blocks.start * type.valueCount;
  for (let row = 0; row < lengthOf(rows); row += 1) {
    for (let block = 0; block < blockCount; block += 1)
      type.decode(raw, (row * blockCount + block) * type.byteCount, line, block * type.valueCount);
    out.set(line.subarray(skipped, skipped + width), row * width);
  }
  return out;
}

function blocksOf(type: BlockType, { columns }: Rect, raw: Uint8Array): TensorBlocks | undefined {
  const blockSize = type.valueCount;
  if (type.blocks === undefined || columns.start % blockSize !== 0 || columns.end % blockSize !== 0) return undefined;
  const { bits, pack } = type.blocks;
  const scales = new Float32Array(raw.length / type.byteCount);
  const packedBytes = (blockSize * bits) / 8;
  const values = new Uint8Array(scales.length * packedBytes);
  for (let block = 0; block < scales.length; block += 1)
    scales[block] = pack(raw, block * type.byteCount, values, block * packedBytes);
  return scales.some(Number.isNaN) ? undefined : { bits, blockSize, values, scales };
}
