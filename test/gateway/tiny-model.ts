/**
 * A model's files without its weights, small enough to read: a byte-level BPE tokenizer with a handful of merges, a chat
 * template, and the manifest over them. For tests of everything in front of the ranks.
 */
import {
  MANIFEST_FILE,
  type ManifestFile,
  chunkRange,
  chunkCountOf,
  chunkHash,
  formatManifest,
  manifestOf,
} from "../../core/manifest.ts";

/** How byte-level BPE writes each byte as one printable character (GPT-2's table). */
export const BYTE_LETTERS: readonly string[] = (() => {
  const printable = (byte: number): boolean =>
    (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(printable(byte) ? byte : next++));
})();

const WORDS = ["the", "Ġthe", "hello", "Ġworld", "Ġshard", "ing", "and", "Ġis", "Ġa"];

export const BOS = 256;
export const EOS = 257;
export const END_OF_TURN = 258;

/** 256 bytes, three special tokens, then what the merges make. */
export function tinyTokenizer(): { readonly json: Record<string, unknown>; readonly size: number } {
  const vocab: Record<string, number> = Object.fromEntries(BYTE_LETTERS.map((letter, byte) => [letter, byte]));
  const merges: [string, string][] = [];
  let next = 259;
  for (const word of WORDS) {
    let built = word.charAt(0);
    for (const letter of word.slice(1)) {
      if (vocab[built + letter] === undefined) {
        merges.push([built, letter]);
        vocab[built + letter] = next++;
      }
      built += letter;
    }
  }
  const special = (id: number, content: string) => ({
    id,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  });
  const json = {
    version: "1.0",
    added_tokens: [special(BOS, "<s>"), special(EOS, "</s>"), special(END_OF_TURN, "<|end|>")],
    normalizer: null,
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: {
      type: "TemplateProcessing",
      single: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
      pair: [],
      special_tokens: { "<s>": { id: "<s>", ids: [BOS], tokens: ["<s>"] } },
    },
    decoder: { type: "ByteLevel" },
    model: { type: "BPE", unk_token: null, vocab, merges },
  };
  return { json, size: next };
}

export const CHAT_TEMPLATE =
  "{{ bos_token }}{% for message in messages %}{% if message['role'] not in ['system', 'user', 'assistant'] %}" +
  "{{ raise_exception('unknown role ' + message['role']) }}{% endif %}" +
  "[{{ message['role'] }}]{{ message['content'] }}<|end|>{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}";

export type TinyModel = {
  readonly root: string;
  readonly files: ReadonlyMap<string, Uint8Array>;
  readonly vocabularySize: number;
};

/** The files by path, the manifest among them. A test gives only what it is about; undefined leaves a file out. */
export function tinyModel(changes: Readonly<Record<string, string | undefined>> = {}): TinyModel {
  const { json, size } = tinyTokenizer();
  const config = {
    architectures: ["LlamaForCausalLM"],
    model_type: "llama",
    hidden_size: 8,
    intermediate_size: 16,
    num_hidden_layers: 4,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    vocab_size: size,
    max_position_embeddings: 512,
    bos_token_id: BOS,
    eos_token_id: EOS,
  };
  const texts: Readonly<Record<string, string | undefined>> = {
    "config.json": JSON.stringify(config),
    "generation_config.json": JSON.stringify({ eos_token_id: [EOS, END_OF_TURN] }),
    "tokenizer.json": JSON.stringify(json),
    "tokenizer_config.json": JSON.stringify({
      bos_token: "<s>",
      eos_token: { content: "</s>" },
      chat_template: CHAT_TEMPLATE,
    }),
    ...changes,
  };
  const encoder = new TextEncoder();
  const files = new Map(
    Object.entries(texts).flatMap(([path, text]) =>
      text === undefined ? [] : [[path, encoder.encode(text)] as const],
    ),
  );
  const manifest = manifestOf(
    [...files].map(([path, bytes]) => listed(path, bytes)),
    texts["config.json"] ?? "",
  );
  files.set(MANIFEST_FILE, encoder.encode(formatManifest(manifest)));
  return { root: manifest.root, files, vocabularySize: size };
}

function listed(path: string, bytes: Uint8Array): ManifestFile {
  const file = { path, sizeBytes: bytes.length, chunks: new Uint8Array(0) };
  const leaves = Array.from({ length: chunkCountOf(bytes.length) }, (_, index) => {
    const { start, end } = chunkRange(file, index);
    return chunkHash(bytes.subarray(start, end));
  });
  return { ...file, chunks: new Uint8Array(Buffer.concat(leaves)) };
}
