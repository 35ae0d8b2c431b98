/** One question to an OpenAI endpoint, its answer token by token, and the receipts in the stream's last chunk. */
import { isJsonObject, parseJson } from "../../core/json.ts";
import { RefusalError } from "../../core/result.ts";

export type Timings = {
  readonly firstTokenMs: number;
  readonly totalMs: number;
  readonly millisecondsPerToken: number;
};
export type Asked = { readonly text: string; readonly savedAnswer: unknown; readonly timings: Timings };

/** Streams `prompt` through `url`; `write` gets each piece of text as it comes. Refusals are the endpoint's own. */
export async function askModel(
  url: string,
  model: string,
  prompt: string,
  write: (piece: string) => void,
): Promise<Asked> {
  const startedAt = performance.now();
  const response = await fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", "x-tessellate-receipts": "true" },
    body: JSON.stringify({
      model,
      stream: true,
      temperature: 0,
      max_tokens: 96,
      messages: [{ role: "user", content: prompt }],
    }),
  });
  if (!response.ok || response.body === null) throw new RefusalError(errorOf(response.status, await response.text()));
  let text = "";
  let savedAnswer: unknown;
  let pieceCount = 0;
  let firstAt = 0;
  for await (const chunk of events(response.body)) {
    if (isJsonObject(chunk["error"]))
      throw new RefusalError({ ok: false, code: "Failed", detail: String(chunk["error"]["message"]) });
    savedAnswer = chunk["tessellate"] ?? savedAnswer;
    const choices: unknown = chunk["choices"];
    const choice: unknown = Array.isArray(choices) ? choices[0] : undefined;
    const piece = isJsonObject(choice) && isJsonObject(choice["delta"]) ? choice["delta"]["content"] : undefined;
    if (typeof piece !== "string" || piece === "") continue;
    if (pieceCount === 0) firstAt = performance.now();
    pieceCount += 1;
    text += piece;
    write(piece);
  }
  const endedAt = performance.now();
  const firstTokenMs = firstAt - startedAt;
  const perToken = pieceCount > 1 ? (endedAt - firstAt) / (pieceCount - 1) : 0;
  return {
    text,
    savedAnswer,
    timings: {
      firstTokenMs: round(firstTokenMs),
      totalMs: round(endedAt - startedAt),
      millisecondsPerToken: round(perToken),
    },
  };
}

/** Server-sent events whose data is a JSON object, up to `[DONE]`. */
async function* events(body: ReadableStream<Uint8Array>): AsyncGenerator<{ readonly [key: string]: unknown }> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const bytes of body) {
    rest += decoder.decode(bytes, { stream: true });
    const lines = rest.split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      const data = line.startsWith("data:") ? line.slice(5).trim() : "";
      const value = data === "" || data === "[DONE]" ? undefined : parseJson(data);
      if (isJsonObject(value)) yield value;
    }
  }
}

function errorOf(status: number, text: string) {
  const body = parseJson(text);
  const error = isJsonObject(body) ? body["error"] : undefined;
  const detail = isJsonObject(error) ? String(error["message"]) : text.slice(0, 300);
  return { ok: false, code: `Http${status}`, detail } as const;
}

const round = (milliseconds: number) => Math.round(milliseconds * 10) / 10;
