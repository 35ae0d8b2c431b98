/**
 * `npm run bench -- load`: from a cache that holds the packed shard to an engine that is ready, beside the disk's own
 * speed (the page cache is emptied before each where this process may); and the memory of a rank that serves.
 */
import { open, readdir, stat, writeFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { present } from "../../core/assert.ts";
import { kvBytesPerSlot } from "../../core/kv-cache.ts";
import { cutSlices } from "../../core/slice.ts";
import { startServedChain } from "./chain-served.ts";
import { startEngineSide } from "./engine-side.ts";
import { type BenchResult, atLeast, atMost, fastest, median, rounded } from "./figures.ts";
import { childrenOf, machineFacts, memoryOf } from "./machine.ts";
import { packWhole } from "./pack-whole.ts";
import { randomCheckpoint } from "./random-checkpoint.ts";

const ROUND_COUNT = 9;
const PIECE_BYTES = 8 << 20;
const MB = 1e6;
const SERVED = { quantization: "int4", contextLength: 2048, slotCount: 4 } as const;
const PROMPT_LENGTH = 512;
const TOKEN_COUNT = 32;
const RUNTIME_BYTES = 150 * MB;

export async function run(): Promise<BenchResult> {
  const facts = machineFacts();
  const checkpoint = await randomCheckpoint((text) => console.error(text));
  const { directory, config } = await packWhole(checkpoint);
  const names = await readdir(directory);
  const files = await Promise.all(
    names.map(async (name) => ({ path: join(directory, name), sizeBytes: (await stat(join(directory, name))).size })),
  );
  const packedBytes = files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  // What a rank's node has after its first start: the compiled operators and modules.
  await secondsToReady(checkpoint);
  const loadSeconds: number[] = [];
  const beginSeconds: number[] = [];
  const diskSeconds: number[] = [];
  let emptied = true;
  for (let round = 0; round < ROUND_COUNT; round += 1) {
    emptied = (await emptyPageCache()) && emptied;
    diskSeconds.push(await secondsOf(() => readAll(files.map(({ path }) => path))));
    await emptyPageCache();
    const { seconds, beganSeconds } = await secondsToReady(checkpoint);
    loadSeconds.push(seconds);
    beginSeconds.push(beganSeconds);
  }
  const slice = present(cutSlices(config, [1])[0], "one weight, one slice");
  const cache = { dtype: "f32", contextLength: SERVED.contextLength, wraps: false } as const;
  const kvBytes = kvBytesPerSlot(config, { start: 0, end: config.layerCount }, slice, cache) * SERVED.slotCount;
  const memory = await servedMemory(checkpoint);
  const limitBytes = 1.1 * packedBytes + kvBytes + RUNTIME_BYTES;
  const speed = (seconds: readonly number[]) => packedBytes / median(seconds);
  return {
    bench: "load",
    ...facts,
    requirements: [
      atLeast("load to ready over the disk's sequential speed", speed(loadSeconds) / speed(diskSeconds), 0.6, ""),
      atMost("memory of a rank that serves", memory.nowBytes / MB, limitBytes / MB, "MB"),
      atMost("memory of a rank at its highest", memory.peakBytes / MB, limitBytes / MB, "MB"),
    ],
    table: [
      ["packed shard", "seconds, median (fastest)", "MB/s"],
      ...(
        [
          ["read from disk, one piece after the other", diskSeconds],
          ["start of the process to ready", loadSeconds],
          ["the same, without what Node takes before it begins to read", loadSeconds.map(subtract(beginSeconds))],
        ] as const
      ).map(([name, seconds]) => [
        name,
        `${rounded(median(seconds))} (${rounded(fastest(seconds))})`,
        String(Math.round(speed(seconds) / MB)),
      ]),
    ],
    notes: [
      `Shard of ${Math.round(packedBytes / MB)} MB; KV cache of ${Math.round(kvBytes / MB)} MB.`,
      emptied ? "The page cache was emptied before each." : "The page cache could not be emptied (that needs root).",
    ],
  };
}

async function secondsOf(work: () => Promise<void>): Promise<number> {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
}

/** Whether it could. */
async function emptyPageCache(): Promise<boolean> {
  try {
    await writeFile("/proc/sys/vm/drop_caches", "1");
    return true;
  } catch {
    return false;
  }
}

async function readAll(paths: readonly string[]): Promise<void> {
  const piece = Buffer.alloc(PIECE_BYTES);
  for (const path of paths) {
    const file = await open(path);
    try {
      while ((await file.read(piece, 0, piece.length)).bytesRead > 0);
    } finally {
      await file.close();
    }
  }
}

const subtract = (others: readonly number[]) => (value: number, index: number) => value - (others[index] ?? 0);

/** From the start of the process. */
async function secondsToReady(checkpoint: string): Promise<{ seconds: number; beganSeconds: number }> {
  const start = performance.now();
  const options = { contextLength: SERVED.contextLength, slotCount: SERVED.slotCount };
  const side = await startEngineSide({ checkpoint, ...options, threadCount: availableParallelism(), spin: false });
  const seconds = (performance.now() - start) / 1000;
  await side.stop();
  return { seconds, beganSeconds: side.beganMs / 1000 };
}

/** Bytes of a rank's process after it served a prompt and some tokens. */
async function servedMemory(checkpoint: string) {
  const chain = await startServedChain(checkpoint, { segments: 1, tensorParallel: 1 }, SERVED);
  try {
    const prompt = Array.from({ length: PROMPT_LENGTH }, (_, index) => 3 + ((index * 7919) % 31_000));
    await chain.generate(prompt, TOKEN_COUNT);
    const ranks = childrenOf("shard-runtime");
    const sizes = (field: "VmRSS" | "VmHWM") => Math.max(...ranks.map((pid) => memoryOf(pid, field)));
    return { nowBytes: sizes("VmRSS"), peakBytes: sizes("VmHWM") };
  } finally {
    await chain.stop();
  }
}
