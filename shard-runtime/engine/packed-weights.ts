/** What of a shard's weights lies in its weights file, by what the graphs use it for. */
import type { StoredTensor } from "./graph/onnx.ts";
import type { NormPlace } from "./program.ts";

/** A matrix [outputs, inputs] as it was packed. */
export type PackedMatrix =
  | { readonly format: "float"; readonly values: StoredTensor } // [outputs, inputs], f32 or f16
  | {
      readonly format: "blocks"; // MatMulNBits
      readonly bits: number; // 4 | 8
      readonly blockSize: number;
      readonly outputCount: number;
      readonly inputCount: number;
      readonly values: StoredTensor; // u8 [outputs, blocks, blockSize × bits / 8]
      readonly scales: StoredTensor; // f32 [outputs × blocks]
      readonly zeroPoints?: StoredTensor; // u8 [outputs × ceil(blocks × bits / 8)]; absent: the middle of the range
    };

export type PackedProjection = { readonly matrix: PackedMatrix; readonly bias?: StoredTensor };

export type PackedFeedForward = {
  readonly gateUp: PackedProjection; // rows of gate, then up
  readonly down: PackedProjection;
};

export type PackedLayer = {
  readonly norms: Readonly<Partial<Record<NormPlace, StoredTensor>>>;
  readonly qkv: PackedProjection; // rows of q, then k, then v; heads padded
  readonly qNorm?: StoredTensor; // gains, of one padded head or of this rank's padded heads
  readonly kNorm?: StoredTensor;
  readonly attentionOut: PackedProjection;
  readonly feedForward?: PackedFeedForward; // of a layer without experts
  readonly router?: PackedProjection; // f32, all experts
  readonly experts?: ReadonlyMap<number, PackedFeedForward>; // those of this rank
};

export type PackedHead = { readonly norm: StoredTensor; readonly matrix: PackedMatrix };

export type PackedShard = { readonly layers: ReadonlyMap<number, PackedLayer>; readonly head?: PackedHead };
