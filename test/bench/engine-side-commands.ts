/** What engine-side.ts asks of its process: one command a line. */
import { statSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { present } from "../../core/assert.ts";
import { kvBytesPerPosition } from "../../core/kv-cache.ts";
import { type EngineThread, startEngineThread } from "../../shard-runtime/engine/engine-thread.ts";
import { withPackedShard } from "../../shard-runtime/engine/pack.ts";
import { WEIGHTS_FILE } from "../../shard-runtime/engine/shard.ts";
import type { EngineSideOptions } from "./engine-side.ts";
import { machineLibrary } from "../../shard-runtime/engine/native/products.ts";
import { wholeShard } from "./pack-whole.ts";
import { benchCache } from "./bench-cache.ts";
import { percentile } from "./figures.ts";

const CHUNK_ROWS = 512;
const LAG_SAMPLE_MS = 2;

type Command =
  | ({ readonly do: "load" } & EngineSideOptions)
  | { readonly do: "prefill"; readonly rows: number }
  | { readonly do: "prompt"; readonly streams: number; readonly rows: number }
  | { readonly do: "decode"; readonly steps: number }
  | { readonly do: "lag" };

let engine: EngineThread | undefined;
let sessions: readonly string[] = [];
let position = 0;
let lags: number[] = [];
let before = performance.now();
const lagTimer = setInterval(() => {
  const now = performance.now();
  lags.push(now - before - LAG_SAMPLE_MS);
  before = now;
}, LAG_SAMPLE_MS);

const loaded = (): EngineThread => present(engine, "load comes first");
const promptToken = (index: number): number => 3 + ((index * 7919) % 31_000);

/** As a rank does: see load-shard.ts. */
async function load(options: EngineSideOptions) {
  const { products, checkpoint, ...rest } = options;
  const [{ tensors, config, shard, options: packing }, found] = await Promise.all([
    wholeShard(checkpoint),
    machineLibrary(join(benchCache(), "native")),
  ]);
  const library = "path" in found ? found.path : undefined;
  const laysOut = products !== "built-in";
  const how = library === undefined ? undefined : { library, threadCount: options.threadCount, laysOut };
  let weightBytes = 0;
  let beganMs = 0;
  const started = await withPackedShard(
    tensors,
    config,
    shard,
    { ...packing, reading: () => Promise.resolve(how) },
    ({ directory, reading: load }) => {
      beganMs = performance.now();
      weightBytes = statSync(join(directory, WEIGHTS_FILE)).size;
      const used = laysOut ? { products: library, loadHandle: load?.handle } : {};
      return startEngineThread({ shardDirectory: directory, device: "cpu", ...rest, ...used });
    },
    (spoilt) => spoilt.close(),
  );
  engine = started;
  const kvBytes = kvBytesPerPosition(config, shard.layers, shard.slice, rest.kvDtype ?? "f32");
  return { weightBytes, kvBytesPerPosition: kvBytes, driftClass: started.facts.driftClass, beganMs };
}

async function feed(session: string, rows: number): Promise<void> {
  for (let start = 0; start < rows; start += CHUNK_ROWS) {
    const rowCount = Math.min(CHUNK_ROWS, rows - start);
    const input = Uint32Array.from({ length: rowCount }, (_, index) => promptToken(start + index));
    const sample = start + rowCount === rows;
    await loaded().run({ steps: [{ session, position: start, rowCount, sample }], input });
  }
}

async function releaseAll(): Promise<void> {
  for (const session of sessions) await loaded().release(session);
  sessions = [];
}

async function prefill(rows: number) {
  await releaseAll();
  await loaded().acquire("prefill");
  const start = performance.now();
  await feed("prefill", rows);
  const ms = performance.now() - start;
  await loaded().release("prefill");
  return { ms };
}

async function prompt(streams: number, rows: number) {
  await releaseAll();
  sessions = Array.from({ length: streams }, (_, index) => `stream ${index}`);
  for (const session of sessions) {
    await loaded().acquire(session);
    await feed(session, rows);
  }
  position = rows;
  return {};
}

async function decode(stepCount: number) {
  const ms: number[] = [];
  for (let index = 0; index < stepCount; index += 1) {
    const steps = sessions.map((session) => ({ session, position, rowCount: 1, sample: true }));
    const input = Uint32Array.from(sessions, (_, stream) => 1 + ((position + stream) % 1000));
    const start = performance.now();
    await loaded().run({ steps, input });
    ms.push(performance.now() - start);
    position += 1;
  }
  return { ms };
}

function lag() {
  const p99Ms = percentile(lags, 0.99);
  lags = [];
  return { p99Ms };
}

async function answer(command: Command): Promise<object> {
  switch (command.do) {
    case "load":
      return await load(command);
    case "prefill":
      return await prefill(command.rows);
    case "prompt":
      return await prompt(command.streams, command.rows);
    case "decode":
      return await decode(command.steps);
    case "lag":
      return lag();
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const command: Command = JSON.parse(line);
  console.log(JSON.stringify(await answer(command)));
}
clearInterval(lagTimer);
await engine?.close();
