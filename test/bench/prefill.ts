/** `npm run bench -- prefill [--threads N] [--spin]`: prompts of 128 and 1,024 tokens, int4, beside llama.cpp Q4_0, turn by turn. */
import { benchOptions } from "./bench-options.ts";
import { startEngineSide } from "./engine-side.ts";
import { type BenchResult, atLeast, atMost, fastest, median, rounded } from "./figures.ts";
import { startPeer } from "./llama-cpp.ts";
import { machineFacts } from "./machine.ts";
import { randomCheckpoint } from "./random-checkpoint.ts";
import { randomGguf } from "./random-gguf.ts";

const LENGTHS = [
  { rows: 128, roundCount: 8 },
  { rows: 1024, roundCount: 3 },
] as const;

export async function run(args: readonly string[]): Promise<BenchResult> {
  const facts = machineFacts();
  const say = (text: string) => console.error(text);
  const [checkpoint, path] = [await randomCheckpoint(say), await randomGguf(say)];
  const { threadCount: threads, spin } = benchOptions(args);
  const engine = { checkpoint, threadCount: threads, spin, slotCount: 1, contextLength: 2048 };
  const peer = await startPeer({ path, context: 2048, streams: 1, threads }, say);
  const ours = await startEngineSide(engine);
  const builtIn = await startEngineSide({ ...engine, products: "built-in" });
  await ours.prefill(128);
  await ours.loopLagMs();
  const found: { readonly rows: number; readonly times: readonly (readonly number[])[] }[] = [];
  for (const { rows, roundCount } of LENGTHS) {
    const times: number[][] = [[], [], []];
    for (let round = 0; round < roundCount; round += 1)
      for (const [index, side] of [ours, peer, builtIn].entries()) times[index]?.push(await side.prefill(rows));
    found.push({ rows, times });
  }
  const lagMs = await ours.loopLagMs();
  await Promise.all([ours.stop(), peer.stop(), builtIn.stop()]);

  const [names, figures] = [
    ["Tessellate int4", "llama.cpp Q4_0", "Tessellate int4, ONNX Runtime's own products"],
    found,
  ];
  return {
    bench: "prefill",
    ...facts,
    requirements: [
      ...figures.map(({ rows, times: [our = [], its = []] }) =>
        atLeast(`prompt of ${rows}: tokens/s over llama.cpp's`, median(its) / median(our), 1, ""),
      ),
      atMost("event loop late, 99th percentile", lagMs, 10, "ms"),
    ],
    table: [
      ["tokens/s, median (fastest)", ...figures.map(({ rows }) => `prompt of ${rows}`)],
      ...names.map((name, side) => [name, ...figures.map(({ rows, times }) => perSecond(rows, times[side] ?? []))]),
    ],
    notes: [`llama-cpp-python ${peer.version} (${peer.system.trim()}).`],
  };
}

const perSecond = (rows: number, ms: readonly number[]): string =>
  `${rounded((rows * 1000) / median(ms))} (${rounded((rows * 1000) / fastest(ms))})`;
