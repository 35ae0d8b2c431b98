/**
 * From a checkpoint's tensors to what the engine loads: graphs, one file of packed weights, one of embeddings. Packing
 * is deterministic, so two nodes that hold the same slice hold the same bytes, and its digest can stand in a receipt.
 * What is packed stays in a cache that the ranks of a node share; a directory appears there whole or not at all.
 */
import { randomBytes } from "node:crypto";
import { mkdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { digestOf } from "../../core/digest.ts";
import type { ModelConfig } from "../../core/model-config.ts";
import { isIntact } from "./hashed-file.ts";
import {
  type DescribedShard,
  type PackFormat,
  type Shard,
  type ShardDescription,
  type ShardIdentity,
  findShard,
} from "./shard.ts";
import { type ShardLoad, startShardLoad } from "./shard-load.ts";
import { touch } from "./shard-shelf.ts";
import type { TensorSource } from "./tensor-source.ts";

/** Counts up when the same input is packed to other bytes. */
const PACKER_VERSION = 5;

export type PackOptions = {
  readonly modelRoot: string; // sha256:… of the manifest; part of the cache's key
  readonly quantization: PackFormat;
  readonly cacheDirectory: string;
  /** Reads what is packed by native threads where there is a library for it; see shard-load.ts. */
  readonly reading?: () => Promise<ShardReading | undefined>;
  /** Called before a shard is packed that was not found. */
  readonly makeRoom?: () => Promise<void>;
  /** Told after each tensor: parts done and in all. */
  readonly onProgress?: (doneCount: number, totalCount: number) => void;
};

export type ShardReading = {
  readonly library: string; // of native/products.ts
  readonly threadCount: number;
  readonly laysOut: boolean; // whether the engine will compute with the library's products
};

export type PackedShard = {
  readonly directory: string;
  readonly digest: string;
  /** Reads and lays out the weights already; only while `load` runs. */
  readonly reading?: ShardLoad | undefined;
};

/**
 * Packs the shard, or finds it packed: a packed one is hashed again before it is trusted, and packed anew where a byte
 * has changed. `digest` (sha256:…) covers every packed byte. Refusals of the source pass through.
 */
export function packShard(
  source: TensorSource,
  config: ModelConfig,
  shard: Shard,
  options: PackOptions,
): Promise<PackedShard> {
  return withPackedShard(
    source,
    config,
    shard,
    options,
    ({ directory, digest }) => Promise.resolve({ directory, digest }),
    () => Promise.resolve(),
  );
}

/**
 * Gives the packed shard to `load` while its bytes are hashed beside: reading them twice at once takes the time of once.
 * Where a byte has changed, what was loaded goes to `discard`, whatever it came to, and the shard is packed and loaded
 * anew; nothing of it is ever returned.
 */
export async function withPackedShard<T>(
  source: TensorSource,
  config: ModelConfig,
  shard: Shard,
  options: PackOptions,
  load: (packed: PackedShard) => Promise<T>,
  discard: (loaded: T) => Promise<void>,
): Promise<T> {
  for (;;) {
    const { directory, digest, description, isNew } = await findOrPack(source, config, shard, options);
    const how = await options.reading?.();
    const reading = how && startShardLoad(how.library, directory, description, how);
    try {
      const [loaded, intact] = await Promise.allSettled([
        load({ directory, digest, reading }),
        reading?.intact ?? (isNew ? true : areIntact(directory, description)),
      ]);
      if (intact.status === "fulfilled" && intact.value) {
        if (loaded.status === "rejected") throw loaded.reason;
        return loaded.value;
      }
      if (loaded.status === "fulfilled") await discard(loaded.value);
      // Not the files' fault, such as too little memory.
      if (intact.status === "rejected") throw intact.reason;
      await rm(directory, { recursive: true, force: true });
    } finally {
      reading?.end();
    }
  }
}

type Found = DescribedShard & { readonly directory: string; readonly isNew: boolean };

async function findOrPack(
  source: TensorSource,
  config: ModelConfig,
  shard: Shard,
  options: PackOptions,
): Promise<Found> {
  const identity: ShardIdentity = {
    kind: "tessellate/shard/v2",
    packer: PACKER_VERSION,
    modelRoot: options.modelRoot,
    config,
    layers: shard.layers,
    slice: shard.slice,
    quantization: options.quantization,
  };
  const key = digestOf(Buffer.from(JSON.stringify(identity))).slice("sha256:".length, "sha256:".length + 32);
  const directory = join(options.cacheDirectory, "shards", key);
  const found = await findShard(directory);
  if (found !== undefined) {
    await touch(directory);
    return { ...found, directory, isNew: false };
  }
  await options.makeRoom?.();

  // A rank beside this one may pack the same shard now: each has its own place, the first to finish wins.
  const partial = `${directory}.${process.pid}-${randomBytes(4).toString("hex")}.partial`;
  await mkdir(partial, { recursive: true });
  try {
    // Most starts find the shard packed, and packing is a third of the modules.
    const { packFiles } = await import("./pack-files.ts");
    const packed = await packFiles(source, identity, partial, options.onProgress);
    await settle(partial, directory);
    return { ...packed, directory, isNew: true };
  } finally {
    source.rest?.();
    await rm(partial, { recursive: true, force: true });
  }
}

/** Moves `partial` into place, in place of a spoilt directory, but not of a whole one that came meanwhile. */
async function settle(partial: string, directory: string): Promise<void> {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await rename(partial, directory);
    } catch (cause) {
      const found = await findShard(directory);
      if (found !== undefined && (await areIntact(directory, found.description))) return;
      if (attempt === 2) throw new Error(`cannot put the packed shard at ${directory}`, { cause });
      await rm(directory, { recursive: true, force: true });
    }
  }
}

/** Whether every file of a packed shard is there and what its description says. */
async function areIntact(directory: string, { files }: ShardDescription): Promise<boolean> {
  try {
    for (const file of files) if (!(await isIntact(directory, file))) return false;
    return true;
  } catch {
    return false;
  }
}
