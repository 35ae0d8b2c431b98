/// <reference lib="es2025.float16" />
/** Reads tensors by role, converts and appends them to the weights file, a few rows at a time. */
import { assert } from "../../core/assert.ts";
import { type Range, lengthOf } from "../../core/ranges.ts";
import { FLOAT, FLOAT16, type StoredTensor, UINT8 } from "./graph/onnx.ts";
import type { HashedFile } from "./hashed-file.ts";
import type { PackedMatrix, PackedProjection } from "./packed-weights.ts";
import { type BlockBits, quantizeRows } from "./quantize.ts";
import { GROUP_ROWS, type PackFormat } from "./shard.ts";
import type { TensorBlocks, TensorSource } from "./tensor-source.ts";

/** Native code maps weights from the file; a page's start suits every vector instruction. */
const ALIGNMENT = 4096;

/** Values that are read, converted and written at once: 4 MiB of f32. PERF: larger ones leave the processor's caches. */
const BLOCK_VALUE_COUNT = 1 << 20;

/** `rows` in pieces small enough that a model larger than memory can be packed. */
export function* rowBlocks(rows: Range, columnCount: number): Generator<Range> {
  const step = Math.max(1, Math.floor(BLOCK_VALUE_COUNT / columnCount));
  for (let start = rows.start; start < rows.end; start += step) yield { start, end: Math.min(rows.end, start + step) };
}

/** Rows (outputs) and columns (inputs) of one tensor, named without its `.weight`, that go into a packed matrix. */
export type Rectangle = { readonly tensor: string; readonly rows: Range; readonly columns: Range };

export type BlockMatrix = Extract<PackedMatrix, { format: "blocks" }>;

/** Blocks as they lie in the source, if every rectangle of a matrix has them alike. */
type SourceBlocks = { readonly blockSize: number; readonly hasZeroPoints: boolean };

export class WeightWriter {
  readonly #source: TensorSource;
  readonly #format: PackFormat;
  readonly #weights: HashedFile;
  readonly #blocks: BlockMatrix[] = [];

  constructor(source: TensorSource, format: PackFormat, weights: HashedFile) {
    this.#source = source;
    this.#format = format;
    this.#weights = weights;
  }

  /** The matrices in blocks that were written so far. */
  get blocks(): readonly BlockMatrix[] {
    return this.#blocks;
  }

  /** Parts of tensors of one axis, one after the other, f32. */
  async vector(
    name: string,
    parts: readonly { readonly tensor: string; readonly rows: Range }[],
  ): Promise<StoredTensor> {
    const values: Float32Array[] = [];
    for (const { tensor, rows } of parts) values.push(await this.#source.read(tensor, { rows }));
    const joined = new Float32Array(values.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of values) {
      joined.set(part, at);
      at += part.length;
    }
    return this.#append(name, FLOAT, [joined.length], joined);
  }

  /** The matrix of a linear layer and, where `biased`, its bias. `format`: of the matrix, the packer's where absent. */
  async projection(
    name: string,
    rectangles: readonly Rectangle[],
    options: { readonly blockSize: number; readonly biased: boolean; readonly format?: PackFormat },
  ): Promise<PackedProjection> {
    const matrix = await this.matrix(name, rectangles, options.blockSize, options.format);
    if (!options.biased) return { matrix };
    const parts = rectangles.map(({ tensor, rows }) => ({ tensor: `${tensor}.bias`, rows }));
    return { matrix, bias: await this.vector(`${name}_bias`, parts) };
  }

  /** Rectangles stacked by rows; all have equally many columns. */
  async matrix(
    name: string,
    rectangles: readonly Rectangle[],
    blockSize: number,
    format = this.#format,
  ): Promise<PackedMatrix> {
    const outputCount = rectangles.reduce((sum, { rows }) => sum + lengthOf(rows), 0);
    const inputCount = rectangles[0] === undefined ? 0 : lengthOf(rectangles[0].columns);
    if (format === "int8" || format === "int4") {
      const bits = format === "int4" ? 4 : 8;
      const shape = { outputCount, inputCount, bits } as const;
      const found = await this.#sourceBlocks(rectangles, bits);
      const width = (size: number) => (Math.ceil(inputCount / size) * size * bits) / 8;
      await this.#weights.section(ALIGNMENT, GROUP_ROWS * width(found?.blockSize ?? blockSize));
      const matrix =
        found === undefined
          ? await this.#quantized(name, rectangles, { ...shape, blockSize })
          : await this.#copied(name, rectangles, { ...shape, ...found });
      this.#blocks.push(matrix);
      return matrix;
    }
    await this.#weights.section(ALIGNMENT);
    const offset = this.#weights.sizeBytes;
    for (const { tensor, part } of parts(rectangles)) {
      const values = await this.#source.read(`${tensor}.weight`, part);
      await this.#weights.write(bytesOf(format === "f16" ? new Float16Array(values) : values));
    }
    const dims = [outputCount, inputCount];
    return { format: "float", values: this.#stored(name, format === "f16" ? FLOAT16 : FLOAT, dims, offset) };
  }

  async #quantized(
    name: string,
    rectangles: readonly Rectangle[],
    shape: { outputCount: number; inputCount: number; blockSize: number; bits: BlockBits },
  ): Promise<BlockMatrix> {
    const blockCount = Math.ceil(shape.inputCount / shape.blockSize);
    const offset = this.#weights.sizeBytes;
    const scales = new Float32Array(shape.outputCount * blockCount);
    let at = 0;
    for (const { tensor, part } of parts(rectangles)) {
      const rows = await this.#source.read(`${tensor}.weight`, part);
      const quantized = quantizeRows(rows, shape.inputCount, shape.blockSize, shape.bits);
      scales.set(quantized.scales, at);
      at += quantized.scales.length;
      await this.#weights.write(quantized.values);
    }
    const dims = [shape.outputCount, blockCount, (shape.blockSize * shape.bits) / 8];
    const values = this.#stored(name, UINT8, dims, offset);
    const stored = await this.#append(`${name}_scales`, FLOAT, [at], scales, blockCount * 4);
    return { format: "blocks", ...shape, values, scales: stored };
  }

  /** Whether the source holds every rectangle in blocks of this width and one size: told by the first row of each. */
  async #sourceBlocks(rectangles: readonly Rectangle[], bits: BlockBits): Promise<SourceBlocks | undefined> {
    const sizes = new Set<number>();
    let hasZeroPoints = false;
    for (const { tensor, rows, columns } of rectangles) {
      const first = { start: rows.start, end: rows.start + 1 };
      const blocks = await this.#source.readBlocks?.(`${tensor}.weight`, { rows: first, columns });
      if (blocks?.bits !== bits) return undefined;
      sizes.add(blocks.blockSize);
      hasZeroPoints ||= blocks.zeroPoints !== undefined;
    }
    const [blockSize] = sizes;
    return blockSize === undefined || sizes.size > 1 ? undefined : { blockSize, hasZeroPoints };
  }

  /** Blocks as the source holds them: nothing is rounded twice. */
  async #copied(
    name: string,
    rectangles: readonly Rectangle[],
    shape: { outputCount: number; inputCount: number; blockSize: number; bits: BlockBits; hasZeroPoints: boolean },
  ): Promise<BlockMatrix> {
    const { hasZeroPoints, ...sizes } = shape;
    const blockCount = Math.ceil(shape.inputCount / shape.blockSize);
    const offset = this.#weights.sizeBytes;
    const scales = new Float32Array(shape.outputCount * blockCount);
    const zeroBytes = Math.ceil((blockCount * shape.bits) / 8);
    const zeroPoints = new Uint8Array(hasZeroPoints ? shape.outputCount * zeroBytes : 0);
    let row = 0;
    for (const { tensor, part } of parts(rectangles)) {
      const blocks = await this.#source.readBlocks?.(`${tensor}.weight`, part);
      assert(blocks?.blockSize === shape.blockSize, "a tensor is in blocks of one size throughout");
      scales.set(blocks.scales, row * blockCount);
      if (hasZeroPoints) zeroPoints.set(zeroPointsOf(blocks, blockCount, zeroBytes), row * zeroBytes);
      row += blocks.scales.length / blockCount;
      await this.#weights.write(blocks.values);
    }
    const values = this.#stored(
      name,
      UINT8,
      [shape.outputCount, blockCount, (shape.blockSize * shape.bits) / 8],
      offset,
    );
    const packed = { format: "blocks", ...sizes, values } as const;
    const stored = await this.#append(`${name}_scales`, FLOAT, [scales.length], scales, blockCount * 4);
    if (!hasZeroPoints) return { ...packed, scales: stored };
    const zeros = await this.#append(`${name}_zeros`, UINT8, [zeroPoints.length], zeroPoints, zeroBytes);
    return { ...packed, scales: stored, zeroPoints: zeros };
  }

  /** `rowBytes`: of what belongs to one output. */
  async #append(
    name: string,
    dataType: number,
    dims: readonly number[],
    values: Float32Array | Uint8Array,
    rowBytes?: number,
  ): Promise<StoredTensor> {
    await this.#weights.section(ALIGNMENT, rowBytes === undefined ? 1 : GROUP_ROWS * rowBytes);
    const offset = this.#weights.sizeBytes;
    await this.#weights.write(bytesOf(values));
    return this.#stored(name, dataType, dims, offset);
  }

  /** The tensor that was written from `offset` to the file's end. */
  #stored(name: string, dataType: number, dims: readonly number[], offset: number): StoredTensor {
    return { name, dataType, dims, file: this.#weights.name, offset, length: this.#weights.sizeBytes - offset };
  }
}

function* parts(
  rectangles: readonly Rectangle[],
): Generator<{ tensor: string; part: { rows: Range; columns: Range } }> {
  for (const { tensor, rows, columns } of rectangles)
    for (const part of rowBlocks(rows, lengthOf(columns))) yield { tensor, part: { rows: part, columns } };
}

/** A part without zero points among others that have them: the middle of the range, written out. */
function zeroPointsOf({ zeroPoints, scales, bits }: TensorBlocks, blockCount: number, rowBytes: number): Uint8Array {
  return zeroPoints ?? new Uint8Array((scales.length / blockCount) * rowBytes).fill(bits === 4 ? 0x88 : 0x80);
}

const bytesOf = (values: Float32Array | Float16Array | Uint8Array): Uint8Array =>
  new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
