/**
 * Small checkpoints for tests, written to a temporary folder. Every default is boring, so whatever a test sets is what
 * the test is about. An element's value follows from its tensor and index, so that any slice can be checked by itself.
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Clock } from "../../core/clock.ts";
import { type ModelConfig, parseModelConfig } from "../../core/model-config.ts";
import { valueOrThrow } from "../../core/result.ts";
import { storedTensors } from "../../core/tensor-places.ts";

export const TINY = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  hidden_size: 16,
  intermediate_size: 24,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 40,
  max_position_embeddings: 64,
};

export type CheckpointOptions = {
  readonly config?: object; // changes to TINY
  readonly dtype?: "F32" | "F16" | "BF16";
  readonly files?: number; // above 1: with an index
  readonly without?: readonly string[]; // tensors left out
  readonly shapes?: Readonly<Record<string, readonly number[]>>; // other shapes than config.json implies
};

/** After so many elements a tensor's values come again. */
const PERIOD = 251;

/** A multiple of 1/8 within ±16: exact in every dtype. */
export const elementOf = (tensor: number, index: number): number => (((tensor * 31 + index * 7) % PERIOD) - 125) / 8;

/** The folder of a checkpoint without manifest. The caller removes it with {@link removed}. */
export async function aCheckpoint(options: CheckpointOptions = {}): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "tessellate-checkpoint-"));
  const configText = JSON.stringify({ ...TINY, ...options.config });
  const config = valueOrThrow(parseModelConfig(configText));
  await writeFile(join(directory, "config.json"), configText);
  const tokenizer = { model: { type: "BPE", vocab: { a: 0, b: 1 } }, added_tokens: [{ id: 2, content: "<s>" }] };
  await writeFile(join(directory, "tokenizer.json"), JSON.stringify(tokenizer));
  const tensors = tensorsOf(config, options);
  const fileCount = options.files ?? 1;
  if (fileCount === 1) {
    await writeFile(join(directory, "model.safetensors"), safetensors(tensors));
    return directory;
  }
  const weightMap: Record<string, string> = {};
  for (let file = 0; file < fileCount; file += 1) {
    const name = `model-0000${file + 1}-of-0000${fileCount}.safetensors`;
    const own = tensors.filter((_, index) => Math.floor((index * fileCount) / tensors.length) === file);
    for (const tensor of own) weightMap[tensor.name] = name;
    await writeFile(join(directory, name), safetensors(own));
  }
  await writeFile(
    join(directory, "model.safetensors.index.json"),
    JSON.stringify({ metadata: {}, weight_map: weightMap }),
  );
  return directory;
}

export const removed = (directory: string): Promise<void> => rm(directory, { recursive: true, force: true });

export type BuiltTensor = {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
};

function tensorsOf(
  config: ModelConfig,
  { dtype = "F32", without = [], shapes = {} }: CheckpointOptions,
): readonly BuiltTensor[] {
  return storedTensors(config)
    .map(([name, shape], tensor) => {
      const own = shapes[name] ?? shape;
      const count = own.reduce((a, b) => a * b, 1);
      return { name, dtype, shape: own, bytes: encoded(dtype, count, (index) => elementOf(tensor, index)) };
    })
    .filter(({ name }) => !without.includes(name));
}

function encoded(dtype: "F32" | "F16" | "BF16", count: number, value: (index: number) => number): Uint8Array {
  const size = dtype === "F32" ? 4 : 2;
  const view = new DataView(new ArrayBuffer(Math.min(count, PERIOD) * size));
  const single = new Float32Array(1);
  const bits = new Uint32Array(single.buffer);
  for (let index = 0; index < Math.min(count, PERIOD); index += 1) {
    single[0] = value(index);
    const word = bits[0] ?? 0;
    if (dtype === "F32") view.setUint32(index * 4, word, true);
    else view.setUint16(index * 2, dtype === "BF16" ? word >>> 16 : halfOf(word), true);
  }
  return new Uint8Array(Buffer.alloc(count * size, new Uint8Array(view.buffer)).buffer);
}

/** f16 bits of f32 bits, for values that f16 holds exactly and normally (or zero). */
const halfOf = (word: number): number =>
  (word & 0x7fffffff) === 0
    ? word >>> 16
    : ((word >>> 16) & 0x8000) | ((((word >>> 23) & 255) - 112) << 10) | ((word >>> 13) & 0x3ff);

/** The bytes of a safetensors file. `lie` changes the header after its offsets are set. */
export function safetensors(
  tensors: readonly BuiltTensor[],
  lie: (header: Record<string, unknown>) => unknown = (header) => header,
): Uint8Array {
  let at = 0;
  const header: Record<string, unknown> = { __metadata__: { format: "pt" } };
  for (const { name, dtype, shape, bytes } of tensors)
    header[name] = { dtype, shape, data_offsets: [at, (at += bytes.length)] };
  const text = JSON.stringify(lie(header));
  const json = new TextEncoder().encode(text + " ".repeat((8 - (text.length % 8)) % 8));
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(json.length), true);
  return new Uint8Array(Buffer.concat([length, json, ...tensors.map((tensor) => tensor.bytes)]));
}

/** A clock on which every wait is over at once, except that nothing ever stalls. `waits` are the milliseconds asked for. */
export function hurriedClock(): Clock & { readonly waits: readonly number[] } {
  const waits: number[] = [];
  let now = 0;
  return {
    waits,
    monotonicMs: () => (now += 1),
    sleep(milliseconds, signal) {
      if (milliseconds !== 30_000) {
        waits.push(milliseconds);
        return Promise.resolve();
      }
      return new Promise((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason)));
    },
  };
}
