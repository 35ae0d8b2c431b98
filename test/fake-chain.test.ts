/**
 * The chain over real gRPC and mTLS, with engines of whole numbers: whatever the cut, the tokens are the whole model's;
 * receipts fit together; what is wrong is refused by name, and leaves everything running.
 */
import { expect } from "chai";
import type { Step } from "../core/gen/proto/tessellate/shard/v1/Step.ts";
import type { StepRefusal__Output } from "../core/gen/proto/tessellate/shard/v1/StepRefusal.ts";
import { tokenBytes, tokenEdgeRoot } from "../core/hand-off.ts";
import { GATEWAY, type Identity } from "../core/identity.ts";
import type { PublicKey } from "../core/keys.ts";
import type { Fault } from "../core/receipt-chain.ts";
import { type Result, valueOrThrow } from "../core/result.ts";
import { createAuthority } from "../core/wire/authority.ts";
import { dial } from "../core/wire/door.ts";
import { createWire } from "../gateway/session/wire.ts";
import type { SampledToken, Session, SessionRequest } from "../gateway/session/types.ts";
import { type Answer, drive, faultsOf, generate as generateOn, receiptsOf } from "./chain/evidence.ts";
import { FakeChain, type Shape, nameOf } from "./chain/fake-chain.ts";
import { LAYER_COUNT, VOCABULARY_SIZE, referenceTokens } from "./chain/fake-engine.ts";

const promptOf = (length: number, seed = 1): readonly number[] =>
  Array.from({ length }, (_, index) => (index * 7 + seed * 11 + 3) % VOCABULARY_SIZE);

const MODEL = { name: "default/numbers", layerCount: LAYER_COUNT };

const generate = (chain: FakeChain, prompt: readonly number[], count: number, more: Partial<SessionRequest> = {}): Promise<Answer> =>
  generateOn(chain.wire, chain.request(prompt, more), count);

const keysOf = (chain: FakeChain): readonly PublicKey[] => chain.ranks.map(({ key }) => key.publicKey);
const faults = (chain: FakeChain, answer: Answer): readonly Fault[] => faultsOf(answer, keysOf(chain), MODEL);

const SHAPES: readonly (readonly [name: string, shape: Shape])[] = [
  ["one segment", [[1]]],
  ["two segments", [[1], [1]]],
  ["three segments", [[1], [1], [1]]],
  ["six segments", [[1], [1], [1], [1], [1], [1]]],
  ["two ranks", [[1, 1]]],
  ["three uneven ranks", [[1, 2, 3]]],
  ["two ranks, then three, then one", [[3, 1], [1, 1, 2], [1]]],
];

describe("a chain over gRPC", () => {
  for (const [name, shape] of SHAPES)
    describe(name, () => {
      let chain: FakeChain;
      before(async () => {
        chain = await FakeChain.start(shape);
      });
      after(() => chain.stop());

      it("answers as the whole model does, long prompts and short, and all receipts fit", async () => {
        for (const length of [1, 2, 150]) {
          const prompt = promptOf(length, length);
          const answer = await generate(chain, prompt, 6);
          expect(answer.tokens).to.deep.equal(await referenceTokens(prompt, 6));
          const receipts = receiptsOf(answer, keysOf(chain));
          expect(faults(chain, answer)).to.deep.equal([]);
          expect(receipts[0]?.tokens.positions).to.equal(length + 5);
          const { nonce } = answer.request;
          expect(answer.signed.handOffsIn).to.equal(tokenEdgeRoot({ nonce, edge: 0, position: 0 }, [...prompt, ...answer.tokens.slice(0, -1)]));
          expect(answer.signed.handOffsOut).to.equal(tokenEdgeRoot({ nonce, edge: shape.length, position: length }, answer.tokens));
        }
      });

      it("hands on as f16 too", async () => {
        const answer = await generate(chain, promptOf(5), 4, { handOffDtype: "f16" });
        expect(answer.tokens).to.deep.equal(await referenceTokens(promptOf(5), 4));
        expect(faults(chain, answer)).to.deep.equal([]);
      });

      it("gives eight sessions at once the tokens that each would get alone", async () => {
        // Long enough that steps of others come meanwhile.
        for (const { engine } of chain.ranks) engine.before = () => new Promise((resolve) => setTimeout(resolve, 2));
        const prompts = Array.from({ length: 8 }, (_, index) => promptOf(1 + index * 9, index));
        const answers = await Promise.all(prompts.map((prompt) => generate(chain, prompt, 8)));
        for (const [index, answer] of answers.entries()) {
          expect(answer.tokens).to.deep.equal(await referenceTokens(prompts[index] ?? [], 8));
          expect(faults(chain, answer)).to.deep.equal([]);
        }
        expect(chain.rank(0).engine.batches.some(({ steps }) => steps > 1)).to.equal(true);
        for (const rank of chain.ranks) expect(rank.role.sessionCount, rank.name).to.equal(0);
        expect(chain.rank(0).role.freeSlotCount).to.equal(8);
        expect(chain.troubles).to.deep.equal([]);
      });
    });
});

describe("a chain that is asked for the wrong thing", () => {
  let chain: FakeChain;
  before(async () => {
    chain = await FakeChain.start([[1], [1, 1]], { slotCount: 2 });
  });
  after(() => chain.stop());
  afterEach(async () => {
    // Whatever was asked, the next session is served as ever.
    const { tokens } = await generate(chain, promptOf(3), 2);
    expect(tokens).to.deep.equal(await referenceTokens(promptOf(3), 2));
  });

  const refusedOpen = async (more: Partial<SessionRequest>): Promise<Result<Session>> => chain.wire.open(chain.request(promptOf(2), more));
  const segments = () => chain.segments.map(({ layers, ranks }) => ({ layers, ranks: [...ranks] }));

  const cases: readonly (readonly [name: string, code: string, says: string, more: () => Partial<SessionRequest>])[] = [
    ["another model", "ModelMismatch", "modelRoot", () => ({ modelRoot: `sha256:${"00".repeat(32)}` })],
    ["more positions than a slot has", "TooLong", "maxPositions", () => ({ maxPositions: 513 })],
    ["no positions", "BadRequest", "maxPositions", () => ({ maxPositions: 0 })],
    ["a short nonce", "BadRequest", "nonce", () => ({ nonce: new Uint8Array(31) })],
    ["an impossible session id", "BadRequest", "session", () => ({ id: "../../etc" })],
    ["an unknown dtype", "BadRequest", "handOffDtype", () => ({ handOffDtype: "bf16" as "f32" })],
    ["a seed of the wrong length", "BadRequest", "seed", () => ({ sampler: { temperature: 0, topP: 1, seed: new Uint8Array(4) } })],
    ["a top_p of nothing", "BadRequest", "topP", () => ({ sampler: { temperature: 1, topP: 0, seed: new Uint8Array(8) } })],
    ["a temperature that is no number", "BadRequest", "temperature", () => ({ sampler: { temperature: Number.NaN, topP: 1, seed: new Uint8Array(8) } })],
    ["segments in the wrong order", "RouteMismatch", "layer 0", () => ({ chain: segments().reverse() })],
    ["a chain that ends early", "RouteMismatch", "the model has", () => ({ chain: segments().slice(0, 1) })],
    [
      "a rank of another provider",
      "RouteMismatch",
      "somebody",
      () => ({ chain: segments().map((segment) => ({ ...segment, ranks: segment.ranks.map((rank) => ({ ...rank, provider: "somebody" })) })) }),
    ],
    [
      "an address that is none",
      "BadRequest",
      "host:port",
      () => ({
        chain: segments().map((segment, index) => (index === 0 ? segment : { ...segment, ranks: segment.ranks.map((rank, at) => (at === 1 ? { ...rank, address: "unix:/etc/passwd" } : rank)) })),
      }),
    ],
  ];
  for (const [name, code, says, more] of cases)
    it(`refuses ${name}: ${code}`, async () => {
      const refused = await refusedOpen(more());
      expect(refused).to.include({ ok: false, code });
      expect(JSON.stringify(refused)).to.contain(says);
    });

  it("refuses a session more than it has slots, and takes it when one is free", async () => {
    const held = await Promise.all([1, 2].map((seed) => chain.wire.open(chain.request(promptOf(2, seed)))));
    const refused = await refusedOpen({});
    expect(refused).to.include({ ok: false, code: "NoSlot" });
    await Promise.all(held.map(async (session) => valueOrThrow(session).close("cancelled")));
    const taken = valueOrThrow(await refusedOpen({}));
    await taken.close("done");
  });

  it("refuses a second session with the same id", async () => {
    const request = chain.request(promptOf(2));
    const session = valueOrThrow(await chain.wire.open(request));
    expect(await chain.wire.open({ ...request, maxPositions: 7 })).to.include({ ok: false, code: "SessionExists" });
    await session.close("done");
  });

  it("refuses to go past the positions that were asked for", async () => {
    const session = valueOrThrow(await chain.wire.open(chain.request(promptOf(2), { maxPositions: 3 })));
    await drive(session, 2);
    expect(await session.next()).to.include({ ok: false, code: "TooLong" });
    await session.close("done");
  });

  it("names a rank that is not there", async () => {
    const moved = segments().map((segment, index) =>
      index === 0 ? segment : { ...segment, ranks: segment.ranks.map((rank, at) => (at === 0 ? { ...rank, address: "127.0.0.1:1" } : rank)) },
    );
    const refused = await refusedOpen({ chain: moved });
    expect(refused).to.include({ ok: false, code: "Unreachable" });
    expect(JSON.stringify(refused)).to.contain(nameOf(1, 0));
  });

  it("knows a file, and none that it has not", async () => {
    expect(Buffer.from(valueOrThrow(await chain.wire.readFile(chain.rank(0).address, "file"))).toString()).to.equal("a verified file");
    expect(await chain.wire.readFile(chain.rank(0).address, "../secret")).to.include({ ok: false, code: "UnknownFile" });
  });

  it("stays shut to strangers: another authority, an expired certificate, an operator, a rank that is no neighbour", async () => {
    const open = async (identity: Identity, authority = chain.authority, days = 30) => {
      const wire = createWire(await chain.tls(identity, authority, days));
      const refused = await wire.open(chain.request(promptOf(2)));
      await wire.close();
      if (refused.ok) throw new Error("was let in");
      return refused.code;
    };
    expect(await open(GATEWAY, await createAuthority())).to.equal("UnknownIdentity");
    expect(await open({ kind: "operator", name: "operator" })).to.equal("NotMyNeighbour");
    expect(await open({ kind: "rank", name: "default/others-0-0-0" })).to.equal("NotMyNeighbour");
    // Valid for three seconds when it was read, expired when it is shown.
    const late = await chain.tls(GATEWAY, chain.authority, 1.5 / 86_400);
    await new Promise((resolve) => setTimeout(resolve, 1_600));
    const wire = createWire(late);
    const refused = await wire.open(chain.request(promptOf(2)));
    await wire.close();
    expect(refused.ok ? "" : refused.code).to.be.oneOf(["ExpiredCertificate", "Unreachable"]);
  });
});

describe("a rank whose neighbours misbehave", () => {
  let chain: FakeChain;
  before(async () => {
    chain = await FakeChain.start([[1], [1, 1]]);
  });
  after(() => chain.stop());

  const tokensPayload = (tokens: readonly number[]) => ({ dtype: "u32", rows: tokens.length, columns: 1, data: Buffer.from(tokenBytes(tokens)) });
  const hidden = (values: readonly number[]) => Buffer.from(Float32Array.from(values).buffer);

  /** Sends one step by hand to a segment's leader, as `identity`; the refusal that comes back. */
  async function refusalOf(segment: number, identity: Identity, step: (request: SessionRequest) => Step): Promise<StepRefusal__Output> {
    const request = chain.request(promptOf(2));
    const session = valueOrThrow(await chain.wire.open(request));
    const { name, address } = chain.rank(segment).address;
    const client = dial("ShardRuntime", address, await chain.tls(identity), { kind: "rank", name });
    const call = client.Steps();
    const refusal = new Promise<StepRefusal__Output>((resolve, reject) => {
      call.on("data", resolve);
      call.on("error", reject);
    });
    call.write(step(request));
    const came = await refusal;
    call.on("error", () => {});
    call.cancel();
    client.close();
    await session.close("failed");
    return came;
  }

  const LEADER: Identity = { kind: "rank", name: nameOf(0, 0) };
  const cases: readonly (readonly [name: string, segment: number, identity: Identity, code: string, says: string, step: Omit<Step, "session">])[] = [
    ["a step without a payload", 0, GATEWAY, "BadPayload", "no payload", { position: 0 }],
    ["hidden rows where tokens belong", 0, GATEWAY, "BadPayload", "dtype", { position: 0, payload: { dtype: "f32", rows: 1, columns: 8, data: hidden(new Array(8).fill(1)) } }],
    ["fewer bytes than declared", 0, GATEWAY, "BadPayload", "bytes", { position: 0, payload: { ...tokensPayload([1, 2]), rows: 3 } }],
    ["a token beyond the vocabulary", 0, GATEWAY, "BadPayload", "vocabulary", { position: 0, payload: tokensPayload([1, 37]) }],
    ["more rows than a batch has", 0, GATEWAY, "BadPayload", "rows", { position: 0, payload: tokensPayload(promptOf(513)) }],
    ["rows of nothing", 0, GATEWAY, "BadPayload", "rows", { position: 0, payload: tokensPayload([]) }],
    ["a step from the future", 0, GATEWAY, "OutOfOrder", "position 5", { position: 5, payload: tokensPayload([1]) }],
    ["a step past the session's end", 0, GATEWAY, "OutOfOrder", "position 4000000000", { position: 4_000_000_000, payload: tokensPayload([1]) }],
    ["columns that are not the model's", 1, LEADER, "BadPayload", "columns", { position: 0, payload: { dtype: "f32", rows: 1, columns: 4, data: hidden([1, 2, 3, 4]) } }],
    ["a row that is not a number", 1, LEADER, "BadPayload", "column 3", { position: 0, payload: { dtype: "f32", rows: 1, columns: 8, data: hidden([1, 2, 3, Number.NaN, 5, 6, 7, 8]) } }],
    ["another dtype than the session's", 1, LEADER, "BadPayload", "f32", { position: 0, payload: { dtype: "f16", rows: 1, columns: 8, data: Buffer.alloc(16) } }],
    ["steps from the gateway in the middle of the chain", 1, GATEWAY, "ForeignSession", "hands in", { position: 0, payload: tokensPayload([1]) }],
    ["steps from a rank at the beginning of the chain", 0, { kind: "rank", name: nameOf(1, 0) }, "ForeignSession", "hands in", { position: 0, payload: tokensPayload([1]) }],
    ["steps from a neighbour that is not the leader before", 1, { kind: "rank", name: nameOf(1, 1) }, "ForeignSession", "hands in", { position: 0, payload: tokensPayload([1]) }],
  ];
  for (const [name, segment, identity, code, says, step] of cases)
    it(`refuses ${name}: ${code}`, async () => {
      const refusal = await refusalOf(segment, identity, ({ id }) => ({ session: id, ...step }));
      expect(refusal).to.include({ code, rank: nameOf(segment, 0) });
      expect(refusal.detail).to.contain(says);
    });

  it("refuses a session it does not have", async () => {
    const refusal = await refusalOf(0, GATEWAY, () => ({ session: "nobody", position: 0, payload: tokensPayload([1]) }));
    expect(refusal).to.include({ code: "UnknownSession" });
  });

  it("refuses steps at a rank that follows", async () => {
    const client = dial("ShardRuntime", chain.rank(1, 1).address.address, await chain.tls(GATEWAY), { kind: "rank", name: nameOf(1, 1) });
    const call = client.Steps();
    const refusal = new Promise<StepRefusal__Output>((resolve) => call.on("data", resolve));
    call.on("error", () => {});
    call.write({ session: "any", position: 0, payload: tokensPayload([1]) });
    expect((await refusal).code).to.equal("NotLeader");
    call.cancel();
    client.close();
  });

  it("cuts off bytes that are no frame, and serves the others", async () => {
    const client = dial("ShardRuntime", chain.rank(0).address.address, await chain.tls(GATEWAY), { kind: "rank", name: nameOf(0, 0) });
    const call = client.makeBidiStreamRequest("/tessellate.shard.v1.ShardRuntime/Steps", (bytes: Buffer) => bytes, (bytes: Buffer) => bytes);
    const ended = new Promise<{ readonly code?: number }>((resolve) => call.on("error", resolve));
    call.on("data", () => {});
    call.write(Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff]));
    expect((await ended).code).to.be.a("number");
    client.close();
    expect((await generate(chain, promptOf(3), 2)).tokens).to.deep.equal(await referenceTokens(promptOf(3), 2));
  });

  it("answers a repeated step again and computes nothing", async () => {
    const request = chain.request(promptOf(3));
    const session = valueOrThrow(await chain.wire.open(request));
    const first = valueOrThrow(await session.next());
    const before = chain.rank(0).engine.batches.length;
    const client = dial("ShardRuntime", chain.rank(0).address.address, await chain.tls(GATEWAY), { kind: "rank", name: nameOf(0, 0) });
    const call = client.Steps();
    const refusals: StepRefusal__Output[] = [];
    const refused = new Promise<void>((resolve) =>
      call.on("data", (refusal: StepRefusal__Output) => {
        refusals.push(refusal);
        resolve();
      }),
    );
    call.on("error", () => {});
    call.write({ session: request.id, position: 0, payload: tokensPayload(promptOf(3)), sample: true });
    call.write({ session: request.id, position: 0, payload: tokensPayload([1, 2, 3]), sample: true });
    await refused;
    expect(refusals.map(({ code }) => code)).to.deep.equal(["ConflictingStep"]);
    expect(chain.rank(0).engine.batches.length).to.equal(before);
    call.cancel();
    client.close();
    const tokens = [first.tokenId, ...(await drive(session, 2))];
    expect(tokens).to.deep.equal(await referenceTokens(promptOf(3), 3));
    const answer = { tokens, request, signed: await session.close("done") };
    expect(faults(chain, answer)).to.deep.equal([]);
  });

  it("keeps a session to the gateway that opened it", async () => {
    const request = chain.request(promptOf(3));
    const session = valueOrThrow(await chain.wire.open(request));
    const wire = createWire(await chain.tls({ kind: "gateway", name: "another" }));
    expect(await wire.open(request)).to.include({ ok: false, code: "SessionExists" });
    await wire.close();
    expect(await drive(session, 2)).to.deep.equal(await referenceTokens(promptOf(3), 2));
    await session.close("done");
  });
});

describe("a chain that loses a rank", () => {
  const shapes: readonly (readonly [name: string, shape: Shape, segment: number, rank: number])[] = [
    ["the first leader", [[1], [1], [1]], 0, 0],
    ["a leader in the middle", [[1], [1], [1]], 1, 0],
    ["the last leader", [[1], [1], [1]], 2, 0],
    ["a follower", [[1], [1, 1, 1], [1]], 1, 2],
    ["the leader of several", [[1], [1, 1, 1], [1]], 1, 0],
  ];
  for (const [name, shape, segment, rank] of shapes)
    it(`says which: ${name}`, async () => {
      const chain = await FakeChain.start(shape);
      try {
        const session = valueOrThrow(await chain.wire.open(chain.request(promptOf(4))));
        await drive(session, 2);
        await chain.rank(segment, rank).stop();
        let outcome: Result<SampledToken>;
        do outcome = await session.next();
        while (outcome.ok);
        expect(outcome.code).to.be.oneOf(["RankLost", "Draining", "Unreachable"]);
        expect(outcome.detail).to.contain(nameOf(segment, rank));
        const { receipts } = await session.close("failed");
        expect(receipts.length).to.be.below(chain.ranks.length);
        for (const other of chain.ranks) expect(other.role.sessionCount, other.name).to.equal(0);
      } finally {
        await chain.stop();
      }
    });

  it("serves on with those that stay, once a lost follower's segment is joined anew", async () => {
    const chain = await FakeChain.start([[1, 1]]);
    try {
      const session = valueOrThrow(await chain.wire.open(chain.request(promptOf(4))));
      await drive(session, 2);
      // The follower's streams break (as they do when its machine sleeps), the process lives on.
      const follower = chain.rank(0, 1).role;
      if (!("group" in follower)) throw new Error("rank 1 follows");
      (follower.group as { break(refusal: unknown, lost: string): void }).break({ ok: false, code: "RankLost", detail: "cut" }, nameOf(0, 1));
      let outcome: Result<SampledToken>;
      do outcome = await session.next();
      while (outcome.ok);
      expect(outcome.code).to.equal("RankLost");
      await session.close("failed");
      const { tokens } = await generate(chain, promptOf(4), 3);
      expect(tokens).to.deep.equal(await referenceTokens(promptOf(4), 3));
    } finally {
      await chain.stop();
    }
  });
});

describe("a session that ends early", () => {
  let chain: FakeChain;
  before(async () => {
    chain = await FakeChain.start([[1], [1, 1]], { slotCount: 2 });
  });
  after(() => chain.stop());

  it("is signed up to what was handed in, the same by all, though it was closed under way", async () => {
    const request = chain.request(promptOf(150));
    const session = valueOrThrow(await chain.wire.open(request));
    const gate = Promise.withResolvers<void>();
    chain.rank(1).engine.before = () => gate.promise;
    const waiting = session.next();
    await Promise.race([waiting, new Promise((resolve) => setImmediate(resolve))]);
    const closing = session.close("cancelled");
    gate.resolve();
    chain.rank(1).engine.before = async () => {};
    const signed = await closing;
    expect((await waiting).ok).to.equal(false);
    const receipts = receiptsOf({ tokens: [], request, signed }, keysOf(chain));
    expect(new Set(receipts.map(({ tokens }) => tokens.positions)).size).to.equal(1);
    expect(receipts.length).to.equal(3);
    expect(await session.close("done")).to.equal(signed);
  });

  it("is forgotten when its gateway is: the slot is free after a minute", async () => {
    let aheadMs = 0;
    chain.nowMs = () => performance.now() + aheadMs;
    await Promise.all([1, 2].map((seed) => chain.wire.open(chain.request(promptOf(2, seed)))));
    expect(await chain.wire.open(chain.request(promptOf(2)))).to.include({ ok: false, code: "NoSlot" });
    aheadMs = 100_000;
    for (;;) {
      const session = await chain.wire.open(chain.request(promptOf(2)));
      if (session.ok) break;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  });
});
