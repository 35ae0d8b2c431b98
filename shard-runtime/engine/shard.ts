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

/** What a packed shard is made from: the same identity gives the same bytes. */
export type ShardIdentity = Shard & {
  readonly kind: "tessellate/shard/v2";
  readonly packer: number;
  readonly modelRoot: string;
  readonly config: ModelConfig;
  readonly quantization: PackFormat;
};

/** Outputs that are laid out together when a matrix is loaded (native/products.h): a piece holds whole groups of them. */
export const GROUP_ROWS = 16;

/** Where the parts of a matrix with 4- or 8-bit weights begin in the weights file, in bytes. Each begins a section. */
export type MatrixPlace = {
  readonly name: string; // of the weights in the graphs
  readonly bits: number;
  readonly blockSize: number;
  readonly outputCount: number;
  readonly inputCount: number;
  readonly values: number;
  readonly scales: number;
  readonly zeroPoints?: number;
};

/** shard.json: what the directory holds and what it must hash to. */
export type ShardDescription = ShardIdentity & {
  readonly files: readonly PackedFile[];
  readonly matrices: readonly MatrixPlace[];
};

export const DESCRIPTION_FILE = "shard.json";
/** The description's own digest, sha256:…, so that a spoilt description is known before anything is done by it. */
export const DIGEST_FILE = "shard.digest";
export const WEIGHTS_FILE = "weights.bin";
/** f32 [layers, heads of the slice], only where the model has sinks. */
export const SINKS_FILE = "sinks.bin";
export const EMBEDDING_FILE = "embedding.bin";

export type DescribedShard = { readonly description: ShardDescription; readonly digest: string };

/** The description in a directory that {@link packShard} returned. */
export async function readShard(directory: string): Promise<DescribedShard> {
  const shard = await findShard(directory);
  if (shard === undefined) throw new Error(`${directory} holds no packed shard, or a spoilt one; remove it`);
  return shard;
}

/** Undefined where there is none, or its description is not what was written. */
export async function findShard(directory: string): Promise<DescribedShard | undefined> {
  const read = (name: string) => readFile(join(directory, name)).catch(() => undefined);
  const [text, expected] = await Promise.all([read(DESCRIPTION_FILE), read(DIGEST_FILE)]);
  if (text === undefined || expected === undefined) return undefined;
  const digest = digestOf(text);
  if (digest !== expected.toString("utf8")) return undefined;
  return { description: JSON.parse(text.toString("utf8")) as ShardDescription, digest };
}
