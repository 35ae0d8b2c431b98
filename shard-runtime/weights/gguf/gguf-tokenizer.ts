/**
 * The tokenizer.json that a GGUF file's vocabulary amounts to. Two kinds are told apart by `tokenizer.ggml.model`: "gpt2",
 * byte-level BPE whose merges are listed and whose way of cutting a text into words has only a name, and "llama",
 * SentencePiece BPE whose merges follow from the scores: what merges to the best piece merges first.
 */
import { type JsonObject, shown } from "../../../core/json.ts";
import { type Result, ok, refuse } from "../../../core/result.ts";
import type { GgufValue } from "./header.ts";

type Metadata = ReadonlyMap<string, GgufValue>;

const LLAMA3_WORDS =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const CASED =
  "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?" +
  "|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?" +
  "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

const byteLevel = (useRegex: boolean): JsonObject => ({
  type: "ByteLevel",
  add_prefix_space: false,
  trim_offsets: true,
  use_regex: useRegex,
});
const sequence = (...pretokenizers: readonly JsonObject[]): JsonObject => ({ type: "Sequence", pretokenizers });
const words = (regex: string): JsonObject =>
  sequence({ type: "Split", pattern: { Regex: regex }, behavior: "Isolated", invert: false }, byteLevel(false));
const digitsAlone = sequence({ type: "Digits", individual_digits: true }, byteLevel(true));

/** By `tokenizer.ggml.pre`: how a text is cut into words. */
const WORDS: Readonly<Record<string, JsonObject>> = {
  "gpt-2": byteLevel(true),
  "llama-bpe": words(LLAMA3_WORDS),
  dbrx: words(LLAMA3_WORDS),
  qwen2: words(LLAMA3_WORDS.replace("\\p{N}{1,3}", "\\p{N}")),
  "gpt-4o": words(CASED),
  smollm: digitsAlone,
  refact: digitsAlone,
  starcoder: digitsAlone,
};

export type GgufTokenizer = { readonly tokenizer: JsonObject; readonly tokenizerConfig: JsonObject };

/** tokenizer.json and tokenizer_config.json. Refused as MissingTokenizer where that file must come from elsewhere. */
export function ggufTokenizer(where: string, metadata: Metadata): Result<GgufTokenizer, "MissingTokenizer"> {
  const model = metadata.get("tokenizer.ggml.model");
  const tokens = textsOf(metadata.get("tokenizer.ggml.tokens"));
  const no = (why: string) =>
    refuse("MissingTokenizer", `${where}: ${why}; put the model's own tokenizer.json beside the file`);
  if (tokens === undefined) return no("has no vocabulary (tokenizer.ggml.tokens)");
  const vocabulary = { tokens, types: numbersOf(metadata.get("tokenizer.ggml.token_type")) };
  if (model === "gpt2") {
    const pre = metadata.get("tokenizer.ggml.pre") ?? "gpt-2";
    const cut = typeof pre === "string" && Object.hasOwn(WORDS, pre) ? WORDS[pre] : undefined;
    if (cut === undefined)
      return no(`tokenizer.ggml.pre is ${shown(pre)}, known are: ${Object.keys(WORDS).join(", ")}`);
    const merges = textsOf(metadata.get("tokenizer.ggml.merges"));
    if (merges === undefined) return no("has no merges (tokenizer.ggml.merges)");
    return ok(withConfig(metadata, vocabulary, byteLevelBpe(vocabulary, merges, String(pre), cut)));
  }
  if (model === "llama") {
    const scores = numbersOf(metadata.get("tokenizer.ggml.scores"));
    if (scores.length !== tokens.length) return no("has no score for each token (tokenizer.ggml.scores)");
    const spaceFirst = metadata.get("tokenizer.ggml.add_space_prefix") !== false;
    return ok(withConfig(metadata, vocabulary, sentencePiece(vocabulary, scores, spaceFirst)));
  }
  return no(`tokenizer.ggml.model is ${shown(model)}, known are "gpt2" and "llama"`);
}

type Vocabulary = { readonly tokens: readonly string[]; readonly types: readonly number[] };

/** Of tokenizer.ggml.token_type. */
const UNKNOWN = 2;
const CONTROL = 3;
const USER_DEFINED = 4;

const vocabOf = ({ tokens }: Vocabulary): JsonObject => Object.fromEntries(tokens.map((token, id) => [token, id]));

function byteLevelBpe(vocabulary: Vocabulary, merges: readonly string[], pre: string, cut: JsonObject): JsonObject {
  return {
    normalizer: pre === "qwen2" ? { type: "NFC" } : null,
    pre_tokenizer: cut,
    decoder: byteLevel(true),
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: "",
      end_of_word_suffix: "",
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: pre === "llama-bpe",
      vocab: vocabOf(vocabulary),
      merges,
    },
  };
}

function sentencePiece(vocabulary: Vocabulary, scores: readonly number[], spaceFirst: boolean): JsonObject {
  const replaced = { type: "Replace", pattern: { String: " " }, content: "▁" };
  const back = [
    { type: "Replace", pattern: { String: "▁" }, content: " " },
    { type: "ByteFallback" },
    { type: "Fuse" },
  ];
  return {
    normalizer: {
      type: "Sequence",
      normalizers: spaceFirst ? [{ type: "Prepend", prepend: "▁" }, replaced] : [replaced],
    },
    pre_tokenizer: null,
    decoder: {
      type: "Sequence",
      decoders: spaceFirst ? [...back, { type: "Strip", content: " ", start: 1, stop: 0 }] : back,
    },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: vocabulary.tokens[vocabulary.types.indexOf(UNKNOWN)] ?? null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: true,
      byte_fallback: true,
      ignore_merges: false,
      vocab: vocabOf(vocabulary),
      merges: mergesOf(vocabulary.tokens, scores),
    },
  };
}

/** Every way in which a piece is two pieces, best piece first; among equals the longer left half, as transformers has it. */
function mergesOf(tokens: readonly string[], scores: readonly number[]): readonly string[] {
  const ids = new Map(tokens.map((token, id) => [token, id]));
  const merges: { text: string; score: number; left: number; right: number }[] = [];
  for (const [id, token] of tokens.entries()) {
    const letters = Array.from(token);
    const own: { text: string; leftId: number; rightId: number; left: number; right: number }[] = [];
    for (let at = 1; at < letters.length; at += 1) {
      const [left, right] = [letters.slice(0, at).join(""), letters.slice(at).join("")];
      const [leftId, rightId] = [ids.get(left), ids.get(right)];
      if (leftId !== undefined && rightId !== undefined)
        own.push({ text: `${left} ${right}`, leftId, rightId, left: at, right: letters.length - at });
    }
    own.sort((a, b) => a.leftId - b.leftId || a.rightId - b.rightId);
    for (const { text, left, right } of own) merges.push({ text, score: scores[id] ?? 0, left, right });
  }
  merges.sort((a, b) => b.score - a.score || b.left - a.left || b.right - a.right);
  return merges.map(({ text }) => text);
}

function withConfig(metadata: Metadata, vocabulary: Vocabulary, json: JsonObject): GgufTokenizer {
  const { tokens, types } = vocabulary;
  const added = tokens.flatMap((content, id) => {
    const type = types[id];
    if (type !== CONTROL && type !== USER_DEFINED && type !== UNKNOWN) return [];
    const plain = { single_word: false, lstrip: false, rstrip: false, normalized: false };
    return [{ id, content, ...plain, special: type !== USER_DEFINED }];
  });
  const tokenOf = (name: string): string | undefined => {
    const id = metadata.get(`tokenizer.ggml.${name}_token_id`);
    return typeof id === "number" ? tokens[id] : undefined;
  };
  const first = tokenOf("bos");
  const isLlama3 = metadata.get("tokenizer.ggml.pre") === "llama-bpe";
  const isSentencePiece = metadata.get("tokenizer.ggml.model") === "llama";
  const putsFirst = (metadata.get("tokenizer.ggml.add_bos_token") ?? (isLlama3 || isSentencePiece)) === true;
  const template = metadata.get("tokenizer.chat_template");
  const postProcessor = putsFirst && first !== undefined ? firstTokenAdded(first, tokens.indexOf(first)) : null;
  return {
    tokenizer: {
      version: "1.0",
      truncation: null,
      padding: null,
      added_tokens: added,
      post_processor: postProcessor,
      ...json,
    },
    tokenizerConfig: {
      ...(first === undefined ? {} : { bos_token: first }),
      ...(tokenOf("eos") === undefined ? {} : { eos_token: tokenOf("eos") }),
      add_bos_token: putsFirst,
      ...(typeof template === "string" ? { chat_template: template } : {}),
    },
  };
}

const firstTokenAdded = (token: string, id: number): JsonObject => ({
  type: "TemplateProcessing",
  single: [{ SpecialToken: { id: token, type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
  pair: [
    { SpecialToken: { id: token, type_id: 0 } },
    { Sequence: { id: "A", type_id: 0 } },
    { SpecialToken: { id: token, type_id: 1 } },
    { Sequence: { id: "B", type_id: 1 } },
  ],
  special_tokens: { [token]: { id: token, ids: [id], tokens: [token] } },
});

const textsOf = (value: GgufValue | undefined): readonly string[] | undefined =>
  Array.isArray(value) && value.every((each): each is string => typeof each === "string") ? value : undefined;

const numbersOf = (value: GgufValue | undefined): readonly number[] =>
  Array.isArray(value) && value.every((each): each is number => typeof each === "number") ? value : [];
