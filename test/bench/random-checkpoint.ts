/**
 * A random checkpoint of 1.1 billion parameters in the shape of TinyLlama, made once and kept outside the tree: what a
 * token costs does not depend on what the weights say.
 */
import { existsSync } from "node:fs";
import { type FileHandle, mkdir, open, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseModelConfig } from "../../core/model-config.ts";
import { valueOrThrow } from "../../core/result.ts";
import { systemClock } from "../../core/wire/clock.ts";
import { type NamedShape, storedTensors } from "../../core/tensor-places.ts";
import { benchCache } from "./bench-cache.ts";
import { packModel } from "../../shard-runtime/weights/pack.ts";

export const BENCH_CONFIG = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  hidden_act: "silu",
  hidden_size: 2048,
  intermediate_size: 5632,
  num_hidden_layers: 22,
  num_attention_heads: 32,
  num_key_value_heads: 4,
  vocab_size: 32_000,
  max_position_embeddings: 32_768,
  rms_norm_eps: 1e-5,
  rope_theta: 10_000,
  tie_word_embeddings: false,
  torch_dtype: "bfloat16",
};

const STANDARD_DEVIATION = 0.02;
const PIECE_VALUE_COUNT = 1 << 22;

/** The folder of the checkpoint, made first where it is not there (2.8 GB). */
export async function randomCheckpoint(say: (text: string) => void): Promise<string> {
  const directory = join(benchCache(), "llama-1.1b-random-3");
  if (existsSync(directory)) return directory;
  const partial = `${directory}.${process.pid}.partial`;
  await mkdir(partial, { recursive: true });
  try {
    const configText = JSON.stringify(BENCH_CONFIG);
    await writeFile(join(partial, "config.json"), configText);
    const shapes = storedTensors(valueOrThrow(parseModelConfig(configText)));
    await writeTensors(join(partial, "model.safetensors"), shapes, say);
    say("hashing the checkpoint, and copying by columns what slices cut so …");
    valueOrThrow(await packModel(partial, { clock: systemClock, tokenizer: "optional" }));
    await rename(partial, directory);
  } finally {
    await rm(partial, { recursive: true, force: true });
  }
  return directory;
}

async function writeTensors(path: string, shapes: readonly NamedShape[], say: (text: string) => void): Promise<void> {
  const header: Record<string, object> = {};
  let end = 0;
  for (const [name, shape] of shapes) {
    const start = end;
    end += countOf(shape) * 2;
    header[name] = { dtype: "BF16", shape, data_offsets: [start, end] };
  }
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  const file = await open(path, "w");
  try {
    await file.write(length);
    await file.write(text);
    const random = new RandomValues(20_250_101);
    for (const [index, [name, shape]] of shapes.entries()) {
      if (index % 20 === 0) say(`making the random checkpoint: tensor ${index + 1} of ${shapes.length}`);
      await writeTensor(file, countOf(shape), name.endsWith("norm.weight") ? ones : random.fill);
    }
  } finally {
    await file.close();
  }
}

const countOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

async function writeTensor(file: FileHandle, count: number, fill: (values: Uint16Array) => void): Promise<void> {
  for (let left = count; left > 0; left -= PIECE_VALUE_COUNT) {
    const values = new Uint16Array(Math.min(left, PIECE_VALUE_COUNT));
    fill(values);
    await file.write(new Uint8Array(values.buffer));
  }
}

const bf16 = (value: number): number => (new Uint32Array(Float32Array.of(value).buffer)[0] ?? 0) >>> 16;

const ones = (values: Uint16Array): void => {
  values.fill(bf16(1));
};

/** Normally distributed bf16 values, drawn from a table by a xorshift generator (Marsaglia): 2.2 GB in seconds. */
class RandomValues {
  readonly #table: Uint16Array;
  #state: number;

  constructor(seed: number) {
    this.#state = seed;
    this.#table = Uint16Array.from({ length: 1 << 16 }, () => {
      const radius = Math.sqrt(-2 * Math.log((this.#next() + 1) / 2 ** 32));
      return bf16(STANDARD_DEVIATION * radius * Math.cos((2 * Math.PI * this.#next()) / 2 ** 32));
    });
  }

  #next(): number {
    let state = this.#state;
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    this.#state = state;
    return state >>> 0;
  }

  readonly fill = (values: Uint16Array): void => {
    for (let index = 0; index < values.length; index += 2) {
      const drawn = this.#next();
      values[index] = this.#table[drawn & 0xffff] ?? 0;
      values[index + 1] = this.#table[drawn >>> 16] ?? 0;
    }
  };
}
