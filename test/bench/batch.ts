/** `npm run bench -- batch [--threads N] [--spin]`: 1, 4 and 8 streams at once, int4, beside llama.cpp Q4_0, turn by turn. */
import { benchOptions } from "./bench-options.ts";
import { startEngineSide } from "./engine-side.ts";
import { type BenchResult, atLeast, atMost, fastest, median, rounded } from "./figures.ts";
import { startPeer } from "./llama-cpp.ts";
import { machineFacts } from "./machine.ts";
import { randomCheckpoint } from "./random-checkpoint.ts";
import { randomGguf } from "./random-gguf.ts";

const STREAM_COUNTS = [1, 4, 8] as const;
const PROMPT_LENGTH = 64;
const WARM_UP_COUNT = 3;
const ROUND_COUNT = 6;
const STEPS_A_ROUND = 8;

export async function run(args: readonly string[]): Promise<BenchResult> {
  const facts = machineFacts();
  const say = (text: string) => console.error(text);
  const [checkpoint, path] = [await randomCheckpoint(say), await randomGguf(say)];
  const { threadCount: threads, spin } = benchOptions(args);
  const peer = await startPeer({ path, context: 4096, streams: 8, threads }, say);
  const engine = { checkpoint, threadCount: threads, spin, slotCount: 8, contextLength: 256 };
  const ours = await startEngineSide(engine);
  const builtIn = await startEngineSide({ ...engine, products: "built-in" });
  const found: { readonly streams: number; readonly times: readonly (readonly number[])[] }[] = [];
  await ours.loopLagMs();
  for (const streams of STREAM_COUNTS) {
    const times: number[][] = [[], [], []];
    for (const side of [ours, peer, builtIn]) {
      await side.prompt(streams, PROMPT_LENGTH);
      await side.decode(WARM_UP_COUNT);
    }
    for (let round = 0; round < ROUND_COUNT; round += 1)
      for (const [index, side] of [ours, peer, builtIn].entries())
        times[index]?.push(...(await side.decode(STEPS_A_ROUND)));
    found.push({ streams, times });
  }
  const lagMs = await ours.loopLagMs();
  await Promise.all([ours.stop(), peer.stop(), builtIn.stop()]);

  return {
    bench: "batch",
    ...facts,
    requirements: [
      ...found
        .filter(({ streams }) => streams === 8)
        .map(({ times: [our = [], its = []] }) =>
          atLeast("8 streams: tokens/s over llama.cpp's", median(its) / median(our), 1.4, ""),
        ),
      atMost("event loop late, 99th percentile", lagMs, 10, "ms"),
    ],
    table: [
      ["tokens/s of all streams, median (fastest)", ...STREAM_COUNTS.map(String)],
      ...["Tessellate int4", "llama.cpp Q4_0", "Tessellate int4, ONNX Runtime's own products"].map((name, side) => [
        name,
        ...found.map(({ streams, times }) => perSecond(streams, times[side] ?? [])),
      ]),
    ],
    notes: [`llama-cpp-python ${peer.version} (${peer.system.trim()}).`],
  };
}

const perSecond = (streams: number, ms: readonly number[]): string =>
  `${rounded((streams * 1000) / median(ms))} (${rounded((streams * 1000) / fastest(ms))})`;
