/** What happens to answers when chains are full, are lost or come back, and when clients leave: over HTTP, ranks stopped. */
import { expect } from "chai";
import OpenAI from "openai";
import { verifyAnswer } from "../../core/answer-verification.ts";
import { indentedJson } from "../../core/canonical-json.ts";
import { envelopeBytes, parseEnvelope } from "../../core/dsse.ts";
import { refuse, valueOrThrow } from "../../core/result.ts";
import { parseUsage } from "../../core/statement.ts";
import { type TestGateway, aState, startTestGateway } from "../../test/gateway/start.ts";
import { EOS, tinyModel } from "../../test/gateway/tiny-model.ts";
import { babble } from "../../test/gateway/fake-wire.ts";
import type { SessionRequest } from "../session/types.ts";

type Answer = {
  readonly choices: readonly { readonly text: string; readonly finish_reason: string }[];
  readonly tessellate?: object;
  readonly error?: { readonly code: string; readonly message: string };
};

describe("answers and their chains", () => {
  let gateway: TestGateway;
  const model = tinyModel();
  const opened: TestGateway[] = [];

  const start = async (...args: Parameters<typeof startTestGateway>): Promise<TestGateway> => {
    gateway = await startTestGateway(...args);
    opened.push(gateway);
    return gateway;
  };

  afterEach(async () => {
    for (const one of opened.splice(0)) await one.close();
  });

  const ask = async (
    fields: object = {},
    signal?: AbortSignal,
  ): Promise<{ readonly status: number; readonly headers: Headers; readonly answer: Answer }> => {
    const response = await fetch(`${gateway.url}/v1/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model: "tiny", prompt: "hello", max_tokens: 24, seed: 5, temperature: 1, ...fields }),
      ...(signal === undefined ? {} : { signal }),
    });
    return { status: response.status, headers: response.headers, answer: (await response.json()) as Answer };
  };
  const twoChains = aState([[model, { chains: [{}, {}] }]]);
  const onChain =
    (index: number) =>
    (request: SessionRequest): boolean =>
      request.chain[0]?.ranks[0]?.name === `default/tiny-${index}-0-0`;
  /** Resolves once the ledger has been given something. */
  const submitted = async (): Promise<void> => {
    while (gateway.submissions.length === 0) await new Promise((resolve) => setImmediate(resolve));
  };
  const usageOf = (at: number) => {
    const envelope = valueOrThrow(parseEnvelope(gateway.submissions[at]?.usage ?? new Uint8Array()));
    return valueOrThrow(parseUsage(envelope.payload));
  };

  describe("a lost rank", () => {
    const undisturbed = async (): Promise<string> => {
      await start({ models: [model], state: twoChains });
      return (await ask()).answer.choices[0]?.text ?? "";
    };

    it("costs a pause: the answer goes on at another chain, sampled tokens and all, and is billed once", async () => {
      const whole = await undisturbed();
      await start({ models: [model], state: twoChains });
      let lossCount = 0;
      gateway.wire.lost = (tokens, request) =>
        tokens.length === 16 && onChain(0)(request) && lossCount++ === 0
          ? "rank default/tiny-0-1-0 was lost"
          : undefined;
      const { status, answer } = await ask({ tessellate: { receipts: true } });
      expect(status).to.equal(200);
      expect(answer.choices[0]?.text).to.equal(whole);
      const [first, second] = gateway.wire.opened;
      expect(second?.prompt.length).to.equal(16);
      expect(second?.prompt.slice(0, first?.prompt.length)).to.deep.equal(first?.prompt);
      expect(second?.id).to.not.equal(first?.id);
      expect(second?.nonce).to.not.deep.equal(first?.nonce);
      expect(second?.sampler).to.deep.equal(first?.sampler);
      expect(gateway.wire.closed.map((closed) => closed.reason)).to.have.members(["failed", "done"]);
      expect(verifyAnswer(indentedJson(answer.tessellate)).problems).to.deep.equal([]);
      await submitted();
      const { prompt, generated } = usageOf(0).tokens;
      expect(gateway.submissions).to.have.length(1);
      expect(prompt + generated).to.equal((first?.prompt.length ?? 0) + 24);
    });

    it("is seen by a streaming client as a pause, too", async () => {
      const whole = await undisturbed();
      await start({ models: [model], state: twoChains });
      gateway.wire.lost = (tokens, request) => (tokens.length === 20 && onChain(0)(request) ? "gone" : undefined);
      const client = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: "none", maxRetries: 0 });
      let text = "";
      const stream = await client.completions.create({
        model: "tiny",
        prompt: "hello",
        max_tokens: 24,
        seed: 5,
        temperature: 1,
        stream: true,
      });
      for await (const chunk of stream) text += chunk.choices[0]?.text ?? "";
      expect(text).to.equal(whole);
      expect(
        await gateway.gateway.metrics.registry.getSingleMetricAsString("tessellate_session_recoveries_total"),
      ).to.contain('{model="default/tiny"} 1');
    });

    it("is waited out where there is no other chain, until the operator tells of its replacement", async () => {
      const whole = await undisturbed();
      await start({ models: [model], state: aState([[model]]) });
      gateway.wire.lost = (tokens, request) =>
        tokens.length === 10 && request.chain[0]?.ranks[0]?.address.startsWith("127.0.0.1:0/") === true
          ? "gone"
          : undefined;
      const asked = ask();
      await gateway.wire.until(() => gateway.wire.closed.length === 1);
      gateway.put(aState([[model, { chains: [{ ready: false, generation: 1 }] }]]));
      gateway.put(aState([[model, { chains: [{ generation: 1 }] }]]));
      expect((await asked).answer.choices[0]?.text).to.equal(whole);
    });

    it("ends an answer with an error once too many tries have failed; a stream says so before its end", async () => {
      await start({ models: [model], state: aState([[model]]), limits: { lossesMax: 2 } });
      gateway.wire.lost = (tokens) => (tokens.length >= 12 ? "rank default/tiny-0-1-0 was lost" : undefined);
      const { status, answer } = await ask();
      expect(status).to.equal(503);
      expect(answer.error).to.include({ code: "rank_lost" });
      expect(answer.error?.message).to.contain("tiny-0-1-0");
      await start({ models: [model], state: aState([[model]]), limits: { lossesMax: 2 } });
      gateway.wire.lost = (tokens) => (tokens.length >= 12 ? "rank default/tiny-0-1-0 was lost" : undefined);
      const response = await fetch(`${gateway.url}/v1/completions`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ model: "tiny", prompt: "hello", stream: true }),
      });
      const events = (await response.text()).trim().split("\n\n");
      expect(events.at(-1)).to.equal("data: [DONE]");
      expect(JSON.parse(events.at(-2)?.slice(6) ?? ""))
        .to.have.property("error")
        .that.includes({ code: "rank_lost" });
    });

    it("gives up where no chain comes back in time, and says what was lost", async () => {
      await start({ models: [model], state: aState([[model]]), limits: { recoveryWaitMs: 50 } });
      gateway.wire.lost = (tokens) => {
        if (tokens.length < 10) return undefined;
        gateway.put(aState([[model, { chains: [{ ready: false }] }]]));
        return "rank default/tiny-0-0-0 was lost";
      };
      const { status, answer } = await ask();
      expect(status).to.equal(503);
      expect(answer.error).to.include({ code: "no_ready_chain" });
      expect(answer.error?.message).to.contain("after rank default/tiny-0-0-0 was lost");
    });

    it("costs nothing where it is found while opening: another chain takes the session", async () => {
      await start({ models: [model], state: twoChains });
      gateway.wire.refused = (request) =>
        onChain(0)(request) ? refuse("Unreachable", "default/tiny-0-0-0: no connection") : undefined;
      expect((await ask()).status).to.equal(200);
      expect(gateway.wire.opened).to.have.length(1);
      expect((await ask()).status).to.equal(200);
      expect(gateway.log.filter((line) => line.event === "open-failed")).to.have.length(1);
    });

    it("is tried again at the same chain for as long as an answer may pause", async () => {
      const whole = await undisturbed();
      await start({ models: [model], state: aState([[model]]) });
      gateway.wire.lost = (tokens) => (tokens.length === 10 && gateway.wire.opened.length === 1 ? "gone" : undefined);
      let refusedCount = 0;
      gateway.wire.refused = () =>
        gateway.wire.opened.length === 1 && ++refusedCount <= 1 ? refuse("Unreachable", "not yet") : undefined;
      expect((await ask()).answer.choices[0]?.text).to.equal(whole);
      expect(refusedCount).to.equal(2);
    });

    it("never lets another revision of the model go on with an answer", async () => {
      await start({ models: [model, tinyModel({ "generation_config.json": undefined })], state: aState([[model]]) });
      const next = tinyModel({ "generation_config.json": undefined });
      gateway.wire.lost = (tokens) => {
        if (tokens.length < 10) return undefined;
        gateway.put(aState([[next]]));
        return "gone";
      };
      const { status, answer } = await ask();
      expect([status, answer.error?.code]).to.deep.equal([503, "model_changed"]);
      expect(gateway.wire.opened).to.have.length(1);
    });

    it("counts a step that takes for ever as a loss", async () => {
      await start({ models: [model], state: twoChains, limits: { firstTokenMs: 30, nextTokenMs: 30 } });
      gateway.wire.before = (tokens, request) =>
        tokens.length === 9 && onChain(0)(request) ? new Promise(() => {}) : Promise.resolve();
      expect((await ask()).status).to.equal(200);
      expect(gateway.wire.closed[0]).to.include({ reason: "failed" });
    });

    it("is no loss where the request itself is refused", async () => {
      await start({ models: [model], state: twoChains });
      let tryCount = 0;
      gateway.wire.refused = () => refuse("TooLong", `more positions than a slot has, ${++tryCount}`);
      const { status, answer } = await ask();
      expect([status, answer.error?.code]).to.deep.equal([400, "context_length_exceeded"]);
      expect(tryCount).to.equal(1);
    });
  });

  describe("the queue", () => {
    /** Sessions that wait for `release` before their first token. */
    const gated = (): { readonly release: () => void } => {
      const gate = Promise.withResolvers<void>();
      gateway.wire.before = () => gate.promise;
      return { release: gate.resolve };
    };

    it("holds requests until a slot is free, in order, and refuses the one too many with Retry-After", async () => {
      await start({ models: [model], state: aState([[model, { maxQueue: 2 }]]) });
      gateway.wire.slotCount = 1;
      const gate = gated();
      const running = ask({ prompt: "first" });
      await gateway.wire.until(() => gateway.wire.opened.length === 1);
      const second = ask({ prompt: "second" });
      await queueOf(1);
      const third = ask({ prompt: "third" });
      await queueOf(2);
      const refused = await ask({ prompt: "fourth" });
      expect(refused.status).to.equal(429);
      expect(refused.answer.error).to.include({ code: "queue_full" });
      expect(refused.headers.get("retry-after")).to.equal("1");
      gate.release();
      expect((await Promise.all([running, second, third])).map((one) => one.status)).to.deep.equal([200, 200, 200]);
      expect(gateway.wire.opened.map((request) => request.prompt.length)).to.deep.equal([6, 7, 5]);
    });

    it("uses every slot of every chain at once", async () => {
      await start({ models: [model], state: twoChains });
      gateway.wire.slotCount = 2;
      const gate = gated();
      const all = Array.from({ length: 6 }, () => ask());
      await gateway.wire.until(() => gateway.wire.opened.length === 4);
      await queueOf(2);
      expect(gateway.wire.opened.filter(onChain(0))).to.have.length(2);
      gate.release();
      expect((await Promise.all(all)).map((one) => one.status)).to.deep.equal(Array(6).fill(200));
    });

    const lets: readonly [who: string, queueWaitMs: number, go: () => Promise<unknown>, said: unknown][] = [
      ["left", 60_000, leave, "left"],
      ["waited too long", 40, async () => (await ask()).answer.error?.code, "no_slot_in_time"],
    ];
    for (const [who, queueWaitMs, go, said] of lets)
      it(`lets go of whoever ${who}`, async () => {
        await start({ models: [model], state: aState([[model]]), limits: { queueWaitMs } });
        gateway.wire.slotCount = 1;
        const gate = gated();
        const running = ask();
        await gateway.wire.until(() => gateway.wire.opened.length === 1);
        expect(await go()).to.equal(said);
        await queueOf(0);
        gate.release();
        expect([(await running).status, (await ask()).status]).to.deep.equal([200, 200]);
      });

    async function leave(): Promise<unknown> {
      const leaver = new AbortController();
      const left = ask({}, leaver.signal).catch(() => "left");
      await queueOf(1);
      leaver.abort();
      return left;
    }

    /** Resolves once `count` requests wait. */
    async function queueOf(count: number): Promise<void> {
      const depth = async () =>
        Number(
          /tessellate_queue_depth\{model="default\/tiny"\} (\d+)/.exec(
            await gateway.gateway.metrics.registry.metrics(),
          )?.[1],
        );
      while ((await depth()) !== count) await new Promise((resolve) => setImmediate(resolve));
    }
  });

  describe("a client that leaves", () => {
    it("ends its session, and what was sampled is billed, no more", async () => {
      await start({ models: [model] });
      const gone = new AbortController();
      const reached = Promise.withResolvers<void>();
      const go = Promise.withResolvers<void>();
      gateway.wire.before = async (tokens) => {
        if (tokens.length !== 12) return;
        reached.resolve();
        await go.promise;
      };
      const response = await fetch(`${gateway.url}/v1/completions`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ model: "tiny", prompt: "hello", stream: true, max_tokens: 200 }),
        signal: gone.signal,
      });
      await reached.promise;
      gone.abort();
      await response.text().catch(() => {});
      const connections = () =>
        new Promise<number>((resolve) => gateway.gateway.app.server.getConnections((_error, count) => resolve(count)));
      while ((await connections()) > 0) await new Promise((resolve) => setImmediate(resolve));
      go.resolve();
      await gateway.wire.until(() => gateway.wire.closed.length === 1);
      const [closed] = gateway.wire.closed;
      expect(closed).to.include({ reason: "cancelled" });
      expect(closed?.sampledCount).to.equal(12 - (gateway.wire.opened[0]?.prompt.length ?? 0) + 1); // the one under way, too
      await submitted();
      expect(usageOf(0).tokens.generated).to.equal(closed?.sampledCount);
      expect(gateway.log.filter((line) => line.event === "receipts-differ")).to.deep.equal([]);
    });

    it("is noticed while nothing is streamed, too", async () => {
      await start({ models: [model] });
      const gone = new AbortController();
      gateway.wire.before = (tokens) => {
        if (tokens.length === 8) gone.abort();
        return new Promise((resolve) => setImmediate(resolve));
      };
      await ask({ max_tokens: 200 }, gone.signal).catch(() => {});
      await gateway.wire.until(() => gateway.wire.closed.length === 1);
      expect(gateway.wire.closed[0]).to.include({ reason: "cancelled" });
      expect(gateway.wire.closed[0]?.sampledCount).to.be.lessThan(200);
    });
  });

  describe("the end of the gateway", () => {
    it("lets answers under way finish and their usage reach the ledger", async () => {
      await start({ models: [model] });
      const gate = Promise.withResolvers<void>();
      gateway.wire.before = () => gate.promise;
      const asked = ask();
      await gateway.wire.until(() => gateway.wire.opened.length === 1);
      const ended = gateway.gateway.end(10_000);
      expect(gateway.gateway.unready).to.equal("draining");
      gate.resolve();
      expect((await asked).status).to.equal(200);
      await ended;
      expect(gateway.submissions).to.have.length(1);
    });

    it("cuts off what takes too long", async () => {
      await start({ models: [model], limits: { closeGraceMs: 10 } });
      gateway.wire.before = () => new Promise(() => {});
      const asked = ask();
      await gateway.wire.until(() => gateway.wire.opened.length === 1);
      await gateway.gateway.end(20);
      expect((await asked).status).to.equal(503);
      expect(gateway.wire.closed[0]).to.include({ reason: "cancelled" });
    });
  });

  describe("receipts that do not fit", () => {
    it("are told apart from those that do: logged, counted, and still handed to the ledger", async () => {
      await start({ models: [model] });
      gateway.wire.alter = (receipt) =>
        receipt.provider === "garage" ? { ...receipt, handOffsIn: `sha256:${"0".repeat(64)}` } : receipt;
      const { answer } = await ask({ tessellate: { receipts: true } });
      const verdict = verifyAnswer(indentedJson(answer.tessellate));
      expect(verdict.verified).to.equal(false);
      expect(verdict.problems[0]).to.deep.include({ code: "BrokenChain" });
      await submitted();
      expect(gateway.log.map((line) => line.event)).to.include("receipts-differ");
      expect(await gateway.gateway.metrics.registry.metrics()).to.match(
        /tessellate_answers_unproven_total\{model="default\/tiny"\} 1/,
      );
    });

    it("are left out where they cannot be read, and the answer comes all the same", async () => {
      await start({ models: [model] });
      const open = gateway.wire.open.bind(gateway.wire);
      gateway.wire.open = async (request) => {
        const session = await open(request);
        if (!session.ok) return session;
        const close = session.value.close.bind(session.value);
        return {
          ok: true,
          value: {
            ...session.value,
            close: async (reason) => ({ ...(await close(reason)), receipts: [new Uint8Array([1])] }),
          },
        };
      };
      const { status, answer } = await ask({ tessellate: { receipts: true } });
      expect(status).to.equal(200);
      expect(answer.tessellate).to.deep.include({
        error: { code: "Unsigned", message: "none of the 1 receipts that the ranks gave can be read" },
      });
      expect(gateway.submissions).to.have.length(0);
    });
  });

  it("bills the model's price, in the epoch in which the session began", async () => {
    await start({ models: [model] });
    gateway.wire.say([104], EOS);
    await ask();
    await submitted();
    const usage = usageOf(0);
    expect(usage).to.deep.include({
      gateway: "gw",
      priceMicroCreditsPerMillionTokens: 150_000n,
      epoch: gateway.wire.opened[0]?.epoch,
    });
    expect(usage.tokens).to.deep.equal({ prompt: 2, generated: 2 });
    expect(usage.epoch).to.be.within(Math.floor(Date.now() / 3_600_000) - 1, Math.floor(Date.now() / 3_600_000));
    for (const receipt of gateway.submissions[0]?.receipts ?? [])
      expect(envelopeBytes(valueOrThrow(parseEnvelope(receipt)))).to.deep.equal(receipt);
    expect(babble([1], gateway.wire.opened[0] as SessionRequest)).to.be.a("number");
  });
});
