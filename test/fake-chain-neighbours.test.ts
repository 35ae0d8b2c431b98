/** What neighbours of a rank send wrong is refused by name, costs them and nobody else. */
import type { ClientDuplexStream } from "@grpc/grpc-js";
import { expect } from "chai";
import type { GroupFrame } from "../core/gen/proto/tessellate/shard/v1/GroupFrame.ts";
import type { GroupFrame__Output } from "../core/gen/proto/tessellate/shard/v1/GroupFrame.ts";
import type { Step } from "../core/gen/proto/tessellate/shard/v1/Step.ts";
import type { StepRefusal__Output } from "../core/gen/proto/tessellate/shard/v1/StepRefusal.ts";
import { tokenBytes } from "../core/hand-off.ts";
import { GATEWAY, type Identity } from "../core/identity.ts";
import { valueOrThrow } from "../core/result.ts";
import { dial } from "../core/wire/door.ts";
import { refusalOf as refusalOfCall } from "../core/wire/status.ts";
import type { SessionRequest } from "../gateway/session/types.ts";
import { createWire } from "../gateway/session/wire.ts";
import { drive } from "./chain/evidence.ts";
import { faults, generate, promptOf } from "./chain/fake-answers.ts";
import { FakeChain, nameOf } from "./chain/fake-chain.ts";
import { referenceTokens } from "./chain/fake-engine.ts";

describe("a rank whose neighbours misbehave", () => {
  let chain: FakeChain;
  before(async () => {
    chain = await FakeChain.start([[1], [1, 1]]);
  });
  after(() => chain.stop());

  const tokensPayload = (tokens: readonly number[]) => ({
    dtype: "u32",
    rows: tokens.length,
    columns: 1,
    data: Buffer.from(tokenBytes(tokens)),
  });
  const hidden = (values: readonly number[]) => Buffer.from(Float32Array.from(values).buffer);

  /** Sends one step by hand to a segment's leader, as `identity`; the refusal that comes back. */
  async function refusalOf(
    segment: number,
    identity: Identity,
    step: (request: SessionRequest) => Step,
  ): Promise<StepRefusal__Output> {
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
  const cases: readonly (readonly [
    name: string,
    segment: number,
    identity: Identity,
    code: string,
    says: string,
    step: Omit<Step, "session">,
  ])[] = [
    ["a step without a payload", 0, GATEWAY, "BadPayload", "no payload", { position: 0 }],
    [
      "hidden rows where tokens belong",
      0,
      GATEWAY,
      "BadPayload",
      "dtype",
      { position: 0, payload: { dtype: "f32", rows: 1, columns: 8, data: hidden(new Array(8).fill(1)) } },
    ],
    [
      "fewer bytes than declared",
      0,
      GATEWAY,
      "BadPayload",
      "bytes",
      { position: 0, payload: { ...tokensPayload([1, 2]), rows: 3 } },
    ],
    [
      "a token beyond the vocabulary",
      0,
      GATEWAY,
      "BadPayload",
      "vocabulary",
      { position: 0, payload: tokensPayload([1, 37]) },
    ],
    [
      "more rows than a batch has",
      0,
      GATEWAY,
      "BadPayload",
      "rows",
      { position: 0, payload: tokensPayload(promptOf(513)) },
    ],
    ["rows of nothing", 0, GATEWAY, "BadPayload", "rows", { position: 0, payload: tokensPayload([]) }],
    ["a step from the future", 0, GATEWAY, "OutOfOrder", "position 5", { position: 5, payload: tokensPayload([1]) }],
    [
      "a step past the session's end",
      0,
      GATEWAY,
      "OutOfOrder",
      "position 4000000000",
      { position: 4_000_000_000, payload: tokensPayload([1]) },
    ],
    [
      "columns that are not the model's",
      1,
      LEADER,
      "BadPayload",
      "columns",
      { position: 0, payload: { dtype: "f32", rows: 1, columns: 4, data: hidden([1, 2, 3, 4]) } },
    ],
    [
      "a row that is not a number",
      1,
      LEADER,
      "BadPayload",
      "column 3",
      { position: 0, payload: { dtype: "f32", rows: 1, columns: 8, data: hidden([1, 2, 3, Number.NaN, 5, 6, 7, 8]) } },
    ],
    [
      "another dtype than the session's",
      1,
      LEADER,
      "BadPayload",
      "f32",
      { position: 0, payload: { dtype: "f16", rows: 1, columns: 8, data: Buffer.alloc(16) } },
    ],
    [
      "steps from the gateway in the middle of the chain",
      1,
      GATEWAY,
      "ForeignSession",
      "hands in",
      { position: 0, payload: tokensPayload([1]) },
    ],
    [
      "steps from a rank at the beginning of the chain",
      0,
      { kind: "rank", name: nameOf(1, 0) },
      "ForeignSession",
      "hands in",
      { position: 0, payload: tokensPayload([1]) },
    ],
    [
      "steps from a neighbour that is not the leader before",
      1,
      { kind: "rank", name: nameOf(1, 1) },
      "ForeignSession",
      "hands in",
      { position: 0, payload: tokensPayload([1]) },
    ],
  ];
  for (const [name, segment, identity, code, says, step] of cases)
    it(`refuses ${name}: ${code}`, async () => {
      const refusal = await refusalOf(segment, identity, ({ id }) => ({ session: id, ...step }));
      expect(refusal).to.include({ code, rank: nameOf(segment, 0) });
      expect(refusal.detail).to.contain(says);
    });

  it("refuses a session it does not have", async () => {
    const refusal = await refusalOf(0, GATEWAY, () => ({
      session: "nobody",
      position: 0,
      payload: tokensPayload([1]),
    }));
    expect(refusal).to.include({ code: "UnknownSession" });
  });

  it("refuses steps at a rank that follows", async () => {
    const client = dial("ShardRuntime", chain.rank(1, 1).address.address, await chain.tls(GATEWAY), {
      kind: "rank",
      name: nameOf(1, 1),
    });
    const call = client.Steps();
    const refusal = new Promise<StepRefusal__Output>((resolve) => call.on("data", resolve));
    call.on("error", () => {});
    call.write({ session: "any", position: 0, payload: tokensPayload([1]) });
    expect((await refusal).code).to.equal("NotLeader");
    call.cancel();
    client.close();
  });

  it("cuts off bytes that are no frame, and serves the others", async () => {
    const client = dial("ShardRuntime", chain.rank(0).address.address, await chain.tls(GATEWAY), {
      kind: "rank",
      name: nameOf(0, 0),
    });
    const call = client.makeBidiStreamRequest(
      "/tessellate.shard.v1.ShardRuntime/Steps",
      (bytes: Buffer) => bytes,
      (bytes: Buffer) => bytes,
    );
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
    const client = dial("ShardRuntime", chain.rank(0).address.address, await chain.tls(GATEWAY), {
      kind: "rank",
      name: nameOf(0, 0),
    });
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

  /** Opens a Group stream to rank 1 of the last segment as `identity`, says `frames`; how the stream ends. */
  async function groupEnds(identity: Identity, frames: readonly GroupFrame[], to = nameOf(1, 1)): Promise<string> {
    const rank = chain.ranks.find(({ name }) => name === to);
    if (rank === undefined) throw new Error(`no rank ${to}`);
    const client = dial("ShardRuntime", rank.address.address, await chain.tls(identity), { kind: "rank", name: to });
    const call: ClientDuplexStream<GroupFrame, GroupFrame__Output> = client.Group();
    const ended = new Promise<string>((resolve) =>
      call.on("error", (error) => resolve(refusalOfCall(error, "rank").code)),
    );
    call.on("data", () => {});
    for (const frame of frames) call.write(frame);
    const code = await ended;
    client.close();
    return code;
  }

  const hello = (rank: string): GroupFrame => ({ hello: { rank } });
  const SECOND_LEADER: Identity = { kind: "rank", name: nameOf(1, 0) };
  const row = { session: "s", position: 0, tokenCount: 1, sample: false };
  const groupCases: readonly (readonly [
    name: string,
    identity: Identity,
    frames: readonly GroupFrame[],
    code: string,
  ])[] = [
    ["from a gateway", GATEWAY, [hello("gateway")], "NotMyNeighbour"],
    ["from a rank of another segment", LEADER, [hello(nameOf(0, 0))], "NotMyNeighbour"],
    [
      "that begins without hello",
      SECOND_LEADER,
      [{ partial: { batch: 1, exchange: 0, data: Buffer.alloc(32) } }],
      "BadFrame",
    ],
    ["that says another's name", SECOND_LEADER, [hello(nameOf(0, 0))], "BadFrame"],
    ["with an empty frame", SECOND_LEADER, [hello(nameOf(1, 0)), {}], "RankLost"],
    [
      "with a batch out of order",
      SECOND_LEADER,
      [hello(nameOf(1, 0)), { batch: { batch: 7, rows: [row], inputs: [] } }],
      "RankLost",
    ],
    [
      "with rows that are no hidden rows",
      SECOND_LEADER,
      [
        hello(nameOf(1, 0)),
        { batch: { batch: 1, rows: [row], inputs: [{ dtype: "f32", rows: 1, columns: 8, data: Buffer.alloc(5) }] } },
      ],
      "RankLost",
    ],
    [
      "with a batch for a session that holds no slot",
      SECOND_LEADER,
      [
        hello(nameOf(1, 0)),
        { batch: { batch: 1, rows: [row], inputs: [{ dtype: "f32", rows: 1, columns: 8, data: Buffer.alloc(32) }] } },
      ],
      "RankLost",
    ],
    [
      "with sums that nobody waits for",
      SECOND_LEADER,
      [
        hello(nameOf(1, 0)),
        ...[1, 2, 3, 4].map((exchange) => ({ partial: { batch: 9, exchange, data: Buffer.alloc(32) } })),
      ],
      "RankLost",
    ],
  ];
  for (const [name, identity, frames, code] of groupCases)
    it(`drops a group stream ${name}: ${code}`, async () => {
      expect(await groupEnds(identity, frames)).to.equal(code);
      expect((await generate(chain, promptOf(3), 2)).tokens).to.deep.equal(await referenceTokens(promptOf(3), 2));
    });

  it("takes no group stream where it leads", async () => {
    expect(await groupEnds(LEADER, [hello(nameOf(0, 0))], nameOf(1, 0))).to.equal("NotMyNeighbour");
  });
});
