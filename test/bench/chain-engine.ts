/**
 * One arrangement of the bench, in a process of its own because a process has one pool of engine threads:
 * `node chain-engine.ts CHECKPOINT SEGMENTS TENSOR_PARALLEL TOKENS`. Every rank is an engine on its own thread, as it
 * serves; between them the sums and hand-offs that gRPC would carry. Prints the figures as one JSON line.
 */
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { present } from "../../core/assert.ts";
import { splitByWeights } from "../../core/ranges.ts";
import { valueOrThrow } from "../../core/result.ts";
import { cutSlices } from "../../core/slice.ts";
import { systemClock } from "../../core/wire/clock.ts";
import type { Output } from "../../shard-runtime/engine/engine.ts";
import { type EngineThread, type Exchange, startEngineThread } from "../../shard-runtime/engine/engine-thread.ts";
import { machineLibrary } from "../../shard-runtime/engine/native/products.ts";
import { packShard } from "../../shard-runtime/engine/pack.ts";
import { sumInRankOrder } from "../../shard-runtime/engine/reduce.ts";
import { openModel } from "../../shard-runtime/weights/open-model.ts";
import { benchCache } from "./bench-cache.ts";

const PROMPT_LENGTH = 128;
const WARM_UP_COUNT = 10;

const [directory = "", segmentCount = 1, rankCount = 1, tokenCount = 64, spin = 0] = process.argv
  .slice(2)
  .map((text, index) => (index === 0 ? text : Number(text))) as [string, number, number, number, number];

const model = valueOrThrow(await openModel({ path: directory }, { clock: systemClock }));
// Ranks of a segment run at the same time and share the cores, segments run one after the other and each has them all.
const threadCount = Math.max(1, Math.floor(availableParallelism() / rankCount));
const library = await machineLibrary(join(benchCache(), "native"));
const segments: EngineThread[][] = [];
for (const layers of splitByWeights(model.config.layerCount, new Array<number>(segmentCount).fill(1))) {
  const ranks: EngineThread[] = [];
  segments.push(ranks);
  for (const slice of cutSlices(model.config, new Array<number>(rankCount).fill(1))) {
    const packed = await packShard(
      model.tensors,
      model.config,
      { layers, slice },
      {
        modelRoot: model.root,
        quantization: "int4",
        cacheDirectory: join(benchCache(), "packed"),
        onProgress: (done, total) => {
          if (done % 5 === 0) console.error(`packing layers ${layers.start}-${layers.end}: ${done} of ${total}`);
        },
      },
    );
    const contextLength = PROMPT_LENGTH + WARM_UP_COUNT + tokenCount;
    ranks.push(
      await startEngineThread({
        shardDirectory: packed.directory,
        device: "cpu",
        contextLength,
        slotCount: 1,
        threadCount,
        spin: spin === 1,
        products: "path" in library ? library.path : undefined,
      }),
    );
  }
}

/** Adds when the last rank has come; the ranks of one segment exchange in step. */
function exchangeAmong(count: number): Exchange {
  let arrived: { partial: Float32Array; done: () => void }[] = [];
  return (partial) =>
    new Promise((done) => {
      arrived.push({ partial, done });
      if (arrived.length < count) return;
      const all = arrived;
      arrived = [];
      // Two ranks sum alike in either order; a served segment adds in rank order.
      const partials = all.map((one) => one.partial);
      const sum = new Float32Array(partial.length);
      sumInRankOrder(partials, sum);
      for (const one of all) {
        one.partial.set(sum);
        one.done();
      }
    });
}

async function forward(tokenIds: Uint32Array, position: number): Promise<Float32Array> {
  let input: Uint32Array | Float32Array = tokenIds;
  let outputs: readonly Output[] = [];
  for (const ranks of segments) {
    const exchange = exchangeAmong(ranks.length);
    const steps = [{ session: "bench", position, rowCount: tokenIds.length, sample: true }];
    const batch = { steps, input };
    outputs = await Promise.all(ranks.map((rank) => rank.run(batch, exchange)));
    input = present(outputs[0], "a segment has a rank").hidden;
  }
  return present(outputs[0], "a segment has a rank").logits;
}

for (const rank of segments.flat()) await rank.acquire("bench");
const promptStart = performance.now();
await forward(
  Uint32Array.from({ length: PROMPT_LENGTH }, (_, index) => (index * 37) % 1000),
  0,
);
const promptMs = performance.now() - promptStart;

const times: number[] = [];
let measuredFrom = process.cpuUsage();
let loopLagMs = 0;
let before = performance.now();
const lag = setInterval(() => {
  const now = performance.now();
  loopLagMs = Math.max(loopLagMs, now - before - 5);
  before = now;
}, 5);
for (let index = 0; index < WARM_UP_COUNT + tokenCount; index += 1) {
  if (index === WARM_UP_COUNT) measuredFrom = process.cpuUsage();
  const start = performance.now();
  await forward(Uint32Array.of(1 + (index % 1000)), PROMPT_LENGTH + index);
  if (index >= WARM_UP_COUNT) times.push(performance.now() - start);
}
clearInterval(lag);
const cpu = process.cpuUsage(measuredFrom);
for (const rank of segments.flat()) await rank.close();

times.sort((a, b) => a - b);
const rounded = (value: number | undefined) => Number((value ?? 0).toFixed(2));
const figures = {
  segments: segmentCount,
  tensorParallel: rankCount,
  threadsPerRank: threadCount,
  msPerToken: rounded(times[Math.floor(times.length / 2)]),
  fastestMs: rounded(times[0]),
  p90Ms: rounded(times[Math.floor(times.length * 0.9)]),
  cpuMsPerToken: rounded((cpu.user + cpu.system) / 1000 / tokenCount), // of all threads; near the same on a busy machine
  promptTokensPerSecond: rounded((PROMPT_LENGTH * 1000) / promptMs),
  loopLagMs: rounded(loopLagMs),
};
console.log(JSON.stringify(figures));
