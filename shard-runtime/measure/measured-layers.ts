/**
 * What a layer takes on this machine: a few layers of known size, with random weights, through the very engine that serves.
 * What a step costs does not depend on what the weights say. A step of one row says what reading the weights takes, one of
 * many rows what arithmetic adds; the planner puts a line through both (operator/plan/cost).
 */
import { join } from "node:path";
import { present } from "../../core/assert.ts";
import type { Clock } from "../../core/clock.ts";
import { digestOf } from "../../core/digest.ts";
import { type ModelConfig, parseModelConfig } from "../../core/model-config.ts";
import type { Rehearsal } from "../../core/rank-config.ts";
import { lengthOf } from "../../core/ranges.ts";
import { valueOrThrow } from "../../core/result.ts";
import { cutSlices } from "../../core/slice.ts";
import { tensorPlaces } from "../../core/tensor-places.ts";
import { type EngineThread, startEngineThread } from "../engine/engine-thread.ts";
import { machineLibrary } from "../engine/native/products.ts";
import { packShard } from "../engine/pack.ts";
import type { TensorSource } from "../engine/tensor-source.ts";
import { playedWeights, rehearsedEngine } from "../rehearsal.ts";

export type MeasureOptions = {
  readonly device: string;
  readonly threadCount: number;
  readonly cacheDirectory: string; // the packed layers stay here for the next time, 150 MB
  readonly clock: Clock;
  readonly say: (what: string) => void;
  readonly rehearsal?: Rehearsal; // the node that this machine plays
};

/** As the planner takes it: `bytes` of weights of one layer, microseconds of a step through it. */
export type MeasuredLayer = {
  readonly bytes: number;
  readonly oneMicros: number;
  readonly manyMicros: number;
  readonly manyRows: number;
};

/** Layers of a model of seven billion, a third as wide, too large for any cache of a CPU when taken together. */
const CONFIG = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  hidden_act: "silu",
  hidden_size: 2048,
  intermediate_size: 5632,
  num_hidden_layers: 8,
  num_attention_heads: 32,
  num_key_value_heads: 8,
  vocab_size: 64,
  max_position_embeddings: 4096,
  rms_norm_eps: 1e-5,
  tie_word_embeddings: false,
};
/** Neither the first nor the last: embedding and head are no layers. */
const LAYERS = { start: 1, end: 7 };
const QUANTIZATION = "int4";
const MANY_ROWS = 64;
const POSITIONS = 256;
const WARM_UP_COUNT = 8;
const ONE_COUNT = 40;
const MANY_COUNT = 10;
const TIME_MS_MAX = 2_500;
const COUNT_MIN = 2;

/** Throws a RefusalError where the device is missing. Takes some seconds, and a minute the first time. */
export async function measureLayer(options: MeasureOptions): Promise<MeasuredLayer> {
  const config = valueOrThrow(parseModelConfig(JSON.stringify(CONFIG)));
  const slice = present(cutSlices(config, [1])[0], "one weight, one slice");
  options.say(`packing ${lengthOf(LAYERS)} layers to measure with …`);
  const { directory } = await packShard(
    randomTensors(config),
    config,
    { layers: LAYERS, slice },
    {
      modelRoot: digestOf(Buffer.from(JSON.stringify(CONFIG))),
      quantization: QUANTIZATION,
      cacheDirectory: options.cacheDirectory,
    },
  );
  const library = options.device === "cpu" ? await machineLibrary(join(options.cacheDirectory, "native")) : undefined;
  const started = await startEngineThread({
    shardDirectory: directory,
    device: options.device,
    contextLength: POSITIONS,
    slotCount: 1,
    threadCount: options.threadCount,
    spin: false,
    ...(library !== undefined && "path" in library ? { products: library.path } : {}),
  });
  const { rehearsal, clock } = options;
  const played = playedWeights({ layers: LAYERS, quantization: QUANTIZATION }, config, slice);
  const engine = rehearsal === undefined ? started : rehearsedEngine(started, rehearsal, played, clock);
  try {
    options.say("measuring …");
    const perLayer = (ms: number) => Math.round((10_000 * ms) / lengthOf(LAYERS)) / 10; // micros, to a tenth
    const one = await stepMs(engine, clock, 1, WARM_UP_COUNT, ONE_COUNT);
    const many = await stepMs(engine, clock, MANY_ROWS, 2, MANY_COUNT);
    return {
      bytes: played.layerBytes / lengthOf(LAYERS),
      oneMicros: perLayer(one),
      manyMicros: perLayer(many),
      manyRows: MANY_ROWS,
    };
  } finally {
    await engine.close();
  }
}

/** Median of `count` steps, fewer where that takes long; a new session where a slot's positions are used up. */
async function stepMs(engine: EngineThread, clock: Clock, rowCount: number, warmUp: number, count: number) {
  const untilMs = clock.monotonicMs() + TIME_MS_MAX;
  const enough = () => clock.monotonicMs() > untilMs && times.length >= COUNT_MIN;
  const input = new Float32Array(rowCount * engine.facts.hiddenSize).fill(0.1);
  const times: number[] = [];
  let position = POSITIONS;
  for (let step = -warmUp; step < count && !enough(); step += 1) {
    if (position + rowCount > POSITIONS) {
      await engine.release("measure");
      await engine.acquire("measure");
      position = 0;
    }
    const startMs = clock.monotonicMs();
    await engine.run({ steps: [{ session: "measure", position, rowCount, sample: false }], input });
    if (step >= 0 || clock.monotonicMs() > untilMs) times.push(clock.monotonicMs() - startMs);
    position += rowCount;
  }
  await engine.release("measure");
  return present(times.sort((a, b) => a - b)[Math.floor(times.length / 2)], "at least one step was timed");
}

const TABLE_SIZE = 1 << 14;

/** Values between −0.05 and 0.05, the same every time, from a small table: how long packing takes is not the point. */
function randomTensors(config: ModelConfig): TensorSource {
  const shapes = new Map(tensorPlaces(config).map(({ role, shape }) => [role, shape]));
  let state = 1;
  const table = Float32Array.from({ length: TABLE_SIZE }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return (state / 2 ** 32 - 0.5) / 10;
  });
  return {
    read: (role, part = {}) => {
      const [outputs = 1, inputs = 1] = present(shapes.get(role), `the measured model has a tensor ${role}`);
      const rowCount = part.rows === undefined ? outputs : lengthOf(part.rows);
      const columnCount = part.columns === undefined ? inputs : lengthOf(part.columns);
      const values = new Float32Array(rowCount * columnCount);
      for (let at = 0; at < values.length; at += TABLE_SIZE)
        values.set(table.subarray(0, Math.min(TABLE_SIZE, values.length - at)), at);
      return Promise.resolve(values);
    },
  };
}
