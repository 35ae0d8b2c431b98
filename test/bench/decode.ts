/**
 * `npm run bench -- decode`: milliseconds per token of the 1.1-billion-parameter random checkpoint at int4, whole, in two
 * and three segments, and with two tensor-parallel ranks, each rank on its own thread of one process.
 * `npm run bench -- decode 32` measures 32 tokens instead of 64.
 */
import { execFile } from "node:child_process";
import { availableParallelism, cpus } from "node:os";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { randomCheckpoint } from "./random-checkpoint.ts";

const ARRANGEMENTS = [
  { segments: 1, tensorParallel: 1 },
  { segments: 2, tensorParallel: 1 },
  { segments: 3, tensorParallel: 1 },
  { segments: 1, tensorParallel: 2 },
];
const CHAIN = fileURLToPath(new URL("./decode-chain.ts", import.meta.url));
const TOKEN_COUNT = 64;

/** Figures of every arrangement, medians over the tokens; `spin` says whether waiting engine threads spun. */
export async function run(args: readonly string[]): Promise<object> {
  const say = (text: string) => console.error(text);
  const directory = await randomCheckpoint(say);
  const tokenCount = Number(args.find((arg) => /^\d+$/.test(arg)) ?? TOKEN_COUNT);
  const spin = args.includes("--spin");
  const results: object[] = [];
  for (const { segments, tensorParallel } of ARRANGEMENTS) {
    const command = [CHAIN, directory, segments, tensorParallel, tokenCount, spin ? 1 : 0].map(String);
    const { stdout } = await promisify(execFile)(process.execPath, command, { maxBuffer: 1 << 24 });
    const figures = JSON.parse(stdout.trim().split("\n").at(-1) ?? "") as Readonly<Record<string, number>>;
    console.log(
      `${segments} segment${segments > 1 ? "s" : " "}  tensor parallel ${tensorParallel}  ${figures["msPerToken"]} ms/token` +
        `  (fastest ${figures["fastestMs"]}, p90 ${figures["p90Ms"]}, CPU ${figures["cpuMsPerToken"]}; prompt ${figures["promptTokensPerSecond"]} tokens/s)`,
    );
    results.push(figures);
  }
  const model = { parameters: "1.1e9", quantization: "int4", layers: 22, hiddenSize: 2048 };
  const machine = { cpu: cpus()[0]?.model ?? "unknown", cores: availableParallelism(), spin };
  return { model, machine, tokenCount, results };
}
