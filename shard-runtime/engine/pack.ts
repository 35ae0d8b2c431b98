/// <reference lib="es2025.float16" />
/**
 * From a checkpoint's tensors to what the engine loads: graphs, one file of packed weights, one of embeddings. Packing
 * is deterministic, so two nodes that hold the same slice hold the same bytes, and its digest can stand in a receipt.
 * What is packed stays in a cache that the ranks of a node share; a directory appears there whole or not at all.
 */
import { createHash, randomBytes } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { digestOf } from "../../core/digest.ts";
import type { ModelConfig } from "../../core/model-config.ts";
import type { Range } from "../../core/ranges.ts";
import { HashedFile, type PackedFile } from "./hashed-file.ts";
import { packGraphs, packSinks } from "./pack-graphs.ts";
import {
  DESCRIPTION_FILE,
  EMBEDDING_FILE,
  type PackFormat,
  SINKS_FILE,
  type Shard,
  type ShardDescription,
  WEIGHTS_FILE,
} from "./shard.ts";
import type { TensorSource } from "./tensor-source.ts";
import { rowBlocks } from "./weight-writer.ts";

/** Counts up when the same input is packed to other bytes. */
const PACKER_VERSION = 4;

export type PackOptions = {
  readonly modelRoot: string; // sha256:… of the manifest; part of the cache's key
  readonly quantization: PackFormat;
  readonly cacheDirectory: string;
  /** Told after each tensor: parts done and in all. */
  readonly onProgress?: (doneCount: number, totalCount: number) => void;
};

export type PackedShard = { readonly directory: string; readonly digest: string };

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
    const packed = await findOrPack(source, config, shard, options);
    const [loaded, intact] = await Promise.allSettled([load(packed), packed.intact]);
    if (intact.status === "fulfilled" && intact.value) {
      if (loaded.status === "rejected") throw loaded.reason;
      return loaded.value;
    }
    if (loaded.status === "fulfilled") await discard(loaded.value);
    await rm(packed.directory, { recursive: true, force: true });
  }
}

/** `intact`: whether every file hashes to what the description says; known at once of a shard packed just now. */
async function findOrPack(
  source: TensorSource,
  config: ModelConfig,
  shard: Shard,
  options: PackOptions,
): Promise<PackedShard & { readonly intact: Promise<boolean> }> {
  const identity = {
    kind: "tessellate/shard/v1" as const,
    packer: PACKER_VERSION,
    modelRoot: options.modelRoot,
    config,
    layers: shard.layers,
    slice: shard.slice,
    quantization: options.quantization,
  };
  const key = digestOf(Buffer.from(JSON.stringify(identity))).slice("sha256:".length, "sha256:".length + 32);
  const directory = join(options.cacheDirectory, "shards", key);
  const found = await readFile(join(directory, DESCRIPTION_FILE)).catch(() => undefined);
  if (found !== undefined)
    return {
      directory,
      digest: digestOf(found),
      intact: verifiedDigest(directory).then((digest) => digest !== undefined),
    };

  // A rank beside this one may pack the same shard now: each has its own place, the first to finish wins.
  const partial = `${directory}.${process.pid}-${randomBytes(4).toString("hex")}.partial`;
  await mkdir(partial, { recursive: true });
  try {
    const files = await packFiles(source, config, shard, options, partial);
    const description: ShardDescription = { ...identity, files };
    const text = Buffer.from(`${JSON.stringify(description, undefined, 1)}\n`);
    await writeFile(join(partial, DESCRIPTION_FILE), text);
    await settle(partial, directory);
    return { directory, digest: digestOf(text), intact: Promise.resolve(true) };
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
      if ((await verifiedDigest(directory)) !== undefined) return;
      if (attempt === 2) throw new Error(`cannot put the packed shard at ${directory}`, { cause });
      await rm(directory, { recursive: true, force: true });
    }
  }
}

/** The digest of a packed shard whose every file is there and hashes to what its description says, else undefined. */
async function verifiedDigest(directory: string): Promise<string | undefined> {
  const text = await readFile(join(directory, DESCRIPTION_FILE)).catch(() => undefined);
  if (text === undefined) return undefined;
  try {
    const description = JSON.parse(text.toString("utf8")) as ShardDescription;
    for (const file of description.files) {
      const hash = createHash("sha256");
      await pipeline(createReadStream(join(directory, file.name), { highWaterMark: 1 << 20 }), hash);
      if (hash.digest("hex") !== file.sha256) return undefined;
    }
    return digestOf(text);
  } catch {
    return undefined;
  }
}

async function packFiles(
  source: TensorSource,
  config: ModelConfig,
  shard: Shard,
  options: PackOptions,
  directory: string,
): Promise<readonly PackedFile[]> {
  const files: PackedFile[] = [];
  const weights = await HashedFile.create(directory, WEIGHTS_FILE);
  try {
    const graphs = await packGraphs(source, config, shard, options.quantization, weights, options.onProgress);
    for (const graph of graphs) {
      const file = await HashedFile.create(directory, graph.name);
      await file.write(graph.bytes);
      files.push(await file.finish());
    }
    files.push(await weights.finish());
  } finally {
    await weights.abandon();
  }
  if (config.sinks) {
    const sinks = await HashedFile.create(directory, SINKS_FILE);
    const values = await packSinks(source, shard);
    await sinks.write(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    files.push(await sinks.finish());
  }
  if (shard.layers.start === 0)
    files.push(await packEmbedding(source, shard.slice.vocabulary, options, directory, config));
  return files.sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Rows of the embedding as they will be looked up: f32, or f16 where the matrices are smaller still. */
async function packEmbedding(
  source: TensorSource,
  rows: Range,
  options: PackOptions,
  directory: string,
  config: ModelConfig,
): Promise<PackedFile> {
  const file = await HashedFile.create(directory, EMBEDDING_FILE);
  try {
    for (const part of rowBlocks(rows, config.hiddenSize)) {
      const values = await source.read("embedding.weight", { rows: part });
      const stored = options.quantization === "f32" ? values : new Float16Array(values);
      await file.write(new Uint8Array(stored.buffer, stored.byteOffset, stored.byteLength));
    }
    return await file.finish();
  } finally {
    await file.abandon();
  }
}
