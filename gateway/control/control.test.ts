/** The operator's door, over real gRPC with mTLS: what it takes, from whom, and what a probe finds out. */
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { closeClient } from "@grpc/grpc-js";
import { expect } from "chai";
import type { ProbeReply__Output } from "../../core/gen/proto/tessellate/control/v1/ProbeReply.ts";
import type { PutReply__Output } from "../../core/gen/proto/tessellate/control/v1/PutReply.ts";
import type { State } from "../../core/gen/proto/tessellate/control/v1/State.ts";
import { GATEWAY, type Identity, LEDGER, OPERATOR } from "../../core/identity.ts";
import { refuse, valueOrThrow } from "../../core/result.ts";
import { keyNamed } from "../../core/session-fixture.ts";
import { type Authority, createAuthority, writeCertificate } from "../../core/wire/authority.ts";
import { type Door, ask, dial, openDoor } from "../../core/wire/door.ts";
import { type Tls, openTls, serverCredentials } from "../../core/wire/tls.ts";
import { type TestGateway, aState, startTestGateway } from "../../test/gateway/start.ts";
import { tinyModel, tinyTokenizer } from "../../test/gateway/tiny-model.ts";
import { addControl } from "./service.ts";

describe("the operator's door", () => {
  let directory: string;
  let authority: Authority;
  let gateway: TestGateway;
  let door: Door;
  const opened: Tls[] = [];
  const model = tinyModel();

  const tlsOf = async (identity: Identity): Promise<Tls> => {
    const where = join(directory, identity.kind);
    await writeCertificate(where, await authority.issue(identity, { ips: ["127.0.0.1"] }));
    const tls = valueOrThrow(openTls(where));
    opened.push(tls);
    return tls;
  };
  const put = async (state: State, identity: Identity = OPERATOR) => {
    const client = dial("Control", door.address, await tlsOf(identity), GATEWAY);
    const reply = await ask<PutReply__Output>("the gateway", 5_000, (options, callback) =>
      client.Put(state, options, callback),
    );
    closeClient(client);
    return reply;
  };
  const probe = async (chain = 0, name = "tiny") => {
    const client = dial("Control", door.address, await tlsOf(OPERATOR), GATEWAY);
    const request = { model: name, namespace: "default", chain };
    const reply = await ask<ProbeReply__Output>("the gateway", 10_000, (options, callback) =>
      client.Probe(request, options, callback),
    );
    closeClient(client);
    return valueOrThrow(reply);
  };

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "tessellate-control-"));
    authority = await createAuthority();
  });

  after(async () => {
    for (const tls of opened) tls.close();
    await rm(directory, { recursive: true });
  });

  beforeEach(async () => {
    gateway = await startTestGateway({ models: [model], state: null });
    door = await openDoor({
      host: "127.0.0.1",
      port: 0,
      credentials: serverCredentials(await tlsOf(GATEWAY)),
      services: ["Control"],
      add: (server) => addControl(server, gateway.gateway),
    });
  });

  afterEach(async () => {
    await door.close(100);
    await gateway.close();
  });

  it("takes the picture and answers with the key that countersigns usage", async () => {
    expect(gateway.gateway.unready).to.be.a("string");
    const reply = valueOrThrow(await put(aState([[model]])));
    expect(reply).to.include({ name: "gw", publicKey: keyNamed("gateway/gw").publicKey.spki });
    expect(gateway.gateway.unready).to.equal(undefined);
    await probe();
    expect(valueOrThrow(await put(aState([[model]]))).readyModelCount).to.equal(1);
  });

  it("refuses an operator whose lease has passed on, and keeps what the newer one told", async () => {
    valueOrThrow(await put(aState([[model]], { fence: 3 })));
    const stale = await put(aState([], { fence: 2 }));
    expect(stale).to.include({ ok: false, code: "StaleFence" });
    expect(gateway.gateway.keeper.picture?.models).to.have.length(1);
    valueOrThrow(await put(aState([], { fence: 3 })));
    expect(gateway.gateway.keeper.picture?.models).to.have.length(0);
  });

  it("refuses whoever is no operator", async () => {
    expect(await put(aState([[model]]), LEDGER)).to.include({ ok: false, code: "NotMyNeighbour" });
  });

  const [first] = aState([[model]]).models;
  const broken: readonly (readonly [string, State, RegExp])[] = [
    ["the same model twice", aState([[model], [model]]), /default\/tiny twice/],
    [
      "a root that is no digest",
      { ...aState([]), models: [{ ...first, modelRoot: "latest" }] },
      /models\[0\]\.root|models\[0\]\.modelRoot/,
    ],
    [
      "an unknown hand-off dtype",
      { ...aState([]), models: [{ ...first, handOffDtype: "f8" }] },
      /handOffDtype: must be f32 or f16/,
    ],
    ["an epoch of no length", { ...aState([]), models: [{ ...first, epochSeconds: 0 }] }, /epochSeconds/],
    [
      "a provider without a key",
      { ...aState([]), providers: [{ name: "campus", publicKey: "", admitted: true }] },
      /providers\[0\]\.publicKey/,
    ],
    [
      "a ready chain without facts of its ranks",
      { ...aState([]), models: [{ ...first, chains: first?.chains?.map((chain) => ({ ...chain, ranks: [] })) ?? [] }] },
      /chains\[0\]\.ranks/,
    ],
  ];
  for (const [name, state, says] of broken) {
    it(`refuses ${name}, says where, and serves on as before`, async () => {
      valueOrThrow(await put(aState([[model]])));
      const refused = await put(state);
      expect(refused).to.include({ ok: false, code: "BadRequest" });
      expect(refused.ok || refused.detail).to.match(says);
      expect(gateway.gateway.keeper.picture?.models).to.have.length(1);
    });
  }

  describe("a probe", () => {
    beforeEach(async () => {
      valueOrThrow(await put(aState([[model, { chains: [{}, { ready: false }] }]])));
    });

    it("passes a chain that gives a token and receipts, and leaves nothing open or billed", async () => {
      const reply = await probe();
      expect(reply).to.include({ passed: true, code: "", rank: "" });
      expect(reply.timeMs).to.be.greaterThan(0);
      expect(gateway.wire.opened[0]).to.deep.include({ prompt: [256], maxPositions: 2 });
      expect(gateway.wire.closed).to.have.length(1);
      expect(gateway.submissions).to.have.length(0);
      expect((await probe(1)).passed).to.equal(true);
    });

    it("names the rank that is lost", async () => {
      gateway.wire.refused = () => refuse("Unreachable", "rank default/tiny-0-1-0: no connection");
      expect(await probe()).to.include({ passed: false, code: "Unreachable", rank: "default/tiny-0-1-0" });
    });

    it("fails a chain whose receipts do not hold, though it answers", async () => {
      gateway.wire.alter = (receipt) => ({ ...receipt, provider: receipt.provider === "garage" ? "campus" : "garage" });
      const reply = await probe();
      expect(reply.passed).to.equal(false);
      expect(reply.detail).to.contain("its receipts do not hold");
    });

    it("fails a model whose tokenizer is another's", async () => {
      const { json } = tinyTokenizer();
      const bad = tinyModel({
        "tokenizer.json": JSON.stringify({ ...json, added_tokens: [{ id: 99_999, content: "x" }] }),
      });
      const other = await startTestGateway({ models: [bad], state: null });
      other.put(aState([[bad]]));
      const { probe: direct } = await import("./probe.ts");
      const outcome = await direct(other.gateway.prober, other.gateway.keeper.picture, {
        model: "tiny",
        namespace: "default",
        chain: 0,
        tokenCount: 1,
      });
      expect(outcome).to.include({ passed: false, code: "TokenizerMismatch" });
      await other.close();
    });

    it("knows only chains that it was told of", async () => {
      expect(await probe(7)).to.include({ passed: false, code: "UnknownModel" });
      expect(await probe(0, "other")).to.include({ passed: false, code: "UnknownModel" });
    });
  });
});

describe("the picture on disk", () => {
  let directory: string;
  const model = tinyModel();
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "tessellate-picture-"));
  });
  afterEach(async () => rm(directory, { recursive: true }));

  it("serves again after a restart, without a word from the operator", async () => {
    const first = await startTestGateway({ models: [model], directory, state: aState([[model]], { fence: 4 }) });
    await first.close();
    expect(await readdir(directory)).to.include("picture.json");
    const second = await startTestGateway({ models: [model], directory, state: null });
    expect(second.gateway.unready).to.equal(undefined);
    const response = await fetch(`${second.url}/v1/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model: "tiny", prompt: "hi", max_tokens: 2 }),
    });
    expect(response.status).to.equal(200);
    expect(second.gateway.keeper.put(aState([], { fence: 3 }))).to.include({ ok: false, code: "StaleFence" });
    await second.close();
  });

  for (const [name, text] of [
    ["no JSON", "{"],
    ["a picture of another version", '{"fence":1}'],
  ] as const) {
    it(`is passed over where it is ${name}`, async () => {
      await writeFile(join(directory, "picture.json"), text);
      const gateway = await startTestGateway({ models: [model], directory, state: null });
      expect(gateway.gateway.unready).to.contain("not heard");
      expect(gateway.log.map((line) => line.event)).to.include("picture-unreadable");
      await gateway.close();
    });
  }
});
