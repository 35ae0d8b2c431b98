/** The API as OpenAI's own client sees it, over real HTTP, with the ranks behind it stopped. */
import { expect } from "chai";
import OpenAI from "openai";
import { verifyAnswer } from "../../core/answer-verification.ts";
import { indentedJson } from "../../core/canonical-json.ts";
import { valueOrThrow } from "../../core/result.ts";
import { type TestGateway, aState, startTestGateway } from "../../test/gateway/start.ts";
import { END_OF_TURN, EOS, tinyModel, tinyTokenizer } from "../../test/gateway/tiny-model.ts";
import { parseTokenizer } from "../tokenizer/tokenizer.ts";

const tiny = tinyTokenizer();
const tokenizer = valueOrThrow(parseTokenizer(JSON.stringify(tiny.json), "", tiny.size));
const idsOf = (text: string): readonly number[] => valueOrThrow(tokenizer.encode(text, false));
const bytesOf = (text: string): readonly number[] => [...new TextEncoder().encode(text)];

describe("the OpenAI API", () => {
  let gateway: TestGateway;
  let client: OpenAI;
  const messages = [{ role: "user" as const, content: "hello the world" }];

  beforeEach(async () => {
    gateway = await startTestGateway();
    client = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: "none", maxRetries: 0 });
  });

  afterEach(async () => gateway.close());

  it("answers a chat, with the end of turn not part of the text but of the count", async () => {
    gateway.wire.say(idsOf("hello world"), END_OF_TURN);
    const answer = await client.chat.completions.create({ model: "tiny", messages, temperature: 0 });
    expect(answer.object).to.equal("chat.completion");
    expect(answer.id).to.match(/^chatcmpl-/);
    expect(answer._request_id).to.match(/^req_/);
    expect(answer.choices).to.deep.equal([
      {
        index: 0,
        message: { role: "assistant", content: "hello world", refusal: null },
        logprobs: null,
        finish_reason: "stop",
      },
    ]);
    const prompt = gateway.wire.opened[0]?.prompt ?? [];
    expect(tokenizer.decode(prompt)).to.equal("[user]hello the world[assistant]");
    expect(answer.usage).to.deep.equal({
      prompt_tokens: prompt.length,
      completion_tokens: 3,
      total_tokens: prompt.length + 3,
    });
    expect(gateway.wire.opened[0]).to.deep.include({ maxPositions: 256, handOffDtype: "f32" });
    expect(gateway.wire.opened[0]?.sampler.temperature).to.equal(0);
  });

  it("streams a chat exactly as OpenAI does: the role, the pieces, the reason, the usage", async () => {
    gateway.wire.say(idsOf("hello world"), END_OF_TURN);
    const stream = await client.chat.completions.create({
      model: "tiny",
      messages,
      stream: true,
      stream_options: { include_usage: true },
    });
    const chunks = [];
    for await (const chunk of stream) chunks.push(chunk);
    expect(chunks.map((chunk) => chunk.choices[0]?.delta ?? "none")).to.deep.equal([
      { role: "assistant", content: "" },
      { content: "hello" },
      { content: " world" },
      {},
      "none",
    ]);
    expect(chunks.map((chunk) => chunk.choices[0]?.finish_reason)).to.deep.equal([null, null, null, "stop", undefined]);
    expect(chunks.map((chunk) => chunk.usage?.completion_tokens)).to.deep.equal([
      undefined,
      undefined,
      undefined,
      undefined,
      3,
    ]);
    expect(chunks[0]?.usage).to.equal(null);
    expect(new Set(chunks.map((chunk) => `${chunk.id} ${chunk.object} ${chunk.created} ${chunk.model}`)).size).to.equal(
      1,
    );
  });

  it("streams with the headers and the last line of server-sent events", async () => {
    gateway.wire.say([], EOS);
    const response = await post("/v1/chat/completions", { model: "tiny", messages, stream: true });
    expect(response.headers.get("content-type")).to.equal("text/event-stream; charset=utf-8");
    expect(response.headers.get("access-control-allow-origin")).to.equal(null);
    const text = await response.text();
    expect(text.endsWith("data: [DONE]\n\n")).to.equal(true);
    expect(text).to.not.contain('"usage"');
  });

  it("never streams half a character", async () => {
    const text = "naïve 🙂 日本";
    gateway.wire.say(bytesOf(text), END_OF_TURN);
    const stream = await client.chat.completions.create({ model: "tiny", messages, stream: true });
    const pieces: string[] = [];
    for await (const chunk of stream) pieces.push(chunk.choices[0]?.delta.content ?? "");
    expect(pieces.join("")).to.equal(text);
    expect(pieces.filter((piece) => piece.includes("\uFFFD"))).to.deep.equal([]);
  });

  it("completes a text, and a list of token ids", async () => {
    gateway.wire.say(idsOf(" world"), EOS);
    const answer = await client.completions.create({ model: "tiny", prompt: "hello the", max_tokens: 5 });
    expect(answer.object).to.equal("text_completion");
    expect(answer.choices).to.deep.equal([{ text: " world", index: 0, logprobs: null, finish_reason: "stop" }]);
    expect(gateway.wire.opened[0]?.prompt).to.deep.equal([256, ...idsOf("hello the")]);
    await client.completions.create({ model: "tiny", prompt: [104, 105] });
    expect(gateway.wire.opened[1]?.prompt).to.deep.equal([104, 105]);
    await client.completions.create({ model: "tiny", prompt: ["hi"] });
    expect(gateway.wire.opened[2]?.prompt).to.deep.equal([256, 104, 105]);
  });

  it("streams a completion", async () => {
    gateway.wire.say(idsOf("and the world"), EOS);
    const stream = await client.completions.create({ model: "tiny", prompt: "x", stream: true, max_tokens: 20 });
    const chunks = [];
    for await (const chunk of stream) chunks.push(chunk);
    expect(chunks.map((chunk) => chunk.choices[0]?.text).join("")).to.equal("and the world");
    expect(chunks.at(-1)?.choices[0]?.finish_reason).to.equal("stop");
  });

  it("stops at max_tokens, at max_completion_tokens before it, and at the end of the context", async () => {
    const one = await client.chat.completions.create({ model: "tiny", messages, max_tokens: 4 });
    expect([one.choices[0]?.finish_reason, one.usage?.completion_tokens]).to.deep.equal(["length", 4]);
    const two = await client.chat.completions.create({
      model: "tiny",
      messages,
      max_tokens: 4,
      max_completion_tokens: 2,
    });
    expect(two.usage?.completion_tokens).to.equal(2);
    const three = await client.chat.completions.create({ model: "tiny", messages, max_tokens: 100_000 });
    expect([three.choices[0]?.finish_reason, three.usage?.total_tokens]).to.deep.equal(["length", 256]);
    const four = await client.completions.create({ model: "tiny", prompt: "x" });
    expect(four.usage?.completion_tokens).to.equal(16);
  });

  it("stops before a stop string, even one that is spread over tokens, and never lets a part of it out", async () => {
    gateway.wire.say(bytesOf("one END two"), EOS);
    for (const [stop, text] of [
      ["END", "one "],
      [["xyz", " tw", "two"], "one END"],
      ["E", "one "],
      ["nope", "one END two"],
    ] as const) {
      const stream = await client.chat.completions.create({
        model: "tiny",
        messages,
        stream: true,
        stop: typeof stop === "string" ? stop : [...stop],
      });
      const pieces: string[] = [];
      let finish: string | null | undefined;
      for await (const chunk of stream) {
        pieces.push(chunk.choices[0]?.delta.content ?? "");
        finish = chunk.choices[0]?.finish_reason;
      }
      expect(pieces.join("")).to.equal(text);
      expect(finish).to.equal("stop");
    }
  });

  it("gives the same answer for the same seed, another for another, and passes the sampler on", async () => {
    const say = async (seed: number) =>
      (
        await client.chat.completions.create({
          model: "tiny",
          messages,
          seed,
          temperature: 0.7,
          top_p: 0.9,
          max_tokens: 12,
        })
      ).choices[0]?.message.content;
    const [first, again, other, negative] = [await say(7), await say(7), await say(8), await say(-1)];
    expect(first).to.equal(again);
    expect(other).to.not.equal(first);
    expect(negative).to.be.a("string");
    expect(gateway.wire.opened[0]?.sampler).to.deep.equal({
      temperature: 0.7,
      topP: 0.9,
      seed: new Uint8Array([7, 0, 0, 0, 0, 0, 0, 0]),
    });
    expect(gateway.wire.opened[3]?.sampler.seed).to.deep.equal(new Uint8Array(8).fill(255));
  });

  it("gives the chosen tokens' probabilities, in both shapes", async () => {
    gateway.wire.say([...idsOf("hello"), ...bytesOf("é")], EOS);
    const chat = await client.chat.completions.create({ model: "tiny", messages, logprobs: true });
    expect(chat.choices[0]?.logprobs?.content).to.deep.equal([
      { token: "hello", logprob: -0.5, bytes: [104, 101, 108, 108, 111], top_logprobs: [] },
      { token: "\uFFFD", logprob: -0.5, bytes: null, top_logprobs: [] },
      { token: "\uFFFD", logprob: -0.5, bytes: null, top_logprobs: [] },
    ]);
    const stream = await client.chat.completions.create({ model: "tiny", messages, logprobs: true, stream: true });
    let count = 0;
    for await (const chunk of stream) count += chunk.choices[0]?.logprobs?.content?.length ?? 0;
    expect(count).to.equal(3);
    gateway.wire.say([...idsOf("hello"), ...bytesOf("é")], EOS);
    const completion = await client.completions.create({ model: "tiny", prompt: "x", logprobs: 0 });
    expect(completion.choices[0]?.logprobs?.tokens?.[0]).to.equal("hello");
    expect(completion.choices[0]?.logprobs?.token_logprobs).to.deep.equal([-0.5, -0.5, -0.5]);
  });

  it("lists its models, those that answer first, and describes one", async () => {
    const other = tinyModel({ "generation_config.json": undefined });
    gateway.put(aState([[other, { name: "asleep", chains: [{ ready: false }] }], [tinyModel()]], { fence: 1 }));
    await client.completions.create({ model: "tiny", prompt: "x", max_tokens: 1 });
    const list = await client.models.list();
    expect(list.data.map((model) => model.id)).to.deep.equal(["tiny", "asleep"]);
    const one: unknown = await client.models.retrieve("tiny");
    expect(one).to.deep.include({ id: "tiny", object: "model", owned_by: "default", max_model_len: 256 });
    expect(one)
      .to.have.property("tessellate")
      .that.deep.includes({ ready: true, chains: { ready: 1, planned: 1 }, providers: ["campus", "garage"] });
    expect(await client.models.retrieve("asleep"))
      .to.have.property("tessellate")
      .that.deep.includes({ ready: false, reason: "NoReadyChain" });
  });

  it("tells models of one name apart by their namespace", async () => {
    const model = tinyModel();
    gateway.put(
      aState([
        [model, { namespace: "a" }],
        [model, { namespace: "b" }],
      ]),
    );
    gateway.wire.say([], EOS);
    const refused = await client.completions.create({ model: "tiny", prompt: "x" }).catch((error: unknown) => error);
    expect(refused).to.include({ status: 400, code: "ambiguous_model" });
    await client.completions.create({ model: "b/tiny", prompt: "x" });
    expect(gateway.wire.opened.at(-1)?.chain[0]?.ranks[0]?.name).to.equal("b/tiny-0-0-0");
    expect((await client.models.retrieve("b/tiny")).id).to.equal("b/tiny");
  });

  it("serves token ids alone where a model has no tokenizer", async () => {
    const bare = tinyModel({ "tokenizer.json": undefined, "tokenizer_config.json": undefined });
    const other = await startTestGateway({ models: [bare] });
    try {
      other.wire.say([100, 101, 102], EOS);
      const bareClient = new OpenAI({ baseURL: `${other.url}/v1`, apiKey: "none", maxRetries: 0 });
      const answer = await bareClient.completions.create({ model: "tiny", prompt: [1, 2, 3] });
      expect(answer.choices[0]).to.deep.include({ text: "", token_ids: [100, 101, 102, EOS] });
      const stream = await bareClient.completions.create({ model: "tiny", prompt: [1, 2, 3], stream: true });
      const ids: unknown[] = [];
      for await (const chunk of stream)
        ids.push(...((chunk.choices[0] as { token_ids?: unknown[] } | undefined)?.token_ids ?? []));
      expect(ids).to.deep.equal([100, 101, 102, EOS]);
      const refused = await bareClient.completions
        .create({ model: "tiny", prompt: "text" })
        .catch((error: unknown) => error);
      expect(refused).to.include({ status: 400, code: "no_tokenizer" });
    } finally {
      await other.close();
    }
  });

  it("gives the receipts of an answer to whoever asks, by body or header, whole or streamed, and they verify", async () => {
    gateway.wire.say(idsOf("hello world"), END_OF_TURN);
    const body = { model: "tiny", messages, tessellate: { receipts: true } };
    const whole: unknown = await (await post("/v1/chat/completions", body)).json();
    const streamed = await (
      await post("/v1/chat/completions", { model: "tiny", messages, stream: true }, { "x-tessellate-receipts": "true" })
    ).text();
    const events = streamed
      .split("\n\n")
      .filter((line) => line.startsWith("data: {"))
      .map((line) => JSON.parse(line.slice(6)));
    expect(events.slice(0, -1).some((event) => "tessellate" in event)).to.equal(false);
    for (const answer of [whole, events.at(-1)] as { readonly tessellate: object }[]) {
      const verdict = verifyAnswer(indentedJson(answer.tessellate));
      expect(verdict.problems).to.deep.equal([]);
      expect(verdict).to.deep.include({
        verified: true,
        providers: ["campus", "garage"],
        layerCount: 4,
        segmentCount: 2,
      });
      expect(answer.tessellate).to.include({ text: "hello world" });
    }
    const plain = await client.chat.completions.create({ model: "tiny", messages });
    expect(plain).to.not.have.property("tessellate");
  });

  it("gives token ids beside the text to whoever asks", async () => {
    gateway.wire.say(idsOf("hello world"), END_OF_TURN);
    const answer = (await (
      await post("/v1/completions", { model: "tiny", prompt: "hi", return_token_ids: true })
    ).json()) as { choices: unknown[] };
    expect(answer.choices[0]).to.deep.include({
      prompt_token_ids: [256, 104, 105],
      token_ids: [...idsOf("hello world"), END_OF_TURN],
    });
  });

  it("goes on past the end where asked to", async () => {
    gateway.wire.say(idsOf("hello"), EOS);
    const answer = (await (
      await post("/v1/completions", { model: "tiny", prompt: "hi", max_tokens: 4, ignore_eos: true })
    ).json()) as { choices: { finish_reason: string }[] };
    expect(answer.choices[0]?.finish_reason).to.equal("length");
  });

  const post = (path: string, body: unknown, headers: Record<string, string> = {}): Promise<Response> =>
    fetch(gateway.url + path, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: JSON.stringify(body),
    });
});
