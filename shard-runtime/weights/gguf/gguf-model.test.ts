/** A folder with nothing but a GGUF file is a model: the same numbers, the same configuration, a tokenizer. */
import { expect } from "chai";
import { mkdtemp, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseModelConfig } from "../../../core/model-config.ts";
import { valueOrThrow } from "../../../core/result.ts";
import { tensorPlaces } from "../../../core/tensor-places.ts";
import { TINY, aCheckpoint, hurriedClock, removed } from "../checkpoint-builder.ts";
import { openModel } from "../open-model.ts";
import { openUnpacked, packModel } from "../pack.ts";
import { type GgufFacts, ggufConfig } from "./gguf-config.ts";
import { type GgufTensor, aGguf } from "./gguf-builder.ts";
import { ggufPlaces } from "./gguf-places.ts";
import { ggufTokenizer } from "./gguf-tokenizer.ts";
import type { GgufValue } from "./header.ts";

const clock = hurriedClock();
const HEAD_SIZE = TINY.hidden_size / TINY.num_attention_heads;
const TOKENS = Array.from({ length: TINY.vocab_size }, (_, id) => (id < 2 ? ["<s>", "</s>"][id] : `t${id}`) ?? "");

const METADATA: Readonly<Record<string, GgufValue>> = {
  "general.architecture": "llama",
  "llama.block_count": TINY.num_hidden_layers,
  "llama.context_length": TINY.max_position_embeddings,
  "llama.embedding_length": TINY.hidden_size,
  "llama.feed_forward_length": TINY.intermediate_size,
  "llama.attention.head_count": TINY.num_attention_heads,
  "llama.attention.head_count_kv": TINY.num_key_value_heads,
  "llama.attention.layer_norm_rms_epsilon": 1e-5,
  "llama.rope.freq_base": 10_000,
  "llama.rope.dimension_count": HEAD_SIZE,
  "llama.vocab_size": TINY.vocab_size,
  "tokenizer.ggml.model": "gpt2",
  "tokenizer.ggml.pre": "llama-bpe",
  "tokenizer.ggml.tokens": TOKENS,
  "tokenizer.ggml.token_type": TOKENS.map((_, id) => (id < 2 ? 3 : 1)),
  "tokenizer.ggml.merges": ["t 1"],
  "tokenizer.ggml.bos_token_id": 0,
  "tokenizer.ggml.eos_token_id": 1,
  "tokenizer.chat_template": "{{ messages }}",
};

/** Rows of a head [2, half] as llama.cpp's converter writes them: [half, 2]. */
function paired(values: Float32Array, width: number): Float32Array {
  const out = new Float32Array(values.length);
  for (let row = 0; row < values.length / width; row += 1) {
    const within = row % HEAD_SIZE;
    const to = row - within + (within % (HEAD_SIZE / 2)) * 2 + Math.floor(within / (HEAD_SIZE / 2));
    out.set(values.subarray(row * width, (row + 1) * width), to * width);
  }
  return out;
}

async function withBoth(
  work: (plain: string, folder: string, tensors: readonly GgufTensor[]) => Promise<void>,
): Promise<void> {
  const plain = await aCheckpoint();
  const folder = await mkdtemp(join(tmpdir(), "tessellate-gguf-"));
  try {
    const source = valueOrThrow(await openUnpacked(plain, { clock }));
    const tensors: GgufTensor[] = [];
    for (const { role, stored, shape } of ggufPlaces(source.config, "llama")) {
      const values = await source.tensors.read(role);
      const ordered = /\.[qk]\.weight$/.test(role) ? paired(values, shape[1] ?? 1) : values;
      tensors.push({ name: stored, type: 0, shape, bytes: new Uint8Array(ordered.buffer) });
    }
    await writeFile(join(folder, "tiny-F32.gguf"), aGguf({ metadata: METADATA, tensors }));
    await work(plain, folder, tensors);
  } finally {
    await removed(plain);
    await removed(folder);
  }
}

describe("GGUF models", () => {
  it("are packed and read as the checkpoint that they were converted from", () =>
    withBoth(async (plain, folder) => {
      const packed = valueOrThrow(await packModel(folder, { clock }));
      expect(packed.written).to.deep.equal(["config.json", "tokenizer.json", "tokenizer_config.json"]);
      const source = valueOrThrow(await openUnpacked(plain, { clock }));
      const model = valueOrThrow(await openModel({ path: folder }, { clock }));
      expect(model.config).to.deep.equal({ ...source.config, normEpsilon: 1e-5, eosTokenIds: [1], bosTokenId: 0 });
      for (const { role } of tensorPlaces(source.config))
        expect([...(await model.tensors.read(role))], role).to.deep.equal([...(await source.tensors.read(role))]);
      const rows = { start: 3, end: 6 };
      expect([...(await model.tensors.read("layers.1.k.weight", { rows, columns: rows }))]).to.deep.equal([
        ...(await source.tensors.read("layers.1.k.weight", { rows, columns: rows })),
      ]);
    }));

  it("keep the files that lie beside them", () =>
    withBoth(async (plain, folder) => {
      const text = await readFile(join(plain, "config.json"), "utf8");
      await writeFile(join(folder, "config.json"), text);
      expect(valueOrThrow(await packModel(folder, { clock })).written).to.not.include("config.json");
      expect(await readFile(join(folder, "config.json"), "utf8")).to.equal(text);
    }));

  it("are refused where they hold a tensor that nobody would read", () =>
    withBoth(async (_plain, folder) => {
      const extra = { name: "blk.0.attn_q.bias", type: 0, shape: [16], bytes: new Uint8Array(64) };
      await writeFile(join(folder, "tiny-F32.gguf"), aGguf({ metadata: METADATA, tensors: [extra] }));
      await writeFile(join(folder, "config.json"), JSON.stringify(TINY));
      const result = await packModel(folder, { clock });
      if (result.ok) throw new Error("was taken");
      expect(result.code).to.equal("UnsupportedOption");
      expect(result.detail).to.include("blk.0.attn_q.bias").and.include("tiny-F32.gguf");
    }));

  it("are refused where a tensor is of a type that is not read, by its name", () =>
    withBoth(async (_plain, folder, tensors) => {
      const strange = tensors.map((each) => (each.name === "token_embd.weight" ? { ...each, type: 23 } : each));
      await writeFile(join(folder, "tiny-F32.gguf"), aGguf({ metadata: METADATA, tensors: strange }));
      const result = await packModel(folder, { clock });
      if (result.ok) throw new Error("was taken");
      expect(result.code).to.equal("UnsupportedDtype");
      expect(result.detail).to.include("token_embd.weight").and.include("IQ4_XS");
    }));

  it("are not opened before they are packed", () =>
    withBoth(async (_plain, folder) => {
      const result = await openUnpacked(folder, { clock });
      if (result.ok) throw new Error("was opened");
      expect(result.code).to.equal("MissingFile");
      expect(result.detail).to.include("config.json").and.include("tessellate pack").and.include("tiny-F32.gguf");
    }));

  it("need a tokenizer from elsewhere where theirs is not known, unless none is needed", () =>
    withBoth(async (_plain, folder) => {
      const file = join(folder, "tiny-F32.gguf");
      const text = (await readFile(file, "latin1")).replace("llama-bpe", "lama-bpe!");
      await writeFile(file, text, "latin1");
      const refused = await packModel(folder, { clock });
      if (refused.ok) throw new Error("was taken");
      expect(refused.code).to.equal("MissingTokenizer");
      expect(refused.detail).to.include("lama-bpe!").and.include("tokenizer.json");
      const packed = valueOrThrow(await packModel(folder, { clock, tokenizer: "optional" }));
      expect(packed.notes.join()).to.include("lama-bpe!");
    }));
});

const facts = (metadata: Record<string, GgufValue>, tensors: Record<string, number[]> = {}): GgufFacts => ({
  where: "m.gguf",
  metadata: new Map(Object.entries(metadata)),
  tensors: new Map(Object.entries(tensors).map(([name, shape]) => [name, { shape }])),
  factors: new Map(),
});

/** Metadata of an architecture, every default boring. */
function metadataOf(architecture: string, more: Record<string, GgufValue> = {}): Record<string, GgufValue> {
  const own = {
    block_count: 4,
    context_length: 512,
    embedding_length: 64,
    feed_forward_length: 128,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
    "attention.key_length": 32,
    "attention.value_length": 32,
    "attention.layer_norm_rms_epsilon": 1e-6,
    "rope.freq_base": 10_000,
    ...more,
  };
  return {
    "general.architecture": architecture,
    ...Object.fromEntries(Object.entries(own).map(([key, value]) => [`${architecture}.${key}`, value])),
  };
}

const EXPERTS = { expert_count: 4, expert_used_count: 2, expert_feed_forward_length: 64 };

describe("GGUF metadata as config.json", () => {
  const cases: readonly (readonly [architecture: string, more: Record<string, GgufValue>, says: object])[] = [
    ["llama", { expert_count: 0 }, { family: "llama", headSize: 32, vocabularySize: 100, tiedEmbeddings: true }],
    ["llama", { expert_count: 4, expert_used_count: 2 }, { family: "mixtral" }],
    ["qwen2", {}, { family: "qwen2", qkvBias: true }],
    ["qwen3", {}, { family: "qwen3", qkNorm: "head" }],
    ["qwen3moe", EXPERTS, { family: "qwen3_moe" }],
    [
      "gemma2",
      { "attention.sliding_window": 64, attn_logit_softcapping: 50 },
      { family: "gemma2", attentionSoftcap: 50 },
    ],
    [
      "gemma3",
      { "attention.sliding_window": 64, "attention.sliding_window_pattern": [true, false, true, true] },
      {
        layerKinds: [0, 1, 0, 0].map((attention) => ({ attention, experts: false })),
      },
    ],
    ["gemma3", { "attention.sliding_window": 64 }, { family: "gemma3_text", attentionScale: 32 ** -0.5 }],
    ["phi3", { "rope.dimension_count": 24 }, { family: "phi3" }],
    [
      "granite",
      { embedding_scale: 12, residual_scale: 0.22, "attention.scale": 0.0078125, logit_scale: 8 },
      { family: "granite", embeddingScale: 12, residualScale: 0.22, logitScale: 1 / 8 },
    ],
    ["olmo2", {}, { family: "olmo2", qkNorm: "row" }],
    ["smollm3", {}, { family: "smollm3" }],
    ["gpt-oss", { ...EXPERTS, "attention.sliding_window": 128 }, { family: "gpt_oss", sinks: true }],
  ];
  for (const [architecture, more, says] of cases)
    it(`is understood: ${architecture} ${Object.keys(more).join(" ")}`, () => {
      const json = valueOrThrow(ggufConfig(facts(metadataOf(architecture, more), { "token_embd.weight": [100, 64] })));
      expect(valueOrThrow(parseModelConfig(JSON.stringify(json)))).to.deep.include(says);
    });

  it("has Llama 3's settings back from what its frequencies are divided by", () => {
    const divisors = Float32Array.from({ length: 16 }, (_, pair) => {
      const wavelength = 2 * Math.PI * 500_000 ** (pair / 16);
      if (wavelength < 2048) return 1;
      if (wavelength > 8192) return 32;
      const smooth = (8192 / wavelength - 1) / 3;
      return 1 / ((1 - smooth) / 32 + smooth);
    });
    const known = facts(metadataOf("llama", { "rope.freq_base": 500_000 }), { "token_embd.weight": [100, 64] });
    const of = (values: Float32Array) => ggufConfig({ ...known, factors: new Map([["rope_freqs.weight", values]]) });
    expect(valueOrThrow(of(divisors))["rope_scaling"]).to.include({ rope_type: "llama3", factor: 32 });
    expect(of(divisors.map((value) => value * 1.1))).to.include({ code: "UnsupportedOption" });
  });

  const bad: readonly (readonly [metadata: Record<string, GgufValue>, code: string, says: string])[] = [
    [{}, "UnknownModelType", "general.architecture"],
    [metadataOf("mamba"), "UnknownModelType", "mamba"],
    [metadataOf("llama", { clever_new_thing: 1 }), "UnsupportedOption", "llama.clever_new_thing"],
    [metadataOf("llama", { "attention.head_count": "four" }), "MalformedTensors", "llama.attention.head_count"],
    [metadataOf("llama", { "rope.scaling.type": "wavy" }), "UnsupportedOption", "wavy"],
  ];
  for (const [metadata, code, says] of bad)
    it(`is refused: ${says}`, () => {
      const result = ggufConfig(facts(metadata, { "token_embd.weight": [100, 64] }));
      if (result.ok) throw new Error("was taken");
      expect(result.code).to.equal(code);
      expect(result.detail).to.include(says).and.include("m.gguf").and.include("config.json");
    });
});

describe("GGUF vocabularies", () => {
  it("of SentencePiece merge the best piece first", () => {
    const pieces = ["<unk>", "<s>", "a", "b", "ab", "▁", "▁ab"];
    const metadata = new Map<string, GgufValue>([
      ["tokenizer.ggml.model", "llama"],
      ["tokenizer.ggml.tokens", pieces],
      ["tokenizer.ggml.scores", [0, 0, -3, -4, -1, -5, -0.5]],
      ["tokenizer.ggml.token_type", [2, 3, 1, 1, 1, 1, 1]],
      ["tokenizer.ggml.bos_token_id", 1],
    ]);
    const { tokenizer, tokenizerConfig } = valueOrThrow(ggufTokenizer("m.gguf", metadata));
    expect(tokenizer["model"]).to.deep.include({ merges: ["▁ ab", "a b"], unk_token: "<unk>" });
    expect(tokenizerConfig).to.deep.equal({ bos_token: "<s>", add_bos_token: true });
  });

  for (const [key, value] of [
    ["tokenizer.ggml.model", "bert"],
    ["tokenizer.ggml.pre", "unheard-of"],
    ["tokenizer.ggml.merges", 3],
  ] as const)
    it(`are refused where a tokenizer.json has to be brought: ${key}`, () => {
      const result = ggufTokenizer("m.gguf", new Map(Object.entries({ ...METADATA, [key]: value })));
      if (result.ok) throw new Error("was taken");
      expect(result.code).to.equal("MissingTokenizer");
      expect(result.detail).to.include(key).and.include("tokenizer.json");
    });
});
