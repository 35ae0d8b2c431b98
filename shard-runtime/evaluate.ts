/**
 * A checkpoint's answers, for anyone who wants to compare with another engine: logits and greedy continuation, computed
 * by the same graphs that serve, cut as one likes.
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { present } from "../core/assert.ts";
import type { Clock } from "../core/clock.ts";
import type { ModelConfig } from "../core/model-config.ts";
import type { KvDtype } from "../core/kv-cache.ts";
import { MANIFEST_FILE, parseManifest } from "../core/manifest.ts";
import { type QuantizationCost, costsOf } from "../core/quantization-cost.ts";
import { splitByWeights } from "../core/ranges.ts";
import { type Result, ok, refuse, valueOrThrow } from "../core/result.ts";
import { rankCountMax } from "../core/slice.ts";
import { checkKvDtype } from "./engine/kv-dtype.ts";
import { LocalChain } from "./engine/local-chain.ts";
import { machineLibrary } from "./engine/native/products.ts";
import type { PackFormat } from "./engine/shard.ts";
import { openUnpacked } from "./weights/pack.ts";
import type { Progress } from "./weights/progress.ts";

export type EvaluateOptions = {
  readonly modelDirectory: string; // Hugging Face layout; no tokenizer needed
  readonly tokenIds: readonly number[];
  readonly maxTokens: number; // length of the continuation; 0: logits only
  readonly segments: number; // equal runs of layers
  readonly tensorParallel: number; // ranks in each segment
  readonly quantization: PackFormat; // f32 | f16 | int8 | int4
  readonly kvDtype: KvDtype;
  readonly clock: Clock;
  /** While the checkpoint is checked. */
  readonly onProgress?: (progress: Progress) => void;
  /** While it is made ready: how far, in words. */
  readonly onStep?: (text: string) => void;
};

export type Evaluation = {
  readonly lastLogits: readonly number[]; // [vocabulary], after the last given token
  readonly greedy: readonly number[]; // the continuation; the end-of-text token does not end it
  readonly driftClass: string; // of the first rank: what computed
  readonly costs: readonly QuantizationCost[]; // of what was asked for, where the model's manifest says them
};

/** Throws a RefusalError that names the argument, or the file and what is wrong with it. */
export async function evaluate(options: EvaluateOptions): Promise<Evaluation> {
  const model = valueOrThrow(
    await openUnpacked(options.modelDirectory, {
      clock: options.clock,
      tokenizer: "optional",
      ...(options.onProgress === undefined ? {} : { onProgress: options.onProgress }),
    }),
  );
  valueOrThrow(checkArguments(options, model.config));
  const cacheDirectory = await mkdtemp(join(tmpdir(), "tessellate-eval-"));
  try {
    const library = await machineLibrary(join(cacheDirectory, "native"));
    valueOrThrow(checkKvDtype(options.kvDtype, "cpu", library));
    const sliceWeights = new Array<number>(options.tensorParallel).fill(1);
    const layers = splitByWeights(model.config.layerCount, new Array<number>(options.segments).fill(1));
    const plan = layers.map((range) => ({ layers: range, sliceWeights }));
    const chain = await LocalChain.load(model, plan, {
      quantization: options.quantization,
      kvDtype: options.kvDtype,
      products: "path" in library ? library.path : undefined,
      cacheDirectory,
      contextLength: options.tokenIds.length + options.maxTokens,
      slotCount: 1,
      threadCount: availableParallelism(),
      spin: false,
      ...(options.onStep === undefined ? {} : { onProgress: options.onStep }),
    });
    try {
      const driftClass = present(chain.engines[0], "a chain has an engine").facts.driftClass;
      const costs = costsOf(await costsBeside(options.modelDirectory, model.root), options);
      return { ...greedyFrom(chain, options), driftClass, costs };
    } finally {
      chain.close();
    }
  } finally {
    await rm(cacheDirectory, { recursive: true, force: true });
  }
}

/** As the manifest in the folder says them, if it is of the files that lie there. */
async function costsBeside(directory: string, root: string): Promise<readonly QuantizationCost[]> {
  const text = await readFile(join(directory, MANIFEST_FILE), "utf8").catch(() => "");
  const manifest = parseManifest(text);
  return manifest.ok && manifest.value.root === root ? (manifest.value.costs ?? []) : [];
}

function greedyFrom(chain: LocalChain, options: EvaluateOptions): Pick<Evaluation, "lastLogits" | "greedy"> {
  chain.acquire("eval");
  let logits = chain.feed("eval", options.tokenIds);
  const lastLogits = [...logits];
  const greedy: number[] = [];
  while (greedy.length < options.maxTokens) {
    greedy.push(indexOfLargest(logits));
    if (greedy.length < options.maxTokens) logits = chain.feed("eval", greedy.slice(-1));
  }
  return { lastLogits, greedy };
}

/** The first of equals, as everywhere. */
function indexOfLargest(logits: Float32Array): number {
  let best = 0;
  for (const [index, value] of logits.entries()) if (value > (logits[best] ?? 0)) best = index;
  return best;
}

function checkArguments(options: EvaluateOptions, config: ModelConfig): Result<undefined> {
  const { tokenIds, maxTokens, segments, tensorParallel } = options;
  const counts = { "--segments": segments, "--tensor-parallel": tensorParallel };
  const limits = { "--segments": config.layerCount, "--tensor-parallel": rankCountMax(config) };
  for (const name of ["--segments", "--tensor-parallel"] as const)
    if (!Number.isInteger(counts[name]) || counts[name] < 1 || counts[name] > limits[name])
      return refuse("InvalidArgument", `${name} is ${counts[name]}; this model can be cut into 1 to ${limits[name]}`);
  if (!Number.isInteger(maxTokens) || maxTokens < 0)
    return refuse("InvalidArgument", `--max-tokens is ${maxTokens}; give a whole number, 0 for logits only`);
  if (tokenIds.length === 0) return refuse("InvalidArgument", "--token-ids is empty; give at least one id");
  const unknown = tokenIds.find((id) => !Number.isInteger(id) || id < 0 || id >= config.vocabularySize);
  if (unknown !== undefined)
    return refuse("InvalidArgument", `--token-ids has ${unknown}; ids go from 0 to ${config.vocabularySize - 1}`);
  if (tokenIds.length + maxTokens > config.maxPositions)
    return refuse(
      "ContextTooLong",
      `${tokenIds.length} given and ${maxTokens} new tokens are more than the model's ${config.maxPositions} positions; lower --max-tokens`,
    );
  return ok(undefined);
}
