/** From what a client wants to token ids, within the room that the model's context has. */
import { type Result, ok, refuse } from "../../core/result.ts";
import type { ModelFacts } from "../route/picture.ts";
import type { ModelFiles } from "../tokenizer/model-files.ts";
import type { Prompt, Wanted } from "./wanted.ts";

export type Prepared = {
  readonly tokenIds: readonly number[]; // at least one
  readonly maxTokens: number; // at least one; with the prompt within the context
};

/**
 * Refused with `ContextLengthExceeded` (how long, how much room), `EmptyPrompt`, `MalformedField` (an id that the model
 * does not have), or because the model lacks the tokenizer or template that the prompt needs.
 */
export function prepare(wanted: Wanted, model: ModelFacts, files: ModelFiles, now: Date): Result<Prepared> {
  const tokenIds = encode(wanted.prompt, model, files, now);
  if (!tokenIds.ok) return tokenIds;
  const promptCount = tokenIds.value.length;
  if (promptCount === 0) return refuse("EmptyPrompt", "the prompt is empty; send at least one token");
  if (promptCount >= model.contextLength) return tooLong(model, `${promptCount}`);
  return ok({
    tokenIds: tokenIds.value,
    maxTokens: Math.min(wanted.maxTokens ?? Infinity, model.contextLength - promptCount),
  });
}

/** The field of the request that a refusal of {@link prepare} is about. */
export const promptParam = (prompt: Prompt): string => (prompt.kind === "chat" ? "messages" : "prompt");

function encode(
  prompt: Prompt,
  model: ModelFacts,
  { config, tokenizer, chatTemplate }: ModelFiles,
  now: Date,
): Result<readonly number[]> {
  if (prompt.kind === "tokens") {
    const wrong = prompt.tokenIds.findIndex((id) => id >= config.vocabularySize);
    if (wrong < 0) return ok(prompt.tokenIds);
    return refuse(
      "MalformedField",
      `prompt[${wrong}]: is ${prompt.tokenIds[wrong]}, but ${model.name} has the token ids 0 to ${config.vocabularySize - 1}`,
    );
  }
  if (tokenizer === undefined)
    return refuse(
      "NoTokenizer",
      `${model.name} has no tokenizer.json; send the prompt to /v1/completions as a list of token ids`,
    );
  let text: string;
  if (prompt.kind === "text") text = prompt.text;
  else {
    if (!chatTemplate.ok) return chatTemplate;
    const rendered = chatTemplate.value.render(prompt.messages, prompt.settings, now);
    if (!rendered.ok) return rendered;
    text = rendered.value;
  }
  if (text.length > tokenizer.lengthMax(model.contextLength)) return tooLong(model, `more than ${model.contextLength}`);
  // A template writes its special tokens itself; a bare text gets those that the tokenizer puts around one.
  return tokenizer.encode(text, prompt.kind === "text");
}

const tooLong = (model: ModelFacts, count: string) =>
  refuse(
    "ContextLengthExceeded",
    `the prompt has ${count} tokens, and ${model.name} has room for ${model.contextLength} of prompt and answer ` +
      `together; shorten it to at most ${model.contextLength - 1}`,
  );
