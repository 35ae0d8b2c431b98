/**
 * `npm run bench -- decode [--threads N] [--spin]`: one stream, int4, beside llama.cpp Q4_0, turn by turn in one run; what share of the
 * memory's bandwidth that is; and whether a longer KV buffer costs anything, and what keys and values in
 * int8 save. `--spin`: waiting engine threads spin.
 */
import { benchOptions } from "./bench-options.ts";
import { type EngineSide, startEngineSide } from "./engine-side.ts";
import { type BenchResult, atLeast, atMost, median, medianAndFastest, rounded } from "./figures.ts";
import { type Peer, type Side, startPeer } from "./llama-cpp.ts";
import { machineFacts } from "./machine.ts";
import { randomCheckpoint } from "./random-checkpoint.ts";
import { randomGguf } from "./random-gguf.ts";

const PROMPT_LENGTH = 128;
const WARM_UP_COUNT = 6;
const ROUND_COUNT = 8;
const STEPS_A_ROUND = 16;
const BUFFER_POSITIONS = [2000, 32_000] as const;
const BUFFER_PROMPT_LENGTH = 1000;
/** Two runs of the same thing differ by so much on a machine that nobody else uses. */
const SAME_WITHIN = 1.05;
const MB = 1e6;

export async function run(args: readonly string[]): Promise<BenchResult> {
  const facts = machineFacts();
  const say = (text: string) => console.error(text);
  const [checkpoint, path] = [await randomCheckpoint(say), await randomGguf(say)];
  const { threadCount: threads, spin } = benchOptions(args);
  const engineOptions = { checkpoint, threadCount: threads, spin, slotCount: 1 };
  const peer = await startPeer({ path, context: 2048, streams: 1, threads }, say);
  const ours = await startEngineSide({ ...engineOptions, contextLength: 2048 });
  const builtIn = await startEngineSide({ ...engineOptions, contextLength: 2048, products: "built-in" });
  const bandwidth = Math.max(await peer.bandwidth(1), await peer.bandwidth(threads));
  const [ourMs = [], peerMs = [], builtInMs = []] = await inTurns([ours, peer, builtIn], PROMPT_LENGTH);
  const lagMs = await ours.loopLagMs();
  const read = bytesOfToken(ours, PROMPT_LENGTH + WARM_UP_COUNT + (ROUND_COUNT * STEPS_A_ROUND) / 2);
  await Promise.all([ours.stop(), peer.stop(), builtIn.stop()]);
  const buffers = await compareBuffers(engineOptions);

  const share = read / (median(ourMs) / 1000) / bandwidth;
  return {
    bench: "decode",
    ...facts,
    requirements: [
      atLeast("one stream: tokens/s over llama.cpp's", median(peerMs) / median(ourMs), 1, ""),
      atLeast("one stream: share of the memory's bandwidth", share, 0.8, ""),
      atMost(
        `a token in a buffer of ${BUFFER_POSITIONS[1]} positions over one of ${BUFFER_POSITIONS[0]}`,
        ...buffers.ratio,
      ),
      atMost("event loop late, 99th percentile", lagMs, 10, "ms"),
    ],
    table: [
      ["one stream after 128 tokens", "ms/token, median (fastest)", "weights and KV read, GB/s"],
      ["Tessellate int4", medianAndFastest(ourMs), gigabytes(read, ourMs)],
      ["Tessellate int4, ONNX Runtime's own products", medianAndFastest(builtInMs), gigabytes(read, builtInMs)],
      ["llama.cpp Q4_0", medianAndFastest(peerMs), "–"],
      ...buffers.rows,
    ],
    notes: notesOf(peer, bandwidth, ours),
  };
}

/** Milliseconds of each token of each side. */
async function inTurns(sides: readonly Side[], promptLength: number): Promise<readonly (readonly number[])[]> {
  const turns = sides.map((side) => ({ side, ms: [] as number[] }));
  for (const side of sides) {
    await side.prompt(1, promptLength);
    await side.decode(WARM_UP_COUNT);
  }
  for (let round = 0; round < ROUND_COUNT; round += 1) {
    // Whoever goes first in one round goes last in the next.
    const order = round % 2 === 0 ? turns : turns.toReversed();
    for (const { side, ms } of order) ms.push(...(await side.decode(STEPS_A_ROUND)));
  }
  return turns.map(({ ms }) => ms);
}

/** What one token must read: every packed matrix once, and the KV cache of the positions before it. */
const bytesOfToken = (side: EngineSide, position: number): number =>
  side.weightBytes + position * side.kvBytesPerPosition;

const gigabytes = (bytes: number, ms: readonly number[]): string => String(rounded(bytes / median(ms) / 1e6));

async function compareBuffers(options: Omit<Parameters<typeof startEngineSide>[0], "contextLength">) {
  const short = await startEngineSide({ ...options, contextLength: BUFFER_POSITIONS[0] });
  const long = await startEngineSide({ ...options, contextLength: BUFFER_POSITIONS[1] });
  const coded = await startEngineSide({ ...options, contextLength: BUFFER_POSITIONS[0], kvDtype: "int8" });
  const [shortMs = [], longMs = [], codedMs = []] = await inTurns([short, long, coded], BUFFER_PROMPT_LENGTH);
  await Promise.all([short.stop(), long.stop(), coded.stop()]);
  const kvOf = (side: EngineSide) => rounded((BUFFER_PROMPT_LENGTH * side.kvBytesPerPosition) / MB);
  return {
    ratio: [median(longMs) / median(shortMs), SAME_WITHIN, ""] as const,
    rows: [
      ...[shortMs, longMs].map((ms, index) => [
        `Tessellate after ${BUFFER_PROMPT_LENGTH} tokens, buffer of ${BUFFER_POSITIONS[index]} positions`,
        medianAndFastest(ms),
        gigabytes(bytesOfToken(short, BUFFER_PROMPT_LENGTH), ms),
      ]),
      [
        `Tessellate after ${BUFFER_PROMPT_LENGTH} tokens, KV in int8: ${kvOf(coded)} MB, in f32 ${kvOf(short)} MB`,
        medianAndFastest(codedMs),
        gigabytes(bytesOfToken(coded, BUFFER_PROMPT_LENGTH), codedMs),
      ],
    ],
  };
}

const notesOf = (peer: Peer, bandwidth: number, { driftClass }: EngineSide): readonly string[] => [
  `Memory read by numpy at ${rounded(bandwidth / 1e9)} GB/s, the better of one thread and of all.`,
  `llama-cpp-python ${peer.version} (${peer.system.trim()}); ours is \`${driftClass}\`.`,
];
