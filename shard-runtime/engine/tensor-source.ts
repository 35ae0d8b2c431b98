/**
 * Where the packer gets weights from. The engine knows nothing of files, servers or safetensors; whoever implements
 * this reads only the bytes asked for and has checked every one of them before it hands out a number.
 */
import type { Range } from "../../core/ranges.ts";

export type TensorPart = {
  readonly rows?: Range; // all rows where absent
  readonly columns?: Range; // all columns where absent
};

export interface TensorSource {
  /**
   * A part of the tensor of a role (core/tensor-places.ts) as f32, row-major [rows, columns]. A matrix is [outputs,
   * inputs]; a tensor of one axis of length n counts as n rows of one column. bf16 and
   * f16 widen exactly. Throws a RefusalError naming tensor and file where the tensor is missing, has another shape or
   * dtype than can be read, or its bytes are not those of the manifest.
   */
  read(role: string, part?: TensorPart): Promise<Float32Array>;
}
