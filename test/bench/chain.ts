/**
 * `npm run bench -- chain`: milliseconds per token of the 1.1-billion-parameter random checkpoint at int4, whole, in two
 * and three segments, and with two tensor-parallel ranks: first each rank on a thread of one process, then as it is
 * served, each rank a process of its own behind mTLS, signing receipts. `npm run bench -- chain 32` measures 32 tokens
 * instead of 64.
 */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { BenchResult } from "./figures.ts";
import { machineFacts } from "./machine.ts";
import { randomCheckpoint } from "./random-checkpoint.ts";
import { type Arrangement, startServedChain } from "./chain-served.ts";

const ARRANGEMENTS = [
  { segments: 1, tensorParallel: 1 },
  { segments: 2, tensorParallel: 1 },
  { segments: 3, tensorParallel: 1 },
  { segments: 1, tensorParallel: 2 },
];
const CHAIN = fileURLToPath(new URL("./chain-engine.ts", import.meta.url));
const TOKEN_COUNT = 64;
const PROMPT_LENGTH = 128;
const WARM_UP_COUNT = 10;

/** Every arrangement, medians over the tokens; `--spin`: waiting engine threads spin. */
export async function run(args: readonly string[]): Promise<BenchResult> {
  const facts = machineFacts();
  const directory = await randomCheckpoint((text) => console.error(text));
  const tokenCount = Number(args.find((arg) => /^\d+$/.test(arg)) ?? TOKEN_COUNT);
  const spin = args.includes("--spin");
  const rows: string[][] = [];
  for (const { segments, tensorParallel } of ARRANGEMENTS) {
    const command = [CHAIN, directory, segments, tensorParallel, tokenCount, spin ? 1 : 0].map(String);
    const { stdout } = await promisify(execFile)(process.execPath, command, { maxBuffer: 1 << 24 });
    const figures = JSON.parse(stdout.trim().split("\n").at(-1) ?? "") as Readonly<Record<string, number>>;
    const served = await serve(directory, { segments, tensorParallel }, tokenCount);
    const cells = [
      `${segments} × ${tensorParallel}`,
      `${figures["msPerToken"]} (${figures["fastestMs"]})`,
      String(figures["cpuMsPerToken"]),
      String(figures["promptTokensPerSecond"]),
      `${served.msPerToken} (${served.fastestMs})`,
    ];
    console.error(cells.join("  "));
    rows.push(cells);
  }
  const head = ["engine alone, ms/token (fastest)", "its processor time, ms", "its prompt, tokens/s"];
  return {
    bench: "chain",
    ...facts,
    requirements: [],
    table: [["segments × ranks", ...head, "served over gRPC, ms/token (fastest)"], ...rows],
    notes: [`Medians of ${tokenCount} tokens after a prompt of ${PROMPT_LENGTH}.`],
  };
}

/** The same arrangement as processes: milliseconds of each token as the gateway's wire sees them. */
async function serve(directory: string, arrangement: Arrangement, tokenCount: number) {
  const chain = await startServedChain(directory, arrangement, {
    quantization: "int4",
    contextLength: 512,
    slotCount: 1,
  });
  try {
    const prompt = Array.from({ length: PROMPT_LENGTH }, (_, index) => 3 + ((index * 7919) % 31_000));
    const { tokenMs } = await chain.generate(prompt, WARM_UP_COUNT + tokenCount);
    const sorted = tokenMs.slice(WARM_UP_COUNT).sort((a, b) => a - b);
    const at = (share: number) => Math.round((sorted[Math.floor(share * (sorted.length - 1))] ?? 0) * 10) / 10;
    return { msPerToken: at(0.5), fastestMs: at(0), p90Ms: at(0.9) };
  } finally {
    await chain.stop();
  }
}
