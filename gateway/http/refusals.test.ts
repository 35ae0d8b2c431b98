/** Every way to ask wrongly, and what the client is told: a status, OpenAI's shape, the field, and what to do. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import OpenAI from "openai";
import { valueOrThrow } from "../../core/result.ts";
import { type TestGateway, aState, startTestGateway } from "../../test/gateway/start.ts";
import { EOS, tinyModel, tinyTokenizer } from "../../test/gateway/tiny-model.ts";
import { ApiKeys } from "./api-keys.ts";

type ErrorBody = {
  readonly error: {
    readonly message: string;
    readonly type: string;
    readonly param: string | null;
    readonly code: string;
  };
};

const chat = "/v1/chat/completions";
const completions = "/v1/completions";
const messages = [{ role: "user", content: "hi" }];
const good = { model: "tiny", messages };

/** [what is wrong, path, body, status, code, param, the message says]. */
const CASES: readonly (readonly [string, string, unknown, number, string, string | null, RegExp])[] = [
  ["no model", chat, { messages }, 400, "invalid_value", "model", /missing/],
  ["a model that is a number", chat, { ...good, model: 3 }, 400, "invalid_value", "model", /must be a text, not 3/],
  [
    "an unknown model",
    chat,
    { ...good, model: "gpt-9" },
    404,
    "model_not_found",
    "model",
    /"gpt-9" does not exist; this gateway serves tiny/,
  ],
  ["no messages", chat, { model: "tiny" }, 400, "invalid_value", "messages", /missing/],
  ["an empty list of messages", chat, { ...good, messages: [] }, 400, "invalid_value", "messages", /at least one/],
  ["messages that are a text", chat, { ...good, messages: "hi" }, 400, "invalid_value", "messages", /must be a list/],
  [
    "an unknown role",
    chat,
    { ...good, messages: [{ role: "king", content: "" }] },
    400,
    "invalid_value",
    "messages[0].role",
    /system, developer, user/,
  ],
  [
    "a role that the template refuses",
    chat,
    { ...good, messages: [{ role: "tool", content: "" }] },
    400,
    "template_refused",
    "messages",
    /unknown role tool/,
  ],
  [
    "a picture",
    chat,
    { ...good, messages: [{ role: "user", content: [{ type: "image_url", image_url: {} }] }] },
    400,
    "unsupported_parameter",
    "messages[0].content[0].type",
    /only text/,
  ],
  [
    "a message without content",
    chat,
    { ...good, messages: [{ role: "user" }] },
    400,
    "invalid_value",
    "messages[0].content",
    /must be a text or a list/,
  ],
  [
    "a temperature that is a text",
    chat,
    { ...good, temperature: "hot" },
    400,
    "invalid_value",
    "temperature",
    /number within 0..2, not "hot"/,
  ],
  ["a temperature above 2", chat, { ...good, temperature: 2.5 }, 400, "invalid_value", "temperature", /not 2.5/],
  ["a top_p of 0", chat, { ...good, top_p: 0 }, 400, "invalid_value", "top_p", /above 0/],
  ["a seed with a fraction", chat, { ...good, seed: 1.5 }, 400, "invalid_value", "seed", /integer/],
  ["max_tokens of 0", chat, { ...good, max_tokens: 0 }, 400, "invalid_value", "max_tokens", /within 1/],
  ["stream that is a text", chat, { ...good, stream: "yes" }, 400, "invalid_value", "stream", /true or false/],
  [
    "stream_options without stream",
    chat,
    { ...good, stream_options: {} },
    400,
    "invalid_value",
    "stream_options",
    /only for requests with "stream": true/,
  ],
  [
    "five stop strings",
    chat,
    { ...good, stop: ["a", "b", "c", "d", "e"] },
    400,
    "invalid_value",
    "stop",
    /5 items, more than the 4/,
  ],
  ["an empty stop string", chat, { ...good, stop: ["a", ""] }, 400, "invalid_value", "stop[1]", /not be empty/],
  ["two answers", chat, { ...good, n: 2 }, 400, "unsupported_parameter", "n", /2 is not served; leave it out/],
  ["tools", chat, { ...good, tools: [{ type: "function" }] }, 400, "unsupported_parameter", "tools", /not served/],
  [
    "a JSON schema",
    chat,
    { ...good, response_format: { type: "json_object" } },
    400,
    "unsupported_parameter",
    "response_format",
    /not served/,
  ],
  ["a penalty", chat, { ...good, presence_penalty: 1 }, 400, "unsupported_parameter", "presence_penalty", /not served/],
  [
    "other tokens' probabilities",
    chat,
    { ...good, logprobs: true, top_logprobs: 3 },
    400,
    "unsupported_parameter",
    "top_logprobs",
    /not served/,
  ],
  ["a body that is a list", chat, [1], 400, "invalid_value", "body", /must be a JSON object/],
  ["no prompt", completions, { model: "tiny" }, 400, "invalid_value", "prompt", /missing/],
  [
    "an empty list of ids",
    completions,
    { model: "tiny", prompt: [] },
    400,
    "empty_prompt",
    "prompt",
    /at least one token/,
  ],
  ["a prompt of floats", completions, { model: "tiny", prompt: [1.5] }, 400, "invalid_value", "prompt[0]", /integer/],
  [
    "several prompts",
    completions,
    { model: "tiny", prompt: ["a", "b"] },
    400,
    "unsupported_parameter",
    "prompt",
    /2 prompts; send one request for each/,
  ],
  [
    "an id past the vocabulary",
    completions,
    { model: "tiny", prompt: [1, 70_000] },
    400,
    "invalid_value",
    "prompt[1]",
    new RegExp(`token ids 0 to ${tinyTokenizer().size - 1}`),
  ],
  ["echo", completions, { model: "tiny", prompt: "x", echo: true }, 400, "unsupported_parameter", "echo", /not served/],
  [
    "best_of",
    completions,
    { model: "tiny", prompt: "x", best_of: 3 },
    400,
    "unsupported_parameter",
    "best_of",
    /not served/,
  ],
  [
    "an oversized prompt",
    completions,
    { model: "tiny", prompt: Array(300).fill(65) },
    400,
    "context_length_exceeded",
    "prompt",
    /300 tokens, and tiny has room for 256.*at most 255/,
  ],
  [
    "a prompt that just does not fit",
    completions,
    { model: "tiny", prompt: Array(256).fill(65) },
    400,
    "context_length_exceeded",
    "prompt",
    /256 tokens/,
  ],
  [
    "an oversized chat",
    chat,
    { ...good, messages: [{ role: "user", content: "x ".repeat(200) }] },
    400,
    "context_length_exceeded",
    "messages",
    /room for 256/,
  ],
  [
    "a text too long to be encoded",
    completions,
    { model: "tiny", prompt: "x".repeat(1_000_000) },
    400,
    "context_length_exceeded",
    "prompt",
    /more than 256 tokens/,
  ],
];

describe("refusals of the API", () => {
  let gateway: TestGateway;

  before(async () => {
    gateway = await startTestGateway();
  });

  after(async () => gateway.close());

  const send = async (
    path: string,
    body: string,
    headers: Record<string, string> = {},
    method = "POST",
    to = gateway,
  ) => {
    const response = await fetch(to.url + path, {
      method,
      headers: { "content-type": "application/json", ...headers },
      ...(method === "GET" ? {} : { body }),
    });
    return { status: response.status, headers: response.headers, error: ((await response.json()) as ErrorBody).error };
  };

  for (const [name, path, body, status, code, param, says] of CASES) {
    it(`${name} → ${status} ${code}`, async () => {
      const got = await send(path, JSON.stringify(body));
      expect({ status: got.status, code: got.error.code, param: got.error.param }).to.deep.equal({
        status,
        code,
        param,
      });
      expect(got.error.message).to.match(says);
      expect(got.error.type).to.equal("invalid_request_error");
    });
  }

  it("passes over what it does not know and what changes nothing", async () => {
    gateway.wire.say([], EOS);
    const neutral = {
      user: "u",
      metadata: {},
      top_k: 5,
      n: 1,
      tools: [],
      tool_choice: "none",
      response_format: { type: "text" },
      presence_penalty: 0,
      temperature: null,
      stop: null,
      logit_bias: {},
    };
    const response = await fetch(`${gateway.url}${chat}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ ...good, ...neutral }),
    });
    expect(response.status).to.equal(200);
  });

  it("a body that is no JSON → 400 that says where", async () => {
    const got = await send(chat, '{"model": "tiny",}');
    expect(got.status).to.equal(400);
    expect(got.error).to.include({ code: "invalid_json", type: "invalid_request_error" });
    expect(got.error.message).to.match(/no JSON: .*position 17/);
    expect((await send(chat, "")).error.code).to.equal("invalid_json");
  });

  it("another content type → 415, also for what a web page could send unasked", async () => {
    const got = await send(chat, JSON.stringify(good), { "content-type": "text/plain" });
    expect(got.status).to.equal(415);
    expect(got.error.message).to.contain("content-type: application/json");
  });

  it("a body over 4 MiB → 413", async () => {
    const got = await send(chat, JSON.stringify({ ...good, user: "x".repeat(5 << 20) }));
    expect(got.status).to.equal(413);
    expect(got.error.code).to.equal("body_too_large");
  });

  it("an unknown path → 404, another method → 405", async () => {
    expect(await send("/v1/embeddings", "{}")).to.deep.include({ status: 404 });
    const got = await send(chat, "", {}, "GET");
    expect(got.status).to.equal(405);
    expect(got.headers.get("allow")).to.equal("POST");
    expect((await send("/v1/models/nope", "", {}, "GET")).error).to.include({
      code: "model_not_found",
      param: "model",
    });
  });

  it("OpenAI's client raises the errors it has for these", async () => {
    const client = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: "none", maxRetries: 0 });
    const raised = async (body: object) =>
      client.chat.completions.create(body as never).catch((error: unknown) => error);
    expect(await raised({ ...good, model: "x" })).to.be.instanceOf(OpenAI.NotFoundError);
    expect(await raised({ ...good, temperature: 9 })).to.be.instanceOf(OpenAI.BadRequestError);
  });

  it("a model without a complete chain → 503 that says so, at once", async () => {
    const other = await startTestGateway({
      state: aState([[tinyModel(), { chains: [{ ready: false }, { ready: false }] }]]),
    });
    const got = await send(chat, JSON.stringify(good), {}, "POST", other);
    expect(got.status).to.equal(503);
    expect(got.error).to.include({ code: "no_ready_chain", type: "server_error" });
    expect(got.error.message).to.match(/of 2 planned none/);
    expect(got.headers.get("retry-after")).to.equal("5");
    await other.close();
  });

  it("a gateway that has not heard from the operator → 503, and no models", async () => {
    const other = await startTestGateway({ state: null });
    expect(other.gateway.unready).to.contain("not heard");
    expect((await send(chat, JSON.stringify(good), {}, "POST", other)).status).to.equal(503);
    expect(await (await fetch(`${other.url}/v1/models`)).json()).to.deep.equal({ object: "list", data: [] });
    await other.close();
  });

  it("a model with another model's tokenizer → refused with the file and the numbers; the others serve on", async () => {
    const { json, size } = tinyTokenizer();
    const bad = tinyModel({
      "tokenizer.json": JSON.stringify({ ...json, added_tokens: [{ id: 31_999, content: "x", special: true }] }),
    });
    const fine = tinyModel();
    const other = await startTestGateway({ models: [bad, fine], state: aState([[bad, { name: "bad" }], [fine]]) });
    const got = await send(chat, JSON.stringify({ ...good, model: "bad" }), {}, "POST", other);
    expect(got.status).to.equal(503);
    expect(got.error.code).to.equal("tokenizer_mismatch");
    expect(got.error.message).to.match(new RegExp(`tokenizer\\.json: .*31999.*vocab_size ${size}`));
    other.wire.say([], EOS);
    const served = await fetch(`${other.url}${chat}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(good),
    });
    expect(served.status).to.equal(200);
    const listed = (await (await fetch(`${other.url}/v1/models/bad`)).json()) as { tessellate: unknown };
    expect(listed.tessellate).to.include({ ready: false, reason: "TokenizerMismatch" });
    await other.close();
  });

  it("a model without a chat template → 400 that names the way out", async () => {
    const bare = tinyModel({ "tokenizer_config.json": undefined });
    const other = await startTestGateway({ models: [bare] });
    const got = await send(chat, JSON.stringify(good), {}, "POST", other);
    expect(got.error).to.include({ code: "no_chat_template", param: "messages" });
    expect(got.error.message).to.contain("/v1/completions");
    await other.close();
  });

  it("counts what it refused", async () => {
    const text = await gateway.gateway.metrics.registry.metrics();
    expect(text).to.match(/tessellate_requests_total\{model="",code="404"\} [1-9]/);
    expect(text).to.match(/tessellate_requests_total\{model="default\/tiny",code="400"\} [1-9]/);
  });
});

describe("API keys", () => {
  let directory: string;
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "tessellate-keys-"));
  });
  after(async () => rm(directory, { recursive: true }));

  it("are asked for where they are set, and follow their file", async () => {
    const file = join(directory, "keys");
    const complaints: string[] = [];
    await writeFile(file, "# of the team\nsk-first-key\n\nsk-second-key\n");
    const apiKeys = valueOrThrow(ApiKeys.open(file, (event) => complaints.push(event)));
    const gateway = await startTestGateway({ apiKeys });
    const status = async (key: string | undefined) =>
      (await fetch(`${gateway.url}/v1/models`, key === undefined ? {} : { headers: { authorization: key } })).status;
    expect(await status(undefined)).to.equal(401);
    expect(await status("Bearer sk-third-key")).to.equal(401);
    expect(await status("Basic sk-first-key")).to.equal(401);
    expect(await status("Bearer sk-first-key")).to.equal(200);
    expect(await status("bearer sk-second-key")).to.equal(200);
    const client = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: "wrong-key", maxRetries: 0 });
    const raised: unknown = await client.models.list().catch((error: unknown) => error);
    expect(raised).to.be.instanceOf(OpenAI.AuthenticationError);
    expect(raised).to.include({ code: "invalid_api_key" });

    await writeFile(file, "sk-third-key\n");
    apiKeys.look();
    expect([await status("Bearer sk-first-key"), await status("Bearer sk-third-key")]).to.deep.equal([401, 200]);
    await writeFile(file, "two words\n");
    apiKeys.look();
    expect(await status("Bearer sk-third-key")).to.equal(200);
    expect(complaints).to.deep.equal(["api-keys-unreadable"]);
    await gateway.close();
  });

  for (const [name, text, says] of [
    ["holds none", "# nothing\n", /no key/],
    ["has a short one", "ok-long-enough\nshort\n", /line 2: .*at least 8/],
  ] as const) {
    it(`a file that ${name} is refused, and no key is shown`, async () => {
      const file = join(directory, "bad");
      await writeFile(file, text);
      const opened = ApiKeys.open(file, () => {});
      expect(opened).to.include({ ok: false, code: "BadKeyFile" });
      expect(opened.ok || opened.detail)
        .to.match(says)
        .and.not.contain("short\n");
    });
  }
});
