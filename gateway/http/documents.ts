/** The documents that OpenAI's clients expect, for both endpoints: whole answers and the chunks of a stream. */
import type { SampledToken } from "../session/types.ts";
import type { FinishReason } from "../generate/answer-text.ts";

/** A chosen token, as shown in logprobs. */
export type ShownToken = { readonly text: string; readonly token: SampledToken };

export type Head = {
  readonly id: string;
  readonly created: number;
  readonly model: string;
  readonly fingerprint: string;
};

export type Usage = {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
};

export type Choice = {
  readonly text: string;
  readonly textOffset: number; // UTF-16 units of the answer before this text
  readonly logprobs: readonly ShownToken[] | undefined;
  readonly tokenIds: readonly number[] | undefined;
  readonly promptTokenIds: readonly number[] | undefined;
  readonly finish: FinishReason | undefined;
};

/** How one endpoint writes its answers. */
export type Shape = {
  readonly idPrefix: string;
  readonly opening: boolean; // a stream begins with a chunk that tells the role
  whole(head: Head, choice: Choice, usage: Usage): Record<string, unknown>;
  chunk(head: Head, choice: Choice | "opening" | "none"): Record<string, unknown>;
};

export const usageOf = (promptCount: number, generatedCount: number): Usage => ({
  prompt_tokens: promptCount,
  completion_tokens: generatedCount,
  total_tokens: promptCount + generatedCount,
});

const headOf = (head: Head, object: string) => ({
  id: head.id,
  object,
  created: head.created,
  model: head.model,
  system_fingerprint: head.fingerprint,
});

/** What an answer of log-probability -∞ is shown as; JSON has no infinity, and OpenAI writes the same number. */
const LOG_PROBABILITY_MIN = -9999;
const logProbabilityOf = ({ token }: ShownToken): number => Math.max(LOG_PROBABILITY_MIN, token.logProbability);

const extras = ({ tokenIds, promptTokenIds }: Choice) => ({
  ...(promptTokenIds === undefined ? {} : { prompt_token_ids: promptTokenIds }),
  ...(tokenIds === undefined ? {} : { token_ids: tokenIds }),
});

function chatLogprobs(tokens: readonly ShownToken[] | undefined): object | null {
  if (tokens === undefined) return null;
  const content = tokens.map((one) => ({
    token: one.text,
    logprob: logProbabilityOf(one),
    bytes: one.text.includes("\uFFFD") ? null : [...new TextEncoder().encode(one.text)], // null: part of a character
    top_logprobs: [],
  }));
  return { content, refusal: null };
}

export const CHAT: Shape = {
  idPrefix: "chatcmpl-",
  opening: true,
  whole: (head, choice, usage) => ({
    ...headOf(head, "chat.completion"),
    choices: [
      {
        index: 0,
        message: { role: "assistant", content: choice.text, refusal: null },
        logprobs: chatLogprobs(choice.logprobs),
        finish_reason: choice.finish ?? null,
        ...extras(choice),
      },
    ],
    usage,
  }),
  chunk: (head, choice) => ({
    ...headOf(head, "chat.completion.chunk"),
    choices: choice === "none" ? [] : [chatChunk(choice)],
  }),
};

function chatChunk(choice: Choice | "opening"): object {
  if (choice === "opening")
    return { index: 0, delta: { role: "assistant", content: "" }, logprobs: null, finish_reason: null };
  const delta = choice.finish === undefined ? { content: choice.text } : {};
  return {
    index: 0,
    delta,
    logprobs: chatLogprobs(choice.logprobs),
    finish_reason: choice.finish ?? null,
    ...extras(choice),
  };
}

function completionLogprobs(tokens: readonly ShownToken[] | undefined, textOffset: number): object | null {
  if (tokens === undefined) return null;
  let at = textOffset;
  const offsets = tokens.map((one) => {
    const here = at;
    at += one.text.length;
    return here;
  });
  return {
    tokens: tokens.map((one) => one.text),
    token_logprobs: tokens.map(logProbabilityOf),
    top_logprobs: null,
    text_offset: offsets,
  };
}

const completionChoice = (choice: Choice) => ({
  text: choice.text,
  index: 0,
  logprobs: completionLogprobs(choice.logprobs, choice.textOffset),
  finish_reason: choice.finish ?? null,
  ...extras(choice),
});

export const COMPLETION: Shape = {
  idPrefix: "cmpl-",
  opening: false,
  whole: (head, choice, usage) => ({ ...headOf(head, "text_completion"), choices: [completionChoice(choice)], usage }),
  chunk: (head, choice) => ({
    ...headOf(head, "text_completion"),
    choices: typeof choice === "string" ? [] : [completionChoice(choice)],
  }),
};
