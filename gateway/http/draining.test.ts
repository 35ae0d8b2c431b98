/** Chains that drain, and a gateway that does: nobody's request is lost, over real HTTP with the ranks stopped. */
import { Agent, request } from "node:http";
import { expect } from "chai";
import { type ChainOptions, type TestGateway, aState, startTestGateway } from "../../test/gateway/start.ts";
import { type TinyModel, tinyModel, tinyTokenizer } from "../../test/gateway/tiny-model.ts";

type Got = { readonly status: number; readonly connection: string; readonly text: string };

/** One question over `agent`; rejects where the connection breaks. */
function ask(gateway: TestGateway, agent: Agent, body: object = {}): Promise<Got> {
  const { promise, resolve, reject } = Promise.withResolvers<Got>();
  const text = JSON.stringify({ model: "tiny", prompt: "hello", max_tokens: 3, ignore_eos: true, ...body });
  const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(text) };
  const asked = request(`${gateway.url}/v1/completions`, { method: "POST", agent, headers }, (response) => {
    const chunks: Buffer[] = [];
    response.on("data", (chunk: Buffer) => chunks.push(chunk));
    response.on("error", reject);
    response.on("end", () =>
      resolve({
        status: response.statusCode ?? 0,
        connection: response.headers.connection ?? "",
        text: Buffer.concat(chunks).toString(),
      }),
    );
  });
  asked.on("error", reject);
  asked.end(text);
  return promise;
}

const chainsUsed = (gateway: TestGateway): readonly string[] =>
  gateway.wire.opened.map(({ chain }) => chain[0]?.ranks[0]?.name.split("-")[1] ?? "");

describe("draining", () => {
  const agent = new Agent({ keepAlive: true });
  let model: TinyModel;
  let gateway: TestGateway;
  const tell = (...chains: readonly ChainOptions[]): void => gateway.put(aState([[model, { chains }]]));

  beforeEach(async () => {
    model = tinyModel();
    gateway = await startTestGateway({ models: [model] });
  });
  afterEach(async () => {
    await gateway.close();
    agent.destroy();
  });

  it("lets the sessions of a chain end, counts them, and begins none there", async () => {
    tell({});
    const held = Promise.withResolvers<void>();
    gateway.wire.before = () => held.promise;
    const first = ask(gateway, agent);
    await gateway.wire.until(() => gateway.wire.opened.length === 1);
    tell({ draining: true }, {});
    const chain = { namespace: "default", model: "tiny", chain: 0 };
    expect(gateway.gateway.draining()).to.deep.equal([{ ...chain, sessionCount: 1 }]);
    const others = [ask(gateway, agent), ask(gateway, agent)];
    await gateway.wire.until(() => gateway.wire.opened.length === 3);
    held.resolve();
    expect((await Promise.all([first, ...others])).map(({ status }) => status)).to.deep.equal([200, 200, 200]);
    expect(chainsUsed(gateway)).to.deep.equal(["0", "1", "1"]);
    expect(gateway.gateway.draining()).to.deep.equal([{ ...chain, sessionCount: 0 }]);
  });

  it("waits where the only chain drains, and goes on with the one that follows", async () => {
    tell({ draining: true });
    const waiting = ask(gateway, agent);
    tell({ draining: true }, { unproven: true });
    tell({ draining: true }, {});
    expect((await waiting).status).to.equal(200);
    expect(chainsUsed(gateway)).to.deep.equal(["1"]);
  });

  it("makes prompts ready with the tokenizer of the checkpoint that will answer", async () => {
    const json = tinyTokenizer().json;
    const next = tinyModel({ "tokenizer.json": JSON.stringify(json, undefined, 1) });
    expect(next.root).to.not.equal(model.root);
    await gateway.close();
    gateway = await startTestGateway({ models: [model, next], state: aState([[model]]) });
    const form = { revision: "next", model: next };
    tell({}, { unproven: true, form });
    expect((await ask(gateway, agent)).status).to.equal(200);
    tell({ draining: true }, { form });
    const got = await ask(gateway, agent, { stream: false });
    expect(got.status, got.text).to.equal(200);
    expect(gateway.wire.opened.map(({ modelRoot }) => modelRoot)).to.deep.equal([model.root, next.root]);
  });

  it("loses no request of a client that keeps its connection, whenever the gateway is told to end", async () => {
    const ends = new Agent({ keepAlive: true, maxSockets: 4 });
    const counts = { answered: 0, last: 0 };
    let told = false;
    let ended = false;
    const clients = Array.from({ length: 4 }, async () => {
      // Until the gateway says that its connection ends; from then on requests go elsewhere.
      for (;;) {
        const got = await ask(gateway, ends);
        expect(got.status).to.equal(200);
        counts.answered += 1;
        if (got.connection === "close") {
          counts.last += 1;
          expect(told, "before it was told to end").to.equal(true);
          return;
        }
        expect(ended, "after its doors closed").to.equal(false);
      }
    });
    while (counts.answered < 40) await ask(gateway, agent);
    told = true;
    const ending = gateway.gateway.end(5_000, 2_000).then(() => {
      ended = true;
    });
    // New connections are taken still, and told that they are the last.
    expect(gateway.gateway.unready).to.equal("draining");
    expect(await ask(gateway, agent)).to.include({ status: 200, connection: "close" });
    await Promise.all(clients);
    await ending;
    expect(counts.last).to.equal(4);
    ends.destroy();
  });
});
