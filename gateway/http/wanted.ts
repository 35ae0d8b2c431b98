/**
 * What a client wants, read from the body of a request. OpenAI's parameters are checked to the letter; those that we do
 * not have are refused where ignoring them would change the answer, and passed over where it would not. Unknown ones are
 * passed over, as OpenAI-compatible servers do.
 */
import { fits, integerOf, listOf, misfit, numberOf, strictly, textOf } from "../../core/fields.ts";
import { type JsonObject, isJsonObject, shown } from "../../core/json.ts";
import { type Result, refuse } from "../../core/result.ts";
import type { Message } from "../tokenizer/chat-template.ts";

export type Prompt =
  | { readonly kind: "chat"; readonly messages: readonly Message[]; readonly settings: JsonObject }
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "tokens"; readonly tokenIds: readonly number[] };

export type Wanted = {
  readonly model: string;
  readonly prompt: Prompt;
  readonly maxTokens: number | undefined; // undefined: as many as the context has room for
  readonly temperature: number | undefined; // undefined: as the model's generation_config.json says
  readonly topP: number | undefined;
  readonly seed: bigint | undefined; // 64 bits, as two's complement; undefined: random
  readonly stops: readonly string[];
  readonly ignoreEos: boolean;
  readonly logprobs: boolean; // of the chosen tokens
  readonly stream: boolean;
  readonly includeUsage: boolean; // in a stream
  readonly receipts: boolean;
  readonly tokenIds: boolean; // wants them beside the text
};

const STOPS_MAX = 4;
const STOP_LENGTH_MAX = 1000;
const MESSAGES_MAX = 4096;
const TOKENS_MAX = 1 << 21;
const COMPLETION_TOKENS_DEFAULT = 16;
const ROLES: readonly string[] = ["system", "developer", "user", "assistant", "tool"];

/** `header`: the request asked for receipts by its header. Refused as `MalformedField` or `UnsupportedParameter`, the field in front. */
export function parseChat(body: unknown, header: boolean): Result<Wanted> {
  return strictly(() => {
    const fields = requestObject(body);
    unsupported(fields, {
      tools: isEmptyList,
      functions: isEmptyList,
      tool_choice: isOneOf("none", "auto"),
      function_call: isOneOf("none", "auto"),
      response_format: isPlainText,
      audio: isNever,
      modalities: isTextOnly,
      prediction: isNever,
      web_search_options: isNever,
      top_logprobs: isOneOf(0),
    });
    const messages = listOf(required(fields, "messages"), "messages", MESSAGES_MAX, readMessage);
    if (messages.length === 0) misfit("messages", "must hold at least one message");
    const settings = optional(fields, "chat_template_kwargs", readObject) ?? {};
    const maxTokens = optional(fields, "max_completion_tokens", positive) ?? optional(fields, "max_tokens", positive);
    return {
      ...shared(fields, header),
      prompt: { kind: "chat", messages, settings },
      maxTokens,
      logprobs: optional(fields, "logprobs", flag) ?? false,
    };
  });
}

/** As {@link parseChat}, for /v1/completions. */
export function parseCompletion(body: unknown, header: boolean): Result<Wanted> {
  return strictly(() => {
    const fields = requestObject(body);
    unsupported(fields, { echo: isOneOf(false), best_of: isOneOf(1), suffix: isOneOf("") });
    const logprobs = optional(fields, "logprobs", (value, path) => integerOf(value, path, 0, 5));
    if (logprobs !== undefined && logprobs > 0)
      fits(refuse("UnsupportedParameter", "only the chosen token's probability is known; ask for 0"), "logprobs");
    return {
      ...shared(fields, header),
      prompt: readPrompt(required(fields, "prompt")),
      maxTokens: optional(fields, "max_tokens", positive) ?? COMPLETION_TOKENS_DEFAULT,
      logprobs: logprobs !== undefined,
    };
  });
}

function shared(fields: JsonObject, header: boolean): Omit<Wanted, "prompt" | "maxTokens" | "logprobs"> {
  unsupported(fields, {
    n: isOneOf(1),
    presence_penalty: isOneOf(0),
    frequency_penalty: isOneOf(0),
    logit_bias: isEmptyObject,
  });
  const stream = optional(fields, "stream", flag) ?? false;
  const streamOptions = optional(fields, "stream_options", readObject);
  if (streamOptions !== undefined && !stream) misfit("stream_options", 'is only for requests with "stream": true');
  const own = optional(fields, "tessellate", readObject) ?? {};
  const model = textOf(required(fields, "model"), "model");
  if (model === "") misfit("model", "must not be empty");
  return {
    model,
    temperature: optional(fields, "temperature", (value, path) => numberOf(value, path, 0, 2)),
    topP: optional(fields, "top_p", readTopP),
    seed: optional(fields, "seed", readSeed),
    stops: optional(fields, "stop", readStops) ?? [],
    ignoreEos: optional(fields, "ignore_eos", flag) ?? false,
    stream,
    includeUsage: optional(streamOptions ?? {}, "include_usage", flag, "stream_options.") ?? false,
    receipts: header || (optional(own, "receipts", flag, "tessellate.") ?? false),
    tokenIds: optional(fields, "return_token_ids", flag) ?? false,
  };
}

function requestObject(body: unknown): JsonObject {
  if (!isJsonObject(body)) misfit("body", `must be a JSON object, not ${shown(body)}`);
  return body;
}

function required(fields: JsonObject, name: string): unknown {
  const value = fields[name];
  if (value === undefined || value === null) misfit(name, "is missing");
  return value;
}

/** OpenAI takes null for "not given" throughout. */
function optional<T>(
  fields: JsonObject,
  name: string,
  read: (value: unknown, path: string) => T,
  prefix = "",
): T | undefined {
  const value = fields[name];
  return value === undefined || value === null ? undefined : read(value, prefix + name);
}

const flag = (value: unknown, path: string): boolean =>
  typeof value === "boolean" ? value : misfit(path, `must be true or false, not ${shown(value)}`);
const positive = (value: unknown, path: string): number => integerOf(value, path, 1, 2 ** 31 - 1);
const readObject = (value: unknown, path: string): JsonObject =>
  isJsonObject(value) ? value : misfit(path, `must be an object, not ${shown(value)}`);

function readTopP(value: unknown, path: string): number {
  if (typeof value !== "number" || !(value > 0 && value <= 1))
    misfit(path, `must be a number above 0 and at most 1, not ${shown(value)}`);
  return value;
}

function readSeed(value: unknown, path: string): bigint {
  if (typeof value !== "number" || !Number.isInteger(value)) misfit(path, `must be an integer, not ${shown(value)}`);
  return BigInt.asUintN(64, BigInt(value));
}

function readStops(value: unknown, path: string): readonly string[] {
  const one = (item: unknown, where: string): string => {
    const stop = textOf(item, where);
    if (stop === "") misfit(where, "must not be empty");
    if (stop.length > STOP_LENGTH_MAX)
      misfit(where, `has ${stop.length} characters, more than the ${STOP_LENGTH_MAX} allowed`);
    if (!stop.isWellFormed()) misfit(where, "holds half a character (a lone surrogate)");
    return stop;
  };
  return Array.isArray(value) ? listOf(value, path, STOPS_MAX, one) : [one(value, path)];
}

function readMessage(value: unknown, path: string): Message {
  const fields = readObject(value, path);
  const role = textOf(fields["role"], `${path}.role`);
  if (!ROLES.includes(role)) misfit(`${path}.role`, `must be one of ${ROLES.join(", ")}, not ${shown(role)}`);
  if (!isEmptyList(fields["tool_calls"] ?? []) || fields["function_call"] != null)
    fits(refuse("UnsupportedParameter", "tools are not served yet"), `${path}.tool_calls`);
  const content = fields["content"] ?? (role === "assistant" ? "" : undefined);
  const name = optional(fields, "name", textOf, `${path}.`);
  return {
    role: role === "developer" ? "system" : role,
    content: typeof content === "string" ? content : readParts(content, `${path}.content`),
    ...(name === undefined ? {} : { name }),
  };
}

/** Content in parts, of which only text is known; parts are lines. */
function readParts(value: unknown, path: string): string {
  if (!Array.isArray(value)) misfit(path, `must be a text or a list of parts, not ${shown(value)}`);
  const parts = listOf(value, path, MESSAGES_MAX, (part, where) => {
    const fields = readObject(part, where);
    if (fields["type"] !== "text")
      fits(refuse("UnsupportedParameter", `is ${shown(fields["type"])}; only text is served`), `${where}.type`);
    return textOf(fields["text"], `${where}.text`);
  });
  return parts.join("\n");
}

/** A text, a list of token ids, or a list with one of either. */
function readPrompt(value: unknown): Prompt {
  if (typeof value === "string") return { kind: "text", text: value };
  if (!Array.isArray(value)) misfit("prompt", `must be a text or a list of token ids, not ${shown(value)}`);
  const [first] = value;
  const nested = typeof first === "string" || Array.isArray(first);
  if (nested && value.length > 1)
    fits(refuse("UnsupportedParameter", `holds ${value.length} prompts; send one request for each`), "prompt");
  if (typeof first === "string") return { kind: "text", text: first };
  const [ids, path] = nested ? [first, "prompt[0]"] : [value, "prompt"];
  return {
    kind: "tokens",
    tokenIds: listOf(ids, path, TOKENS_MAX, (item, where) => integerOf(item, where, 0, 2 ** 32 - 1)),
  };
}

const isEmptyList = (value: unknown): boolean => Array.isArray(value) && value.length === 0;
const isEmptyObject = (value: unknown): boolean => isJsonObject(value) && Object.keys(value).length === 0;
const isPlainText = (value: unknown): boolean => isJsonObject(value) && value["type"] === "text";
const isTextOnly = (value: unknown): boolean => Array.isArray(value) && value.length === 1 && value[0] === "text";
const isNever = (): boolean => false;
const isOneOf =
  (...values: readonly unknown[]) =>
  (value: unknown): boolean =>
    values.includes(value);

/** Parameters of OpenAI's that would change the answer: taken only with a value that changes nothing. */
function unsupported(fields: JsonObject, neutral: Readonly<Record<string, (value: unknown) => boolean>>): void {
  for (const [name, isNeutral] of Object.entries(neutral)) {
    const value = fields[name];
    if (value === undefined || value === null || isNeutral(value)) continue;
    fits(refuse("UnsupportedParameter", `${shown(value)} is not served; leave it out`), name);
  }
}
