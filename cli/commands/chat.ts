/** `tessellate chat`: talk to a model in the terminal, one question or a conversation, word by word as it comes. */
import { writeFileSync } from "node:fs";
import { text as readAll } from "node:stream/consumers";
import { type Interface, createInterface } from "node:readline/promises";
import type { Command } from "commander";
import { indentedJson } from "../../core/canonical-json.ts";
import { isJsonObject, parseJson } from "../../core/json.ts";
import { RefusalError, refuse } from "../../core/result.ts";

type Options = {
  readonly url: string;
  readonly model?: string;
  readonly system?: string;
  readonly temperature?: string;
  readonly topP?: string;
  readonly seed?: string;
  readonly maxTokens?: string;
  readonly apiKey?: string;
  readonly save?: string;
};

type Message = { readonly role: "system" | "user" | "assistant"; readonly content: string };
type Answer = { readonly text: string; readonly finish: string | undefined; readonly saved: unknown };

/** An OpenAI endpoint and how to ask it. */
type Endpoint = {
  readonly base: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly settings: Readonly<Record<string, unknown>>;
};

export function register(program: Command): void {
  program
    .command("chat")
    .description("ask a served model; without a prompt, talk to it (or ask what comes on stdin)")
    .argument("[prompt...]", "one question; words need no quotes")
    .option("--url <url>", "of the gateway", process.env["TESSELLATE_URL"] ?? "http://127.0.0.1:8080")
    .option("--model <name>", "left out, the first one that answers")
    .option("--system <text>", "an instruction that goes before the conversation")
    .option("--temperature <number>", "0: always the likeliest word; left out, as the model's makers say")
    .option("--top-p <number>", "sample from the likeliest words that make up this share")
    .option("--seed <integer>", "the same seed gives the same answer")
    .option("--max-tokens <count>", "longest answer")
    .option("--api-key <key>", "where the gateway asks for one", process.env["TESSELLATE_API_KEY"])
    .option("--save <file>", 'keep the (last) answer with its receipts, for "tessellate verify"')
    .action(async (words: readonly string[], options: Options) => {
      const endpoint = endpointOf(options);
      const model = options.model ?? (await firstModel(endpoint));
      const system: readonly Message[] =
        options.system === undefined ? [] : [{ role: "system", content: options.system }];
      if (words.length === 0 && process.stdin.isTTY) return converse(endpoint, model, system, options.save);
      const prompt = words.length > 0 ? words.join(" ") : await readAll(process.stdin);
      if (prompt.trim() === "")
        throw new RefusalError(
          refuse("NoPrompt", "nothing came on stdin; give a prompt, as in: tessellate chat What is a shard?"),
        );
      const stop = new AbortController();
      process.once("SIGINT", () => stop.abort());
      const answer = await ask(endpoint, model, [...system, { role: "user", content: prompt }], stop.signal);
      process.stdout.write("\n");
      keep(answer, options.save);
      if (stop.signal.aborted) process.exitCode = 130;
    });
}

/** Question after question until the end of input or /exit. Ctrl-C stops an answer; at the prompt it ends the talk. */
async function converse(
  endpoint: Endpoint,
  model: string,
  system: readonly Message[],
  save: string | undefined,
): Promise<void> {
  const terminal = createInterface({ input: process.stdin, output: process.stdout });
  let answering: AbortController | undefined;
  terminal.on("SIGINT", () => (answering === undefined ? terminal.close() : answering.abort()));
  note(`${model} at ${endpoint.base}; /new begins anew, /exit or Ctrl-D ends`);
  let messages = [...system];
  for (;;) {
    const line = await question(terminal);
    if (line === undefined || line === "/exit") break;
    if (line === "/new") {
      messages = [...system];
      note("a new conversation");
    } else if (line !== "") {
      answering = new AbortController();
      const asked: readonly Message[] = [...messages, { role: "user", content: line }];
      try {
        const answer = await ask(endpoint, model, asked, answering.signal);
        process.stdout.write("\n");
        keep(answer, save);
        messages = [...asked, { role: "assistant", content: answer.text }];
      } catch (error) {
        if (!(error instanceof RefusalError)) throw error;
        note(`${error.message} (${error.code})`); // the question is dropped; the conversation goes on from before it
      }
      answering = undefined;
    }
  }
  terminal.close();
}

/** The next line, or undefined once there are no more. */
async function question(terminal: Interface): Promise<string | undefined> {
  const over = new AbortController();
  const end = (): void => over.abort();
  terminal.once("close", end);
  try {
    return (await terminal.question("> ", { signal: over.signal })).trim();
  } catch {
    return undefined;
  } finally {
    terminal.off("close", end);
  }
}

/** Streams one answer to stdout. An answer that the signal stopped is what came of it. */
async function ask(
  endpoint: Endpoint,
  model: string,
  messages: readonly Message[],
  signal: AbortSignal,
): Promise<Answer> {
  let text = "";
  let finish: string | undefined;
  let saved: unknown;
  try {
    const response = await request(endpoint, "/v1/chat/completions", {
      method: "POST",
      signal,
      body: JSON.stringify({ model, messages, stream: true, ...endpoint.settings }),
    });
    for await (const event of events(response)) {
      const { error } = event;
      if (isJsonObject(error))
        throw new RefusalError(refuse(String(error["code"]), `the answer broke off: ${String(error["message"])}`));
      saved = event["tessellate"] ?? saved;
      const choice: unknown = Array.isArray(event["choices"]) ? event["choices"][0] : undefined;
      if (!isJsonObject(choice)) continue;
      if (typeof choice["finish_reason"] === "string") finish = choice["finish_reason"];
      const piece = isJsonObject(choice["delta"]) ? choice["delta"]["content"] : undefined;
      if (typeof piece !== "string") continue;
      text += piece;
      process.stdout.write(piece);
    }
  } catch (error) {
    if (!signal.aborted) throw error;
    finish = "stopped";
  }
  if (finish === "length") note("\n(cut off: the answer is as long as may be)");
  return { text, finish, saved };
}

function keep(answer: Answer, file: string | undefined): void {
  if (file === undefined) return;
  if (isJsonObject(answer.saved) && answer.saved["kind"] !== undefined) {
    writeFileSync(file, indentedJson(answer.saved));
    note(`saved; check it with: tessellate verify ${file}`);
  } else {
    const error =
      isJsonObject(answer.saved) && isJsonObject(answer.saved["error"])
        ? String(answer.saved["error"]["message"])
        : "the answer came without receipts";
    note(`not saved: ${error}`);
  }
}

/** The first model that answers now. */
async function firstModel(endpoint: Endpoint): Promise<string> {
  const list = parseJson(await (await request(endpoint, "/v1/models", {})).text());
  const models = isJsonObject(list) && Array.isArray(list["data"]) ? list["data"].filter(isJsonObject) : [];
  const ready = models.find((model) => !isJsonObject(model["tessellate"]) || model["tessellate"]["ready"] === true);
  if (ready !== undefined) return String(ready["id"]);
  const why = models.map(
    (model) =>
      `${String(model["id"])} (${isJsonObject(model["tessellate"]) ? String(model["tessellate"]["reason"]) : "unknown"})`,
  );
  throw new RefusalError(
    refuse(
      "NoModel",
      `${endpoint.base} serves no model that answers now${why.length === 0 ? "" : `: ${why.join(", ")}`}; apply a ShardedModel, or wait for it to be Ready`,
    ),
  );
}

async function request(endpoint: Endpoint, path: string, init: RequestInit): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(endpoint.base + path, {
      ...init,
      headers: { ...endpoint.headers, "content-type": "application/json" },
    });
  } catch (error) {
    if (init.signal?.aborted === true) throw error;
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause.message : String(error);
    throw new RefusalError(
      refuse("Unreachable", `${endpoint.base} does not answer: ${cause}; is the gateway up, and is --url right?`),
    );
  }
  if (response.ok) return response;
  const body = parseJson(await response.text());
  const error = isJsonObject(body) && isJsonObject(body["error"]) ? body["error"] : {};
  throw new RefusalError(
    refuse(
      String(error["code"] ?? `Http${response.status}`),
      String(error["message"] ?? `${endpoint.base}${path} answered ${response.status}`),
    ),
  );
}

/** The JSON objects of a stream of server-sent events, up to its end. */
async function* events(response: Response): AsyncGenerator<{ readonly [key: string]: unknown }> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const bytes of response.body ?? []) {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      const value = line.startsWith("data:") ? parseJson(line.slice("data:".length)) : undefined;
      if (isJsonObject(value)) yield value;
    }
  }
}

function endpointOf(options: Options): Endpoint {
  const url = URL.parse(options.url);
  if (url === null || !/^https?:$/.test(url.protocol)) {
    throw new RefusalError(
      refuse("BadOption", `--url ${JSON.stringify(options.url)} must be an http:// or https:// address`),
    );
  }
  const settings = {
    temperature: numberOf(options.temperature, "--temperature"),
    top_p: numberOf(options.topP, "--top-p"),
    seed: numberOf(options.seed, "--seed"),
    max_tokens: numberOf(options.maxTokens, "--max-tokens"),
  };
  const headers = {
    ...(options.apiKey === undefined ? {} : { authorization: `Bearer ${options.apiKey}` }),
    ...(options.save === undefined ? {} : { "x-tessellate-receipts": "true" }),
  };
  return { base: options.url.replace(/\/+$/, "").replace(/\/v1$/, ""), headers, settings };
}

/** The gateway says which numbers it takes; here it only must be one. */
function numberOf(text: string | undefined, option: string): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value))
    throw new RefusalError(refuse("BadOption", `${option} ${JSON.stringify(text)} is no number`));
  return value;
}

/** What is about the talk and not part of it: on stderr, so that stdout holds the answer alone. */
function note(text: string): void {
  const plain = !process.stderr.isTTY || process.env["NO_COLOR"] !== undefined;
  process.stderr.write(plain ? `${text}\n` : `\u001b[2m${text}\u001b[22m\n`);
}
