/**
 * Where the packer gets weights from. The engine knows nothing of files, servers or safetensors; whoever implements
 * this reads only the bytes asked for and has checked every one of them before it hands out a number.
 */
import type { Range } from "../../core/ranges.ts";

export type TensorPart = {
  readonly rows?: Range; // all rows where absent
  readonly columns?: Range; // all columns where absent
};

/**
 * Part of a matrix as its checkpoint already holds it: integers in blocks along the inputs, as MatMulNBits reads them. A
 * value is (stored - zero point) × scale, so a packer that has this width takes them as they are and rounds nothing twice.
 */
export type TensorBlocks = {
  readonly bits: 4 | 8;
  readonly blockSize: number; // a power of two from 16 to 256; the part's columns are whole blocks
  readonly values: Uint8Array; // [rows, blocks, blockSize × bits / 8]; of two 4-bit values in a byte the earlier is low
  readonly scales: Float32Array; // [rows, blocks]
  readonly zeroPoints?: Uint8Array; // [rows, ceil(blocks × bits / 8)], packed likewise; absent: all 8 (4 bits) or 128
};

export interface TensorSource {
  /**
   * A part of the tensor of a role (core/tensor-places.ts) as f32, row-major [rows, columns]. A matrix is [outputs,
   * inputs]; a tensor of one axis of length n counts as n rows of one column. bf16 and
   * f16 widen exactly. Throws a RefusalError naming tensor and file where the tensor is missing, has another shape or
   * dtype than can be read, or its bytes are not those of the manifest.
   */
  read(role: string, part?: TensorPart): Promise<Float32Array>;

  /**
   * The same part as the blocks that the checkpoint holds, exactly equal to what {@link read} gives; undefined where it
   * holds none, or where the part's columns begin or end within a block. Refusals as for read.
   */
  readBlocks?(role: string, part?: TensorPart): Promise<TensorBlocks | undefined>;
  /** Told when nothing more will be read for now: what was kept for the next read may go. */
  rest?(): void;
}
