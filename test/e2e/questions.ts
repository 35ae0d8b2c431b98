/** Questions to a gateway by OpenAI's own client. */
import OpenAI from "openai";
import { indentedJson } from "../../core/canonical-json.ts";
import { isJsonObject } from "../../core/json.ts";
import type { Message } from "../golden/demo-goldens.ts";

export type Asked = {
  readonly text: string;
  readonly finishReason: string | null;
  readonly completionTokens: number;
  /** The bytes that `tessellate verify` reads. */
  readonly savedAnswer: Uint8Array;
  /** Prompt and answer in one: after a loss the receipts speak of a session whose prompt holds the tokens so far. */
  readonly tokenIds: readonly number[];
};

/**
 * Greedily, in a stream; `onText` gets every piece as it comes. `length`: so many tokens, beyond the end of the turn too;
 * left out, 64 at most. Throws OpenAI's errors.
 */
export async function ask(
  url: string,
  messages: readonly Message[],
  onText: (piece: string) => void = () => {},
  length?: number,
): Promise<Asked> {
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
  const stream = await client.chat.completions.create(
    {
      model: "demo",
      messages: messages.map((message) => ({ ...message })),
      temperature: 0,
      max_tokens: length ?? 64,
      ...(length === undefined ? {} : { ignore_eos: true }),
      stream: true,
      stream_options: { include_usage: true },
    },
    { headers: { "x-tessellate-receipts": "true" } },
  );
  let text = "";
  let finishReason: string | null = null;
  let completionTokens = 0;
  let saved: unknown;
  for await (const chunk of stream) {
    const piece = chunk.choices[0]?.delta.content ?? "";
    text += piece;
    if (piece !== "") onText(piece);
    finishReason = chunk.choices[0]?.finish_reason ?? finishReason;
    completionTokens = chunk.usage?.completion_tokens ?? completionTokens;
    const extended: unknown = chunk;
    if (isJsonObject(extended)) saved = extended["tessellate"] ?? saved;
  }
  const ids = isJsonObject(saved) ? saved["tokenIds"] : undefined;
  const list = (part: string): readonly unknown[] => {
    const found = isJsonObject(ids) ? ids[part] : undefined;
    if (!Array.isArray(found)) throw new Error(`the answer came without receipts: ${JSON.stringify(saved)}`);
    return found;
  };
  const tokenIds = [...list("prompt"), ...list("generated")].map(Number);
  return { text, finishReason, completionTokens, savedAnswer: indentedJson(saved), tokenIds };
}
