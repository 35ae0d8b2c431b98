/** `tessellate eval`: a checkpoint's logits and greedy continuation, to compare with another engine. */
import type { Command } from "commander";
import { KV_DTYPES } from "../../core/kv-cache.ts";
import { costText } from "../../core/quantization-cost.ts";
import { type Result, ok, refuse, valueOrThrow } from "../../core/result.ts";
import { systemClock } from "../../core/wire/clock.ts";
import { evaluate } from "../../shard-runtime/evaluate.ts";
import { choice } from "../choice.ts";
import { ProgressBar } from "../progress-bar.ts";

const FORMATS = ["f32", "f16", "int8", "int4"] as const;

type Options = {
  readonly model: string;
  readonly tokenIds: string;
  readonly maxTokens: string;
  readonly segments: string;
  readonly tensorParallel: string;
  readonly quantization: string;
  readonly kvCache: string;
  readonly output: string;
};

export function register(program: Command): void {
  program
    .command("eval")
    .description("run a checkpoint on token ids: the logits after the last one, and the greedy continuation")
    .requiredOption("--model <directory>", "a checkpoint in Hugging Face layout; needs no tokenizer")
    .requiredOption("--token-ids <ids>", "comma-separated, such as 1,2,3")
    .option("--max-tokens <count>", "tokens to continue with", "16")
    .option("--segments <count>", "cut the layers into so many segments", "1")
    .option("--tensor-parallel <degree>", "ranks of every segment", "1")
    .option("--quantization <kind>", FORMATS.join(", "), "f32")
    .option("--kv-cache <dtype>", KV_DTYPES.join(", "), "f32")
    .option("-o, --output <form>", "json, or text for the continuation alone", "text")
    .action(async (options: Options) => {
      choice("-o", options.output, ["text", "json"]);
      const bar = new ProgressBar();
      const result = await evaluate({
        modelDirectory: options.model,
        tokenIds: valueOrThrow(parseTokenIds(options.tokenIds)),
        maxTokens: valueOrThrow(parseCount(options.maxTokens, "--max-tokens", 0)),
        segments: valueOrThrow(parseCount(options.segments, "--segments", 1)),
        tensorParallel: valueOrThrow(parseCount(options.tensorParallel, "--tensor-parallel", 1)),
        quantization: choice("--quantization", options.quantization, FORMATS),
        kvDtype: choice("--kv-cache", options.kvCache, KV_DTYPES),
        clock: systemClock,
        onProgress: (progress) => bar.show(progress),
        onStep: (text) => bar.line(text),
      }).finally(() => bar.clear());
      console.log(options.output === "json" ? JSON.stringify(result) : result.greedy.join(","));
      console.error(`computed by ${result.driftClass}`);
      for (const cost of result.costs) console.error(`as the model's packer measured, ${costText(cost)}`);
    });
}

function parseTokenIds(text: string): Result<readonly number[], "BadOption"> {
  const ids = text.split(",").map((part) => part.trim());
  const bad = ids.find((id) => !/^\d{1,9}$/.test(id));
  return bad === undefined
    ? ok(ids.map(Number))
    : refuse("BadOption", `--token-ids: ${JSON.stringify(bad)} is no token id; write them as 1,2,3`);
}

function parseCount(text: string, option: string, least: number): Result<number, "BadOption"> {
  const count = Number(text);
  if (/^\d{1,6}$/.test(text) && count >= least) return ok(count);
  return refuse("BadOption", `${option}: ${JSON.stringify(text)} is no whole number from ${least} up`);
}
