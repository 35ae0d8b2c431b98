/**
 * The model's arithmetic for one shard. Knows nothing of sockets, keys, providers or clusters.
 *
 * How it is used (by the transport through engine-thread.ts, by `evaluate` in one process):
 *
 *     engine.acquire("s1");                                  // a KV slot; Result, refuses NoFreeSlot
 *     const forward = engine.forward({ steps: [{ session: "s1", position: 0, rowCount: 5, sample: true }], input });
 *     let next = forward.next();
 *     while (!next.done) { sum every rank's next.value in rank order, in place; next = forward.next(); }
 *     const output = next.value;                              // hidden rows, or this rank's slice of the logits
 *     engine.release("s1");
 *
 * A row's bits follow from its session's tokens alone: not from what else is in the batch, how a prompt is cut into
 * chunks, whether a token was decoded or prefilled, where the chain is cut into segments, or how many threads compute.
 * So a session can be replayed, or audited, by prefill and compared bit for bit. Only the tensor-parallel cut rounds
 * differently; it is part of the drift class.
 *
 * With one rank in the segment `forward` never yields. With more, every rank of the segment runs the same batches in
 * the same order, so the n-th yield of one rank meets the n-th yield of the others; all have the same length.
 */
import type { LayerRange, Range } from "../../core/ranges.ts";
import type { Result } from "../../core/result.ts";

/** New rows of one session: a prefill chunk (rowCount > 1 or the start of the prompt) or one decoded token. */
export type StepRows = {
  readonly session: string;
  readonly position: number; // of the first row, 0-based; must be the session's next position
  readonly rowCount: number; // ≥ 1
  readonly sample: boolean; // logits after the last row are wanted (last segment; ignored elsewhere)
};

export type Batch = {
  readonly steps: readonly StepRows[]; // each session at most once
  /**
   * The rows of all steps, in order. First segment: token ids, u32 [rows]. Others: hidden states, f32 row-major
   * [rows, hiddenSize]. Not kept after the forward pass.
   */
  readonly input: Uint32Array | Float32Array;
};

export type Output = {
  /** f32 row-major [rows, hiddenSize], rows as in the batch; empty on the last segment. The same bits on every rank. */
  readonly hidden: Float32Array;
  /** f32 row-major [sampled steps, vocabulary slice], in order of the steps with `sample`; empty but on the last segment. */
  readonly logits: Float32Array;
};

/** Refusals of a batch leave every session as it was. */
export type EngineCode = "NoFreeSlot" | "UnknownSession" | "WrongPosition" | "ContextFull" | "MalformedBatch";

export type EngineFacts = {
  readonly layers: LayerRange;
  readonly first: boolean; // takes token ids
  readonly last: boolean; // gives logits
  readonly rankIndex: number;
  readonly rankCount: number;
  readonly hiddenSize: number;
  readonly vocabularySize: number; // of the whole model
  readonly vocabulary: Range; // this rank's rows of the head: its logits' place among all
  readonly contextLength: number; // positions per slot
  readonly slotCount: number;
  readonly maxBatchRows: number; // rows of one batch, all steps together
  readonly shardDigest: string; // sha256:… of the packed shard
  readonly driftClass: string; // inside one class the same input gives the same bits
};

export interface ShardEngine {
  readonly facts: EngineFacts;
  readonly freeSlotCount: number;
  /** Reserves a KV slot; a session that has one keeps it. Refuses `NoFreeSlot`. */
  acquire(session: string): Result<undefined, EngineCode>;
  /** Frees the slot. Releasing a session the engine never had is not an error. */
  release(session: string): void;
  /** The session's next position, or undefined where it has no slot. */
  positionOf(session: string): number | undefined;
  /** Why this batch cannot run, if it cannot. Pure; `forward` throws the same refusal as a RefusalError. */
  check(batch: Batch): Result<undefined, EngineCode>;
  /**
   * Runs the layers and appends to the KV cache of every session of the batch. Yields this rank's partial sum
   * (f32 [rows, hiddenSize], valid until the next call) whenever the segment's ranks must add theirs; the caller puts
   * the sum in its place before it goes on. A generator that is not run to its end leaves positions as they were.
   */
  forward(batch: Batch): Generator<Float32Array, Output, void>;
  /** Frees sessions, bindings and the native engine. No other call may follow. */
  close(): void;
}
