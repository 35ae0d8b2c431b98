/**
 * What fewer bits cost, of weights or of the KV cache: the packed model's next-token distributions against the source's, on a small sample. The
 * model goes through in segments of a few layers, each packed, run and removed before the next, so a machine can measure
 * a model that it could not serve: memory and disk are those of one segment in f32. It computes with the operators that
 * serve, where this machine has them.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { assert, present } from "../../core/assert.ts";
import type { Clock } from "../../core/clock.ts";
import { fileOf } from "../../core/manifest.ts";
import type { ModelConfig } from "../../core/model-config.ts";
import type { KvDtype } from "../../core/kv-cache.ts";
import type { Measured, MeasuredKv, QuantizationCost } from "../../core/quantization-cost.ts";
import type { LayerRange } from "../../core/ranges.ts";
import { valueOrThrow } from "../../core/result.ts";
import { cutSlices } from "../../core/slice.ts";
import { tensorPlaces } from "../../core/tensor-places.ts";
import type { ShardEngine } from "../engine/engine.ts";
import { runInLockStep } from "../engine/local-chain.ts";
import { machineLibrary } from "../engine/native/products.ts";
import { loadEngine } from "../engine/ort-engine.ts";
import { packShard } from "../engine/pack.ts";
import type { PackFormat } from "../engine/shard.ts";
import type { OpenModel } from "./open-model.ts";
import { type Sample, randomSample, textSample } from "./sample-text.ts";

const TOKENS_PER_SEQUENCE = 64;
/** f32 bytes of a segment's layers. */
const SEGMENT_BYTES = 1 << 30;

export type MeasureOptions = {
  readonly clock: Clock;
  /** Measuring is given up, as soon as its pace is known, where it would take longer. */
  readonly timeLimitMs: number;
  readonly segmentBytes?: number; // SEGMENT_BYTES where absent
  readonly onStep?: (text: string) => void;
};

export type Asked = { readonly quantizations: readonly Measured[]; readonly kvDtypes?: readonly MeasuredKv[] };

/** The costs in the order asked for, and in words what was not measured and why. */
export type Measurement = { readonly costs: readonly QuantizationCost[]; readonly unmeasured?: string };

/** Refusals of the source pass through. */
export async function measureCosts(
  model: OpenModel,
  { quantizations, kvDtypes = [], ...options }: MeasureOptions & Asked,
): Promise<Measurement> {
  const sample = await sampleOf(model);
  const directory = await mkdtemp(join(tmpdir(), "tessellate-measure-"));
  try {
    const library = await machineLibrary(join(directory, "native"));
    const products = "path" in library ? library.path : undefined;
    const kvMeasured = products === undefined ? [] : kvDtypes;
    const held = [
      ...quantizations.map((quantization) => ({ quantization })),
      ...kvMeasured.map((kvDtype) => ({ kvDtype })),
    ];
    const given = { ...options, products, directory };
    const divergences = await measureDivergences(model, sample, held, given);
    if (typeof divergences === "string") return { costs: [], unmeasured: divergences };
    const tokenCount = sample.sequences.reduce((sum, ids) => sum + ids.length, 0);
    const operators = products === undefined ? ("onnxruntime" as const) : ("own" as const);
    const costs = held.map((each, at) => {
      const meanKlNats = present(divergences[at], "each was measured");
      return { ...each, meanKlNats, tokenCount, sample: sample.kind, operators };
    });
    if (!("reason" in library) || kvDtypes.length === 0) return { costs };
    return { costs, unmeasured: `a KV cache in ${kvDtypes.join(", ")}: ${library.reason}` };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** How weights and KV are held; f32 where a part is left out. */
export type Variant = { readonly quantization?: PackFormat; readonly kvDtype?: KvDtype };

type DivergenceOptions = MeasureOptions & {
  readonly products?: string | undefined; // native/products.ts's library; absent: ONNX Runtime's operators
  readonly directory: string; // for what is packed; emptied again
};

/** Mean divergences from f32 on the sample, nats, in the order of `variants`; or why they were not measured. */
export async function measureDivergences(
  model: OpenModel,
  sample: Sample,
  variants: readonly Variant[],
  options: DivergenceOptions,
): Promise<readonly number[] | string> {
  const { config } = model;
  const all: readonly Variant[] = [{}, ...variants];
  const segments = segmentsOf(config, options.segmentBytes ?? SEGMENT_BYTES);
  const startedMs = options.clock.monotonicMs();
  let rows: readonly Rows[] = all.map(() => sample.sequences); // into the next segment, in the order of `all`
  for (const [at, layers] of segments.entries()) {
    const outputs: Rows[] = [];
    for (const [index, variant] of all.entries()) {
      const what = `${variant.quantization ?? "f32"}${variant.kvDtype === undefined ? "" : `, KV in ${variant.kvDtype}`}`;
      options.onStep?.(`measuring ${what}, layers ${layers.start} to ${layers.end} of ${config.layerCount}`);
      const input = present(rows[index], "each variant has its rows");
      outputs.push(await throughSegment(model, layers, variant, sample, input, options));
    }
    rows = outputs;
    const spentMs = options.clock.monotonicMs() - startedMs;
    const expectedMs = (spentMs / (at + 1)) * segments.length;
    if (expectedMs > options.timeLimitMs && at + 1 < segments.length)
      return `it would take about ${Math.ceil(expectedMs / 60_000)} minutes, more than the ${Math.floor(options.timeLimitMs / 60_000)} given`;
  }
  const [source = [], ...others] = rows.map((logits) => logits.filter((each) => each instanceof Float32Array));
  return others.map((logits) => meanKl(source, logits));
}

/** Of each sequence: token ids, or hidden states [tokens, hiddenSize]. */
type Rows = readonly (readonly number[] | Float32Array)[];

/** Text where the model has a tokenizer that can be used, else random tokens. */
export async function sampleOf(model: OpenModel): Promise<Sample> {
  const { vocabularySize, maxPositions } = model.config;
  const length = Math.min(TOKENS_PER_SEQUENCE, maxPositions);
  if (fileOf(model.manifest, "tokenizer.json") === undefined) return randomSample(vocabularySize, length);
  const textOf = async (path: string): Promise<string> =>
    fileOf(model.manifest, path) === undefined ? "" : new TextDecoder().decode(await model.readFile(path));
  const options = { lengthMax: length, vocabularySize };
  const sample = textSample(await textOf("tokenizer.json"), await textOf("tokenizer_config.json"), options);
  return sample ?? randomSample(vocabularySize, length);
}

/** As many layers at a time as fit into `segmentBytes` of f32, at least one. */
function segmentsOf(config: ModelConfig, segmentBytes: number): readonly LayerRange[] {
  const sizes = new Array<number>(config.layerCount).fill(0);
  for (const { role, shape } of tensorPlaces(config)) {
    const layer = /^layers\.(\d+)\./.exec(role)?.[1];
    if (layer !== undefined) sizes[Number(layer)] = (sizes[Number(layer)] ?? 0) + 4 * shape.reduce((a, b) => a * b, 1);
  }
  const segments: { start: number; end: number; bytes: number }[] = [];
  for (const [layer, bytes] of sizes.entries()) {
    const last = segments.at(-1);
    if (last === undefined || last.bytes + bytes > segmentBytes) segments.push({ start: layer, end: layer + 1, bytes });
    else segments[segments.length - 1] = { start: last.start, end: layer + 1, bytes: last.bytes + bytes };
  }
  return segments.map(({ start, end }) => ({ start, end }));
}

/** Hidden states by sequence, or on the last segment the logits after every token, sequences one after the other. */
async function throughSegment(
  model: OpenModel,
  layers: LayerRange,
  { quantization = "f32", kvDtype }: Variant,
  sample: Sample,
  input: Rows,
  { products, directory: cacheDirectory }: DivergenceOptions,
): Promise<readonly Float32Array[]> {
  let engine: ShardEngine | undefined;
  try {
    const slice = present(cutSlices(model.config, [1])[0], "one rank has one slice");
    const packed = { modelRoot: model.root, quantization, cacheDirectory };
    const { directory } = await packShard(model.tensors, model.config, { layers, slice }, packed);
    engine = await loadEngine({
      device: "cpu",
      products,
      kvDtype,
      shardDirectory: directory,
      contextLength: Math.max(...sample.sequences.map((ids) => ids.length)),
      slotCount: 1,
      threadCount: availableParallelism(),
      spin: false,
    });
    const outputs: Float32Array[] = [];
    for (const rows of input) outputs.push(...runSequence(engine, rows));
    return outputs;
  } finally {
    engine?.close();
    await rm(join(cacheDirectory, "shards"), { recursive: true, force: true });
  }
}

/** One sequence in one go, or on the last segment token by token, since logits come after the last row of a step. */
function* runSequence(engine: ShardEngine, rows: readonly number[] | Float32Array): Iterable<Float32Array> {
  const { hiddenSize, last } = engine.facts;
  const isHidden = rows instanceof Float32Array;
  const rowCount = isHidden ? rows.length / hiddenSize : rows.length;
  const width = isHidden ? hiddenSize : 1;
  const all = isHidden ? rows : Uint32Array.from(rows);
  valueOrThrow(engine.acquire("sample"));
  for (let position = 0; position < rowCount; ) {
    const count = last ? 1 : rowCount;
    const input = all.slice(position * width, (position + count) * width);
    const step = { session: "sample", position, rowCount: count, sample: last };
    const [output] = runInLockStep([engine], { steps: [step], input });
    const { hidden, logits } = present(output, "a rank answers");
    yield (last ? logits : hidden).slice();
    position += count;
  }
  engine.release("sample");
}

/** Mean over tokens of the sum of p·(log p - log q), p of `source` and q of `other`: logits, one array per token. */
export function meanKl(source: readonly Float32Array[], other: readonly Float32Array[]): number {
  assert(source.length === other.length && source.length > 0, "both went through the same sample");
  let total = 0;
  for (const [token, logits] of source.entries()) total += divergence(logits, present(other[token], "of each token"));
  return total / source.length;
}

function divergence(source: Float32Array, other: Float32Array): number {
  const [p, q] = [logPartition(source), logPartition(other)];
  let sum = 0;
  for (const [index, logit] of source.entries()) {
    const logP = logit - p;
    const weight = Math.exp(logP);
    if (weight > 0) sum += weight * (logP - ((other[index] ?? 0) - q));
  }
  return Math.max(0, sum); // rounding may take equal distributions a little below
}

function logPartition(logits: Float32Array): number {
  const peak = logits.reduce((most, logit) => Math.max(most, logit), Number.NEGATIVE_INFINITY);
  return peak + Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - peak), 0));
}
