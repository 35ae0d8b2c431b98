/**
 * The shape of the random checkpoint as a GGUF file for llama.cpp, every matrix in Q4_0 (blocks of 32 values: an f16
 * scale and 16 bytes), written straight from the format's description (ggml's docs/gguf.md). It holds other numbers than
 * the checkpoint; what a token costs does not depend on them. No tokenizer: the bench sends token ids.
 */
import { existsSync } from "node:fs";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { benchCache } from "./bench-cache.ts";
import { BENCH_CONFIG } from "./random-checkpoint.ts";

const VERSION = 3;
const ALIGNMENT = 32;
const Q4_0 = 2;
const F32 = 0;
const MOSTLY_Q4_0 = 2;
const BLOCK_LENGTH = 32;
const BLOCK_BYTES = 18;
const SCALE = 0x1a00; // f16 of 0.0029: weights spread like the checkpoint's
const PIECE_BYTES = BLOCK_BYTES << 18;

type Tensor = { readonly name: string; readonly dims: readonly number[] }; // the fastest axis first, as GGUF has it

/** The file, made first where it is not there (620 MB). */
export async function randomGguf(say: (text: string) => void): Promise<string> {
  const path = join(benchCache(), "llama-1.1b-random-q4_0-2.gguf");
  if (existsSync(path)) return path;
  say("making the GGUF file for llama.cpp …");
  const partial = `${path}.${process.pid}.partial`;
  const file = await open(partial, "w");
  try {
    await writeFile(file);
    await rename(partial, path);
  } finally {
    await file.close();
    await rm(partial, { force: true });
  }
  return path;
}

async function writeFile(file: FileHandle): Promise<void> {
  const tensors = tensorsOf();
  await file.write(header(tensors));
  const blocks = randomBlocks();
  for (const tensor of tensors) {
    if (tensor.dims.length === 1) {
      await file.write(padded(new Uint8Array(new Float32Array(tensor.dims[0] ?? 0).fill(1).buffer)));
      continue;
    }
    for (let left = byteLength(tensor); left > 0; left -= PIECE_BYTES)
      await file.write(blocks.subarray(0, Math.min(left, PIECE_BYTES)));
  }
}

function tensorsOf(): readonly Tensor[] {
  const { hidden_size: hidden, intermediate_size: ffn, vocab_size: vocabulary } = BENCH_CONFIG;
  const kv = (hidden / BENCH_CONFIG.num_attention_heads) * BENCH_CONFIG.num_key_value_heads;
  const layers = Array.from({ length: BENCH_CONFIG.num_hidden_layers }, (_, index) => {
    const shapes = {
      attn_norm: [hidden],
      attn_q: [hidden, hidden],
      attn_k: [hidden, kv],
      attn_v: [hidden, kv],
      attn_output: [hidden, hidden],
      ffn_norm: [hidden],
      ffn_gate: [hidden, ffn],
      ffn_up: [hidden, ffn],
      ffn_down: [ffn, hidden],
    };
    return Object.entries(shapes).map(([name, dims]) => ({ name: `blk.${index}.${name}.weight`, dims }));
  });
  return [
    { name: "token_embd.weight", dims: [hidden, vocabulary] },
    ...layers.flat(),
    { name: "output_norm.weight", dims: [hidden] },
    { name: "output.weight", dims: [hidden, vocabulary] },
  ];
}

function byteLength({ dims }: Tensor): number {
  const count = dims.reduce((a, b) => a * b, 1);
  return dims.length === 1 ? count * 4 : (count / BLOCK_LENGTH) * BLOCK_BYTES;
}

const alignedLength = (length: number): number => Math.ceil(length / ALIGNMENT) * ALIGNMENT;

function padded(bytes: Uint8Array): Uint8Array {
  const result = new Uint8Array(alignedLength(bytes.length));
  result.set(bytes);
  return result;
}

function header(tensors: readonly Tensor[]): Uint8Array {
  const config = BENCH_CONFIG;
  const headSize = config.hidden_size / config.num_attention_heads;
  const facts: readonly (readonly [string, string | number | { readonly float: number }])[] = [
    ["general.architecture", "llama"],
    ["general.name", "bench"],
    ["general.file_type", MOSTLY_Q4_0],
    ["llama.block_count", config.num_hidden_layers],
    ["llama.context_length", config.max_position_embeddings],
    ["llama.embedding_length", config.hidden_size],
    ["llama.feed_forward_length", config.intermediate_size],
    ["llama.attention.head_count", config.num_attention_heads],
    ["llama.attention.head_count_kv", config.num_key_value_heads],
    ["llama.attention.layer_norm_rms_epsilon", { float: config.rms_norm_eps }],
    ["llama.rope.dimension_count", headSize],
    ["llama.rope.freq_base", { float: config.rope_theta }],
    ["llama.vocab_size", config.vocab_size],
    ["tokenizer.ggml.model", "none"],
  ];
  const parts = [
    Buffer.from("GGUF"),
    uint32(VERSION),
    uint64(tensors.length),
    uint64(facts.length),
    ...facts.flatMap(([key, value]) => [text(key), ...factBytes(value)]),
  ];
  let offset = 0;
  for (const tensor of tensors) {
    parts.push(text(tensor.name), uint32(tensor.dims.length), ...tensor.dims.map(uint64));
    parts.push(uint32(tensor.dims.length === 1 ? F32 : Q4_0), uint64(offset));
    offset += alignedLength(byteLength(tensor));
  }
  return padded(Buffer.concat(parts));
}

function factBytes(value: string | number | { readonly float: number }): readonly Uint8Array[] {
  const [UINT32, FLOAT32, STRING] = [4, 6, 8];
  if (typeof value === "string") return [uint32(STRING), text(value)];
  if (typeof value === "number") return [uint32(UINT32), uint32(value)];
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value.float);
  return [uint32(FLOAT32), bytes];
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function uint64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

const text = (value: string): Buffer => Buffer.concat([uint64(Buffer.byteLength(value)), Buffer.from(value)]);

/** Blocks with one scale and pseudo-random values (a linear congruential generator; Numerical Recipes' constants). */
function randomBlocks(): Uint8Array {
  const bytes = Buffer.alloc(PIECE_BYTES);
  let state = 20_250_101;
  for (let at = 0; at < bytes.length; at += 1) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    bytes[at] = state >>> 24;
  }
  for (let at = 0; at < bytes.length; at += BLOCK_BYTES) bytes.writeUInt16LE(SCALE, at);
  return bytes;
}
