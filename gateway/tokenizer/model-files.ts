/**
 * What the gateway needs of a model's files. They come from ranks, which belong to providers, so every byte is checked
 * against the manifest and the manifest against the model's root: a rank cannot slip in another tokenizer.
 */
import {
  MANIFEST_BYTES_MAX,
  MANIFEST_FILE,
  type Manifest,
  chunkCountOf,
  chunkRange,
  fileOf,
  isChunk,
  parseManifest,
} from "../../core/manifest.ts";
import { type ModelConfig, parseModelConfig } from "../../core/model-config.ts";
import { type Refusal, type Result, ok, refuse } from "../../core/result.ts";
import { type ChatTemplate, parseChatTemplate } from "./chat-template.ts";
import { type GenerationDefaults, parseGenerationConfig } from "./generation-config.ts";
import { TOKENIZER_FILE, type Tokenizer, parseTokenizer } from "./tokenizer.ts";

export type ModelFiles = {
  readonly config: ModelConfig;
  readonly defaults: GenerationDefaults;
  readonly tokenizer: Tokenizer | undefined; // undefined: the model has none, token ids only
  readonly chatTemplate: Result<ChatTemplate, "NoChatTemplate" | "MalformedTemplate">;
};

export type ReadFile = (path: string) => Promise<Result<Uint8Array>>;

/** The largest tokenizer.json in use has about 35 MB. */
const FILE_BYTES_MAX = 64 << 20;

/** Refusals that every rank's copy would earn alike: this model cannot be served. Any other is worth asking another rank. */
export const MODEL_AT_FAULT: ReadonlySet<string> = new Set([
  "MalformedConfig",
  "UnknownModelType",
  "UnsupportedOption",
  "MalformedTokenizer",
  "TokenizerMismatch",
  "MalformedGenerationConfig",
  "FileTooLarge",
]);

/**
 * Reads, checks and parses. Refusals name the file. `read`'s own pass through; `WrongBytes` and the manifest's are the
 * rank's fault; those of {@link MODEL_AT_FAULT} say that this model cannot be served as it is.
 */
export async function readModelFiles(read: ReadFile, root: string): Promise<Result<ModelFiles>> {
  const manifestBytes = await read(MANIFEST_FILE);
  if (!manifestBytes.ok) return manifestBytes;
  if (manifestBytes.value.length > MANIFEST_BYTES_MAX)
    return refuse("MalformedManifest", `${MANIFEST_FILE}: longer than ${MANIFEST_BYTES_MAX} bytes`);
  const manifest = parseManifest(textOf(manifestBytes.value), root);
  if (!manifest.ok) return manifest;
  const config = parseModelConfig(manifest.value.configText);
  if (!config.ok) return config;

  const texts = new Map<string, string>();
  for (const path of [TOKENIZER_FILE, "tokenizer_config.json", "generation_config.json", "chat_template.jinja"]) {
    const text = await readText(read, manifest.value, path);
    if (text === undefined) continue;
    if (!text.ok) return text;
    texts.set(path, text.value);
  }
  const defaults = parseGenerationConfig(texts.get("generation_config.json"), config.value);
  if (!defaults.ok) return defaults;
  const tokenizerText = texts.get(TOKENIZER_FILE);
  const tokenizerConfig = texts.get("tokenizer_config.json") ?? "";
  const tokenizer =
    tokenizerText === undefined
      ? ok(undefined)
      : parseTokenizer(tokenizerText, tokenizerConfig, config.value.vocabularySize);
  if (!tokenizer.ok) return tokenizer;
  return ok({
    config: config.value,
    defaults: defaults.value,
    tokenizer: tokenizer.value,
    chatTemplate: parseChatTemplate(texts.get("chat_template.jinja"), tokenizerConfig),
  });
}

/** The text of a file of the manifest, checked chunk by chunk; undefined where the model has no such file. */
async function readText(read: ReadFile, manifest: Manifest, path: string): Promise<Result<string> | undefined> {
  const file = fileOf(manifest, path);
  if (file === undefined) return undefined;
  if (file.sizeBytes > FILE_BYTES_MAX)
    return refuse("FileTooLarge", `${path} has ${file.sizeBytes} bytes; at most ${FILE_BYTES_MAX} are read`);
  const bytes = await read(path);
  if (!bytes.ok) return bytes;
  const wrong = (detail: string): Refusal =>
    refuse("WrongBytes", `${path} ${detail}; the rank that gave it holds something else than the model`);
  if (bytes.value.length !== file.sizeBytes)
    return wrong(`has ${bytes.value.length} bytes, the manifest says ${file.sizeBytes}`);
  for (let index = 0; index < chunkCountOf(file.sizeBytes); index += 1) {
    const { start, end } = chunkRange(file, index);
    if (!isChunk(file, index, bytes.value.subarray(start, end)))
      return wrong(`differs from the manifest within bytes ${start} to ${end}`);
  }
  return ok(textOf(bytes.value));
}

const textOf = (bytes: Uint8Array): string => new TextDecoder("utf-8").decode(bytes);
