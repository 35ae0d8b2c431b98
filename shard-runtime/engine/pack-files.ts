/// <reference lib="es2025.float16" />
/** Writing the files of a packed shard: graphs, weights, embedding. Deterministic: the same slice gives the same bytes. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { digestOf } from "../../core/digest.ts";
import type { ModelConfig } from "../../core/model-config.ts";
import type { Range } from "../../core/ranges.ts";
import { HashedFile, type PackedFile } from "./hashed-file.ts";
import { packGraphs, packSinks } from "./pack-graphs.ts";
import {
  DESCRIPTION_FILE,
  DIGEST_FILE,
  type DescribedShard,
  EMBEDDING_FILE,
  type PackFormat,
  SINKS_FILE,
  type Shard,
  type ShardDescription,
  type ShardIdentity,
  WEIGHTS_FILE,
} from "./shard.ts";
import type { TensorSource } from "./tensor-source.ts";
import { rowBlocks } from "./weight-writer.ts";

/** Fills `directory` with the shard that `identity` names. */
export async function packFiles(
  source: TensorSource,
  identity: ShardIdentity,
  directory: string,
  onProgress?: (doneCount: number, totalCount: number) => void,
): Promise<DescribedShard> {
  const { config, quantization, ...shard } = identity;
  const files: PackedFile[] = [];
  const weights = await HashedFile.create(directory, WEIGHTS_FILE);
  try {
    const { graphs, matrices } = await packGraphs(source, config, shard, quantization, weights, onProgress);
    for (const graph of graphs) {
      const file = await HashedFile.create(directory, graph.name);
      await file.write(graph.bytes);
      files.push(await file.finish());
    }
    files.push(await weights.finish());
    if (config.sinks) files.push(await packSinksFile(source, shard, directory));
    if (shard.layers.start === 0)
      files.push(await packEmbedding(source, shard.slice.vocabulary, quantization, directory, config));
    files.sort((a, b) => (a.name < b.name ? -1 : 1));
    const description: ShardDescription = {
      ...identity,
      files,
      matrices: matrices.map(({ values, scales, zeroPoints, ...matrix }) => ({
        name: values.name,
        bits: matrix.bits,
        blockSize: matrix.blockSize,
        outputCount: matrix.outputCount,
        inputCount: matrix.inputCount,
        values: values.offset,
        scales: scales.offset,
        ...(zeroPoints === undefined ? {} : { zeroPoints: zeroPoints.offset }),
      })),
    };
    const text = Buffer.from(`${JSON.stringify(description, undefined, 1)}\n`);
    await writeFile(join(directory, DESCRIPTION_FILE), text);
    const digest = digestOf(text);
    await writeFile(join(directory, DIGEST_FILE), digest);
    return { description, digest };
  } finally {
    await weights.abandon();
  }
}

async function packSinksFile(source: TensorSource, shard: Shard, directory: string): Promise<PackedFile> {
  const file = await HashedFile.create(directory, SINKS_FILE);
  const values = await packSinks(source, shard);
  await file.write(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  return file.finish();
}

/** Rows of the embedding as they will be looked up: f32, or f16 where the matrices are smaller still. */
async function packEmbedding(
  source: TensorSource,
  rows: Range,
  quantization: PackFormat,
  directory: string,
  config: ModelConfig,
): Promise<PackedFile> {
  const file = await HashedFile.create(directory, EMBEDDING_FILE);
  try {
    for (const part of rowBlocks(rows, config.hiddenSize)) {
      const values = await source.read("embedding.weight", { rows: part });
      const stored = quantization === "f32" ? values : new Float16Array(values);
      await file.write(new Uint8Array(stored.buffer, stored.byteOffset, stored.byteLength));
    }
    return await file.finish();
  } finally {
    await file.abandon();
  }
}
