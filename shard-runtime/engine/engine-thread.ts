/**
 * The engine on its own thread, so that the event loop that serves gRPC never waits for arithmetic. Signature first;
 * see the class for how the all-reduce crosses the threads.
 */
import type { LayerRange } from "../../core/ranges.ts";
import type { Quantization } from "../../core/rank-config.ts";
import type { Batch, EngineFacts, Output } from "./engine.ts";

/** A packed shard (see pack.ts) and how to run it. */
export type EngineOptions = {
  readonly shardDirectory: string; // as packShard returned it
  readonly device: string; // cpu | webgpu | cuda; refused as DeviceMissing where the loaded library lacks it
  readonly contextLength: number;
  readonly slotCount: number;
  readonly threadCount: number;
  readonly spin: boolean;
  readonly maxBatchRows?: number; // default 512
  readonly libraryPath?: string; // another libonnxruntime
};

/**
 * One all-reduce, called on the main thread while the engine waits. `partial` is this rank's share, f32
 * [rows, hiddenSize], in shared memory: put the sum over all ranks, added in rank order, into it and resolve. A
 * rejection fails the batch. `exchangeIndex` counts from 0 within the batch.
 */
export type Exchange = (partial: Float32Array, exchangeIndex: number) => Promise<void>;

export interface EngineThread {
  readonly facts: EngineFacts;
  acquire(session: string): Promise<void>; // rejects with a RefusalError: NoFreeSlot
  release(session: string): Promise<void>;
  /**
   * Runs one batch; batches queue and run in the order of the calls, as do acquire and release between them.
   * `exchange` must be given where the segment has more than one rank. Rejects with a RefusalError (code of
   * EngineCode) where the engine refuses; every session is then as it was before.
   */
  run(batch: Batch, exchange?: Exchange): Promise<Output>;
  /** Finishes what runs, fails what waits, frees the engine and ends the thread. */
  close(): Promise<void>;
}

/** Starts the thread and loads the shard. Rejects with a RefusalError that names file or device, or with weather. */
export declare function startEngineThread(options: EngineOptions): Promise<EngineThread>;

// What packing is told; packShard is in pack.ts:
//   packShard(source: TensorSource, config: ModelConfig, shard: Shard, options: { modelRoot, quantization, cacheDirectory })
//     → Promise<{ directory: string; digest: string }>
export type { LayerRange, Quantization };
