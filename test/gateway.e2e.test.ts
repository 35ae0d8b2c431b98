/** The gateway as a process before real ranks on the demo model: OpenAI's client, a rank killed under an answer, a restart. */
import { type ChildProcess, spawn } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { expect } from "chai";
import OpenAI from "openai";
import { verifyAnswer } from "../core/answer-verification.ts";
import { indentedJson } from "../core/canonical-json.ts";
import { valueOrThrow } from "../core/result.ts";
import { readDocuments } from "../operator/local/documents.ts";
import { type LocalHouse, startLocal } from "../operator/local/local-house.ts";
import { until } from "./until.ts";

/** Long enough to be interrupted, and the same each time: the seed decides every token. */
const LONG = {
  model: "demo",
  prompt: "Once upon a time",
  max_tokens: 150,
  seed: 11,
  temperature: 0.8,
  ignore_eos: true,
} as const;

describe("the gateway before real ranks", function () {
  this.timeout(300_000);
  let house: LocalHouse;
  let directory: string;
  let client: OpenAI;

  before(async () => {
    directory = mkdtempSync(join(tmpdir(), "tessellate-gateway-e2e-"));
    const documents = valueOrThrow(readDocuments(["examples/demo/model.yaml", "examples/demo/nodes.yaml"]));
    house = await startLocal({ documents, stateDirectory: directory, listen: "127.0.0.1:0", tell: () => {} });
    await house.ready;
    client = new OpenAI({ baseURL: `${house.url}/v1`, apiKey: "none", maxRetries: 0 });
  });
  after(async () => {
    await house?.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  const complete = async (url: string, fields: object = LONG) =>
    (await (
      await fetch(`${url}/v1/completions`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(fields),
      })
    ).json()) as {
      readonly choices: readonly { readonly text: string }[];
      readonly usage: { readonly prompt_tokens: number; readonly completion_tokens: number };
      readonly tessellate: unknown;
    };
  /** The text of a stream; `onPiece` hears how many pieces there were. */
  const stream = async (url: string, onPiece: (count: number) => void = () => {}) => {
    const own = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
    let [text, count] = ["", 0];
    for await (const chunk of await own.completions.create({ ...LONG, stream: true })) {
      text += chunk.choices[0]?.text ?? "";
      onPiece((count += 1));
    }
    return text;
  };

  it("answers OpenAI's client, whole and streamed, with one and the same text", async () => {
    const messages = [{ role: "user" as const, content: "What is a shard?" }];
    const whole = await client.chat.completions.create({ model: "demo", messages });
    expect(whole.choices[0]?.message.content).to.match(/^A shard is /);
    expect(whole.choices[0]?.finish_reason).to.equal("stop");
    let text = "";
    for await (const chunk of await client.chat.completions.create({ model: "demo", messages, stream: true }))
      text += chunk.choices[0]?.delta.content ?? "";
    expect(text).to.equal(whole.choices[0]?.message.content);
  });

  it("samples the same text for the same seed, alone or in a crowd that waits for slots", async () => {
    const alone = (await complete(house.url)).choices[0]?.text;
    const crowd = await Promise.all(
      Array.from({ length: 12 }, (_, index) =>
        complete(house.url, { ...LONG, max_tokens: 60, seed: LONG.seed + index }),
      ),
    );
    expect(alone?.startsWith(crowd[0]?.choices[0]?.text ?? "?")).to.equal(true);
    expect(new Set(crowd.map((one) => one.choices[0]?.text)).size).to.equal(12);
  });

  it("goes on with the same sampled answer when a rank is killed under it, and its receipts hold", async () => {
    const { choices, usage } = await complete(house.url);
    const victim = house.placement().assignments.find(({ segment }) => segment === 1);
    const name = `demo-${victim?.chain}-${victim?.segment}-${victim?.rank}`;
    const text = await stream(house.url, (count) => {
      if (count === 20) house.cluster.rankProcess(name)?.kill("SIGKILL");
    });
    expect(text).to.equal(choices[0]?.text);
    const again = await complete(house.url, { ...LONG, tessellate: { receipts: true } });
    expect(again.usage).to.deep.equal(usage);
    expect(verifyAnswer(indentedJson(again.tessellate), { modelRoot: house.facts.root }).problems).to.deep.equal([]);
  });

  it("hands the ledger nothing that it must reject, interrupted answers included", async () => {
    const metrics = async () => await (await fetch(`http://${house.metricsAddresses["ledger"]}/metrics`)).text();
    const waiting = async () =>
      /^tessellate_usage_waiting 0$/m.test(
        await (await fetch(`http://${house.metricsAddresses["gateway"]}/metrics`)).text(),
      );
    await until("all usage to be judged", waiting);
    const log = readFileSync(join(directory, "logs", "gateway.log"), "utf8");
    const rejected = log.split("\n").filter((line) => /"(receipt-rejected|receipts-differ)"/.test(line));
    expect(rejected).to.deep.equal([]);
    expect(await metrics()).to.match(/^tessellate_receipts_total\{verdict="accept".*\} [1-9]/m);
    expect(await metrics()).to.not.match(/^tessellate_receipts_total\{verdict="reject".*\} [1-9]/m);
  });

  it("refuses what does not fit, and serves on", async () => {
    const long = await client.chat.completions
      .create({ model: "demo", messages: [{ role: "user", content: "why ".repeat(600) }] })
      .catch((error: unknown) => error);
    expect(long).to.be.instanceOf(OpenAI.BadRequestError);
    expect(long).to.include({ code: "context_length_exceeded", param: "messages" });
    expect(long instanceof Error ? long.message : "").to.match(/tokens, and demo has room for 512/);
    expect((await complete(house.url, { ...LONG, max_tokens: 3 })).usage.completion_tokens).to.equal(3);
  });

  describe("started anew while no operator speaks to it", () => {
    let child: ChildProcess;
    let url: string;
    let exited: Promise<number | null>;

    before(async () => {
      const state = join(directory, "again");
      mkdirSync(state);
      // What the first gateway kept on disk is what a restarted one finds.
      cpSync(join(directory, "gateway", "picture.json"), join(state, "picture.json"));
      const flags = {
        listen: "127.0.0.1:0",
        control: "127.0.0.1:0",
        metrics: "127.0.0.1:0",
        name: "gateway",
        tls: join(directory, "tls", "gateway"),
        key: join(directory, "keys", "gateway.pem"),
        state,
      };
      child = spawn(
        process.execPath,
        ["gateway/main.ts", ...Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, value])],
        { stdio: ["ignore", "pipe", "ignore"] },
      );
      exited = new Promise((resolve) => child.once("close", resolve));
      for await (const line of createInterface({ input: child.stdout as NodeJS.ReadableStream })) {
        const told = JSON.parse(line) as { readonly event: string; readonly address: string; readonly metrics: string };
        url = `http://${told.address}`;
        expect((await fetch(`http://${told.metrics}/readyz`)).status).to.equal(200);
        break;
      }
    });
    after(async () => {
      child.kill("SIGKILL");
      await exited;
    });

    it("serves what it served before", async () => {
      const text = (await complete(url)).choices[0]?.text;
      expect(text).to.equal((await complete(house.url)).choices[0]?.text);
    });

    it("frees the slot of a client that leaves", async () => {
      const usedSlots = async (): Promise<number> => {
        const [address] = house.cluster.metricsAddresses();
        const text = await (await fetch(`http://${address}/metrics`)).text();
        return Number(/^tessellate_kv_slots\{[^}]*state="used"[^}]*\} (\d+)$/m.exec(text)?.[1]);
      };
      // An answer is out before its session is closed.
      await until("all slots to be free", async () => (await usedSlots()) === 0);
      const gone = new AbortController();
      const response = await fetch(`${url}/v1/completions`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ ...LONG, stream: true, max_tokens: 400 }),
        signal: gone.signal,
      });
      const reader = response.body?.getReader();
      await reader?.read();
      await until("a slot to be taken", async () => (await usedSlots()) === 1, { everyMs: 20 });
      gone.abort();
      await until("the slot to be free again", async () => (await usedSlots()) === 0);
    });

    it("finishes the answer under way when it is told to end, and exits with 0", async () => {
      const whole = (await complete(house.url)).choices[0]?.text;
      const text = await stream(url, (count) => {
        if (count === 5) child.kill("SIGTERM");
      });
      expect(text).to.equal(whole);
      expect(await exited).to.equal(0);
    });
  });
});
