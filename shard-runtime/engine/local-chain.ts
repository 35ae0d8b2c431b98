/**
 * A whole model in one process: every rank of every segment as its own engine, run in lock-step on the calling thread.
 * For comparing (eval, tests) and measuring; what serves runs each rank in a process of its own.
 */
import { assert, present } from "../../core/assert.ts";
import type { ModelConfig } from "../../core/model-config.ts";
import type { LayerRange } from "../../core/ranges.ts";
import { valueOrThrow } from "../../core/result.ts";
import { cutSlices } from "../../core/slice.ts";
import type { Output, ShardEngine, StepRows } from "./engine.ts";
import { type EngineOptions, loadEngine } from "./ort-engine.ts";
import { packShard } from "./pack.ts";
import { sumInRankOrder } from "./reduce.ts";
import type { PackFormat, Shard } from "./shard.ts";
import type { TensorSource } from "./tensor-source.ts";

export type LocalModel = { readonly config: ModelConfig; readonly root: string; readonly tensors: TensorSource };

export type LocalSegment = { readonly layers: LayerRange; readonly sliceWeights: readonly number[] };

export type LocalChainOptions = {
  readonly quantization: PackFormat;
  readonly device?: string; // default cpu
  readonly openDevice?: EngineOptions["openDevice"];
  readonly products?: EngineOptions["products"];
  readonly kvDtype?: EngineOptions["kvDtype"];
  readonly cacheDirectory: string;
  readonly contextLength: number;
  readonly slotCount: number;
  readonly threadCount: number;
  readonly spin: boolean;
  readonly onProgress?: (text: string) => void;
};

export class LocalChain {
  readonly #segments: readonly (readonly ShardEngine[])[]; // ranks in order, by segment
  readonly #vocabularySize: number;

  private constructor(segments: readonly (readonly ShardEngine[])[], vocabularySize: number) {
    this.#segments = segments;
    this.#vocabularySize = vocabularySize;
  }

  /** Packs (or finds packed) and loads every shard. The segments cover all layers, in order. */
  static async load(model: LocalModel, plan: readonly LocalSegment[], options: LocalChainOptions): Promise<LocalChain> {
    const segments: ShardEngine[][] = [];
    try {
      for (const { layers, sliceWeights } of plan) {
        const ranks: ShardEngine[] = [];
        segments.push(ranks);
        for (const slice of cutSlices(model.config, sliceWeights))
          ranks.push(await loadShard(model, { layers, slice }, options));
      }
    } catch (cause) {
      for (const engine of segments.flat()) engine.close();
      throw cause;
    }
    return new LocalChain(segments, model.config.vocabularySize);
  }

  get engines(): readonly ShardEngine[] {
    return this.#segments.flat();
  }

  acquire(session: string): void {
    for (const engine of this.engines) valueOrThrow(engine.acquire(session));
  }

  release(session: string): void {
    for (const engine of this.engines) engine.release(session);
  }

  /** Logits [vocabulary] after the last row of every step with `sample`, in order. */
  run(steps: readonly StepRows[], tokenIds: Uint32Array): readonly Float32Array[] {
    let input: Uint32Array | Float32Array = tokenIds;
    let outputs: readonly Output[] = [];
    for (const ranks of this.#segments) {
      outputs = runInLockStep(ranks, { steps, input });
      input = present(outputs[0], "a segment has a rank").hidden;
    }
    const ranks = present(this.#segments.at(-1), "a chain has a segment");
    return steps
      .filter((step) => step.sample)
      .map((_, index) => {
        const logits = new Float32Array(this.#vocabularySize);
        for (const [rank, engine] of ranks.entries()) {
          const { start, end } = engine.facts.vocabulary;
          const width = end - start;
          logits.set(
            present(outputs[rank], "every rank answers").logits.subarray(index * width, (index + 1) * width),
            start,
          );
        }
        return logits;
      });
  }

  /** A prompt (in chunks) or a token of one session at its next position; logits after its last row. */
  feed(session: string, tokenIds: readonly number[], chunkLength = 128): Float32Array {
    let logits: readonly Float32Array[] = [];
    for (let start = 0; start < tokenIds.length; start += chunkLength) {
      const chunk = Uint32Array.from(tokenIds.slice(start, start + chunkLength));
      const position = present(this.engines[0]?.positionOf(session), "the session was acquired");
      logits = this.run([{ session, position, rowCount: chunk.length, sample: true }], chunk);
    }
    return present(logits[0], "at least one token is fed");
  }

  close(): void {
    for (const engine of this.engines) engine.close();
  }
}

async function loadShard(model: LocalModel, shard: Shard, options: LocalChainOptions): Promise<ShardEngine> {
  const { layers, slice } = shard;
  const what = `layers ${layers.start}-${layers.end}, rank ${slice.rankIndex} of ${slice.rankCount}`;
  const { directory } = await packShard(model.tensors, model.config, shard, {
    modelRoot: model.root,
    quantization: options.quantization,
    cacheDirectory: options.cacheDirectory,
    onProgress: (doneCount, totalCount) => options.onProgress?.(`${what}: packed ${doneCount} of ${totalCount}`),
  });
  return loadEngine({ device: "cpu", ...options, shardDirectory: directory });
}

/** Advances every rank to its next exchange, adds, and goes on, until all are done. */
export function runInLockStep(
  ranks: readonly ShardEngine[],
  batch: Parameters<ShardEngine["forward"]>[0],
): readonly Output[] {
  const forwards = ranks.map((engine) => engine.forward(batch));
  for (;;) {
    const results = forwards.map((forward) => forward.next());
    const outputs = results.flatMap((result) => (result.done === true ? [result.value] : []));
    if (outputs.length === ranks.length) return outputs;
    assert(outputs.length === 0, "the ranks of a segment exchange equally often");
    const partials = results.flatMap((result) => (result.done === true ? [] : [result.value]));
    const sum = new Float32Array(present(partials[0], "a rank exchanges").length);
    sumInRankOrder(partials, sum);
    for (const partial of partials) partial.set(sum);
  }
}
