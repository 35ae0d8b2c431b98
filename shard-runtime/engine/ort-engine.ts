/**
 * The engine over ONNX Runtime: checks a batch, lays out its rows, runs the layers, and on the last segment the head for
 * the rows that are sampled. Blocks its thread while it computes.
 */
import { join } from "node:path";
import { present } from "../../core/assert.ts";
import type { KvDtype } from "../../core/kv-cache.ts";
import { RefusalError, type Result, ok, refuse, valueOrThrow } from "../../core/result.ts";
import { lengthOf } from "../../core/ranges.ts";
import type { PlacedRows } from "./attention.ts";
import { BoundCache, type RowRules, evenAbove, rowsToRun } from "./bound-cache.ts";
import type { Device, DeviceBuffer } from "./device.ts";
import { deviceClass, driftClass, engineBuild } from "./drift-class.ts";
import { Embedding } from "./embedding.ts";
import type { Batch, EngineCode, EngineFacts, Output, ShardEngine } from "./engine.ts";
import { checkKvDtype } from "./kv-dtype.ts";
import { KvSlots } from "./kv-slots.ts";
import { PRODUCTS_VERSION } from "./native/products-version.ts";
import { openDevice, whyNotOn } from "./open-device.ts";
import { Ort, type OrtSession, floats } from "./ort.ts";
import { INPUT, LOGITS, ZEROS, headPlan } from "./program.ts";
import { SegmentRunner } from "./segment-runner.ts";
import { usingLoad } from "./shard-load.ts";
import { EMBEDDING_FILE, type ShardDescription, readShard } from "./shard.ts";

/** A packed shard (see pack.ts) and how to run it. */
export type EngineOptions = {
  readonly shardDirectory: string; // as packShard returned it
  readonly device: string; // cpu, webgpu, cuda, …; refused as DeviceMissing where the node lacks it
  readonly contextLength: number;
  readonly slotCount: number;
  readonly threadCount: number;
  readonly spin: boolean;
  readonly kvDtype?: KvDtype | undefined; // what sessions keep; default f32. int8 needs `products` and the cpu
  readonly maxBatchRows?: number; // default 512
  readonly libraryPath?: string; // another libonnxruntime
  readonly products?: string | undefined; // the library of native/products.ts; absent: ONNX Runtime's own products
  readonly loadHandle?: bigint | undefined; // of a shard-load.ts that reads this shard now; with products only
  readonly openDevice?: ((kind: string, ort: Ort) => Device) | undefined; // another door than open-device.ts, for tests
  readonly shareMemory?: boolean; // partial sums lie in shared memory, for another thread to add
};

const MAX_BATCH_ROWS = 512;
const KEPT_SAMPLED_COUNTS = 32;
const EMPTY = new Float32Array(0);

/** Loads a packed shard. Throws a RefusalError that names device, library or limit, or an Error that names the file. */
export async function loadEngine(options: EngineOptions): Promise<ShardEngine> {
  const { description, digest } = await readShard(options.shardDirectory);
  const { maxPositions } = description.config;
  if (options.contextLength > maxPositions)
    throw new RefusalError(
      refuse(
        "ContextTooLong",
        `contextLength ${options.contextLength} is above the model's own limit of ${maxPositions} positions`,
      ),
    );
  const { kvDtype = "f32", products } = options;
  const library = products === undefined ? { reason: "it was not loaded" } : { path: products };
  valueOrThrow(checkKvDtype(kvDtype, options.device, library));
  const ort = new Ort(options);
  let device: Device | undefined;
  try {
    device = (options.openDevice ?? openDevice)(options.device, ort);
    const why = whyNotOn(device, description);
    if (why !== undefined) throw new RefusalError(refuse("DeviceMissing", why));
    const opened = device;
    const create = () => new OrtEngine(ort, opened, description, digest, options);
    const { products, loadHandle } = options;
    return products === undefined || loadHandle === undefined ? create() : usingLoad(products, loadHandle, create);
  } catch (cause) {
    device?.close();
    ort.close();
    throw cause;
  }
}

class OrtEngine implements ShardEngine {
  readonly facts: EngineFacts;
  readonly #ort: Ort;
  readonly #device: Device;
  readonly #slots: KvSlots;
  readonly #runner: SegmentRunner;
  readonly #embedding: Embedding | undefined;
  readonly #head: Head | undefined;

  constructor(ort: Ort, device: Device, shard: ShardDescription, digest: string, options: EngineOptions) {
    const { config, slice, layers } = shard;
    this.#ort = ort;
    this.#device = device;
    const facts = {
      layers,
      first: layers.start === 0,
      last: layers.end === config.layerCount,
      rankIndex: slice.rankIndex,
      rankCount: slice.rankCount,
      hiddenSize: config.hiddenSize,
      vocabularySize: config.vocabularySize,
      vocabulary: slice.vocabulary,
      contextLength: options.contextLength,
      slotCount: options.slotCount,
      maxBatchRows: options.maxBatchRows ?? MAX_BATCH_ROWS,
      shardDigest: digest,
    };
    this.#slots = new KvSlots(options.slotCount);
    const directory = options.shardDirectory;
    const partials = (valueCount: number) =>
      options.shareMemory === true ? new Float32Array(new SharedArrayBuffer(valueCount * 4)) : floats(valueCount);
    const rules = rowRules(device, shard, options);
    const kvDtype = options.kvDtype ?? "f32";
    const { maxBatchRows } = facts;
    this.#runner = new SegmentRunner(device, shard, { ...options, kvDtype, maxBatchRows, rules, partials });
    this.#embedding = facts.first
      ? new Embedding(join(directory, EMBEDDING_FILE), {
          vocabulary: slice.vocabulary,
          hiddenSize: config.hiddenSize,
          dtype: shard.quantization === "f32" ? "f32" : "f16",
          scale: config.embeddingScale,
        })
      : undefined;
    this.#head = facts.last ? new Head(device, facts, directory, rules) : undefined;
    const { quantization } = shard;
    const { rankCount } = slice;
    // Only now it is known which operators the device took.
    const parts = {
      engine: engineBuild(ort),
      device: deviceClass(device, rules.attention ? PRODUCTS_VERSION : undefined),
      quantization,
      rankCount,
      kvDtype,
    };
    this.facts = { ...facts, driftClass: driftClass(parts) };
  }

  get freeSlotCount(): number {
    return this.#slots.freeCount;
  }

  acquire(session: string): Result<undefined, EngineCode> {
    return this.#slots.acquire(session);
  }

  release(session: string): void {
    this.#slots.release(session);
  }

  positionOf(session: string): number | undefined {
    return this.#slots.find(session)?.position;
  }

  check(batch: Batch): Result<undefined, EngineCode> {
    return checkBatch(batch, this.facts, (session) => this.positionOf(session));
  }

  *forward(batch: Batch): Generator<Float32Array, Output, void> {
    valueOrThrow(this.check(batch));
    const placed = this.#place(batch);
    const rowCount = batch.steps.reduce((sum, step) => sum + step.rowCount, 0);
    const input = this.#runner.input.subarray(0, rowCount * this.facts.hiddenSize);
    if (batch.input instanceof Float32Array) input.set(batch.input);
    else {
      this.#embedding?.lookUp(batch.input, input);
      if (this.facts.rankCount > 1) yield input;
    }
    const hidden = yield* this.#runner.run(placed, rowCount);
    const output =
      this.#head === undefined
        ? { hidden: hidden.slice(), logits: EMPTY }
        : { hidden: EMPTY, logits: this.#head.run(sampledRows(batch), hidden) };
    for (const step of batch.steps) this.#slots.advance(step.session, step.rowCount);
    return output;
  }

  #place(batch: Batch): readonly PlacedRows[] {
    let rowStart = 0;
    return batch.steps.map(({ session, position, rowCount }) => {
      const { slot } = present(this.#slots.find(session), "a checked batch has slots");
      const placed = { slot, position, rowStart, rowCount };
      rowStart += rowCount;
      return placed;
    });
  }

  close(): void {
    this.#runner.close();
    this.#head?.close();
    this.#embedding?.close();
    this.#device.close();
    this.#ort.close();
  }
}

/** Our own operators are exact for any number of rows; ONNX Runtime's float products, of which a router is one, are not. */
function rowRules(device: Device, { config, quantization }: ShardDescription, { products }: EngineOptions): RowRules {
  const isOurs = products !== undefined && device.kind === "cpu";
  const isQuantized = quantization === "int4" || quantization === "int8";
  return { attention: isOurs, products: isOurs && isQuantized && config.experts === undefined };
}

/** Final norm and this rank's rows of the head, for the sampled rows only. */
class Head {
  readonly #session: OrtSession;
  readonly #rules: RowRules;
  readonly #bound: BoundCache;
  readonly #hiddenSize: number;
  readonly #width: number;
  readonly #hidden: Float32Array;
  readonly #logits: Float32Array;
  readonly #buffers: Readonly<Record<"hidden" | "zeros" | "logits", DeviceBuffer>>;

  constructor(
    device: Device,
    facts: Pick<EngineFacts, "hiddenSize" | "vocabulary" | "slotCount">,
    directory: string,
    rules: RowRules,
  ) {
    this.#rules = rules;
    this.#session = device.session(join(directory, headPlan.name));
    this.#bound = new BoundCache(device, KEPT_SAMPLED_COUNTS);
    this.#hiddenSize = facts.hiddenSize;
    this.#width = lengthOf(facts.vocabulary);
    const rowCountMax = evenAbove(facts.slotCount);
    this.#hidden = floats(rowCountMax * facts.hiddenSize);
    this.#logits = floats(rowCountMax * this.#width);
    this.#buffers = {
      hidden: device.shared(this.#hidden, facts.hiddenSize),
      zeros: device.buffer(rowCountMax, facts.hiddenSize),
      logits: device.shared(this.#logits, this.#width),
    };
  }

  /** Logits [rows, vocabulary slice] of the given rows of `hidden`. */
  run(rows: readonly number[], hidden: Float32Array): Float32Array {
    if (rows.length === 0) return EMPTY;
    const width = this.#hiddenSize;
    for (const [index, row] of rows.entries())
      this.#hidden.set(hidden.subarray(row * width, (row + 1) * width), index * width);
    const even = rowsToRun(rows.length, this.#rules);
    const [binding] = this.#bound.of(even, (graphs) => {
      const inputs = {
        [INPUT]: graphs.rows(this.#buffers.hidden, 0, even),
        [ZEROS]: graphs.rows(this.#buffers.zeros, 0, even),
      };
      graphs.bind(this.#session, inputs, { [LOGITS]: graphs.rows(this.#buffers.logits, 0, even) });
    });
    present(binding, "the head is one graph").run();
    return this.#logits.slice(0, rows.length * this.#width);
  }

  close(): void {
    this.#bound.close();
  }
}

/** The row after which each sampled step continues. */
function sampledRows(batch: Batch): readonly number[] {
  const rows: number[] = [];
  let end = 0;
  for (const step of batch.steps) {
    end += step.rowCount;
    if (step.sample) rows.push(end - 1);
  }
  return rows;
}

/** Why a batch cannot run, first reason first. Pure. */
export function checkBatch(
  batch: Batch,
  facts: EngineFacts,
  positionOf: (session: string) => number | undefined,
): Result<undefined, EngineCode> {
  const seen = new Set<string>();
  let rowCount = 0;
  for (const step of batch.steps) {
    const { session, position } = step;
    if (seen.has(session))
      return refuse("MalformedBatch", `session ${session} is twice in one batch; send one step at a time`);
    seen.add(session);
    if (!Number.isInteger(step.rowCount) || step.rowCount < 1)
      return refuse("MalformedBatch", `session ${session}: rowCount is ${step.rowCount}, at least 1 row makes a step`);
    const next = positionOf(session);
    if (next === undefined) return refuse("UnknownSession", `session ${session} has no KV slot here; open it first`);
    if (position !== next)
      return refuse(
        "WrongPosition",
        `session ${session}: the step is for position ${position}, the next one is ${next}`,
      );
    if (position + step.rowCount > facts.contextLength)
      return refuse(
        "ContextFull",
        `session ${session}: position ${position + step.rowCount} is past the context of ${facts.contextLength}`,
      );
    rowCount += step.rowCount;
  }
  if (rowCount === 0) return refuse("MalformedBatch", "the batch has no steps");
  if (rowCount > facts.maxBatchRows)
    return refuse("MalformedBatch", `the batch has ${rowCount} rows, at most ${facts.maxBatchRows} run at once`);
  return checkInput(batch.input, rowCount, facts);
}

function checkInput(input: Batch["input"], rowCount: number, facts: EngineFacts): Result<undefined, EngineCode> {
  if (!facts.first) {
    if (input instanceof Float32Array && input.length === rowCount * facts.hiddenSize) return ok(undefined);
    return refuse(
      "MalformedBatch",
      `input must be ${rowCount} × ${facts.hiddenSize} f32 values on a segment that starts at layer ${facts.layers.start}`,
    );
  }
  if (!(input instanceof Uint32Array) || input.length !== rowCount)
    return refuse("MalformedBatch", `input must be ${rowCount} token ids on the first segment`);
  const unknown = input.find((token) => token >= facts.vocabularySize);
  if (unknown === undefined) return ok(undefined);
  return refuse("MalformedBatch", `token id ${unknown} is outside the vocabulary of ${facts.vocabularySize}`);
}
