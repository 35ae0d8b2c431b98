/** What a packed shard is, and the description that lies beside it. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { digestOf } from "../../core/digest.ts";
import type { ModelConfig } from "../../core/model-config.ts";
import type { LayerRange } from "../../core/ranges.ts";
import type { Slice } from "../../core/slice.ts";
import type { PackedFile } from "./hashed-file.ts";

/** How weights are stored: as the matrices of the plan, or (for comparison only) rounded to f16 and computed in f32. */
export type PackFormat = "f32" | "f16" | "int8" | "int4";

/** What a rank holds. The embedding comes with layer 0, the head with the last layer. */
export type Shard = { readonly layers: LayerRange; readonly slice: Slice };

/** shard.json: what the directory holds and what it must hash to. */
export type ShardDescription = {
  readonly kind: "tessellate/shard/v1";
  readonly packer: number;
  readonly modelRoot: string;
  readonly config: ModelConfig;
  readonly layers: LayerRange;
  readonly slice: Slice;
  readonly quantization: PackFormat;
  readonly files: readonly PackedFile[];
};

export const DESCRIPTION_FILE = "shard.json";
export const WEIGHTS_FILE = "weights.bin";
/** f32 [layers, heads of the slice], only where the model has sinks. */
export const SINKS_FILE = "sinks.bin";
export const EMBEDDING_FILE = "embedding.bin";

/** The description in a directory that {@link packShard} returned. */
export async function readShard(directory: string): Promise<{ description: ShardDescription; digest: string }> {
  const text = await readFile(join(directory, DESCRIPTION_FILE));
  return { description: JSON.parse(text.toString("utf8")) as ShardDescription, digest: digestOf(text) };
}
