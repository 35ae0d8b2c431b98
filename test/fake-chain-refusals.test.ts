/** What a chain is asked wrong is refused by name, and leaves everything running. */
import { expect } from "chai";
import { GATEWAY, type Identity } from "../core/identity.ts";
import { type Result, valueOrThrow } from "../core/result.ts";
import { createAuthority } from "../core/wire/authority.ts";
import type { Session, SessionRequest } from "../gateway/session/types.ts";
import { createWire } from "../gateway/session/wire.ts";
import { drive } from "./chain/evidence.ts";
import { generate, promptOf } from "./chain/fake-answers.ts";
import { FakeChain, nameOf } from "./chain/fake-chain.ts";
import { referenceTokens } from "./chain/fake-engine.ts";

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

  const refusedOpen = async (more: Partial<SessionRequest>): Promise<Result<Session>> =>
    chain.wire.open(chain.request(promptOf(2), more));
  const segments = () => chain.segments.map(({ layers, ranks }) => ({ layers, ranks: [...ranks] }));

  const cases: readonly (readonly [name: string, code: string, says: string, more: () => Partial<SessionRequest>])[] = [
    ["another model", "ModelMismatch", "modelRoot", () => ({ modelRoot: `sha256:${"00".repeat(32)}` })],
    ["more positions than a slot has", "TooLong", "maxPositions", () => ({ maxPositions: 513 })],
    ["no positions", "BadRequest", "maxPositions", () => ({ maxPositions: 0 })],
    ["a short nonce", "BadRequest", "nonce", () => ({ nonce: new Uint8Array(31) })],
    ["an impossible session id", "BadRequest", "session", () => ({ id: "../../etc" })],
    ["an unknown dtype", "BadRequest", "handOffDtype", () => ({ handOffDtype: "bf16" as "f32" })],
    [
      "a seed of the wrong length",
      "BadRequest",
      "seed",
      () => ({ sampler: { temperature: 0, topP: 1, seed: new Uint8Array(4) } }),
    ],
    [
      "a top_p of nothing",
      "BadRequest",
      "topP",
      () => ({ sampler: { temperature: 1, topP: 0, seed: new Uint8Array(8) } }),
    ],
    [
      "a temperature that is no number",
      "BadRequest",
      "temperature",
      () => ({ sampler: { temperature: Number.NaN, topP: 1, seed: new Uint8Array(8) } }),
    ],
    ["segments in the wrong order", "RouteMismatch", "layer 0", () => ({ chain: segments().reverse() })],
    ["a chain that ends early", "RouteMismatch", "the model has", () => ({ chain: segments().slice(0, 1) })],
    [
      "a rank of another provider",
      "RouteMismatch",
      "somebody",
      () => ({
        chain: segments().map((segment) => ({
          ...segment,
          ranks: segment.ranks.map((rank) => ({ ...rank, provider: "somebody" })),
        })),
      }),
    ],
    [
      "an address that is none",
      "BadRequest",
      "host:port",
      () => ({
        chain: segments().map((segment, index) =>
          index === 0
            ? segment
            : {
                ...segment,
                ranks: segment.ranks.map((rank, at) => (at === 1 ? { ...rank, address: "unix:/etc/passwd" } : rank)),
              },
        ),
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
      index === 0
        ? segment
        : {
            ...segment,
            ranks: segment.ranks.map((rank, at) => (at === 0 ? { ...rank, address: "127.0.0.1:1" } : rank)),
          },
    );
    const refused = await refusedOpen({ chain: moved });
    expect(refused).to.include({ ok: false, code: "Unreachable" });
    expect(JSON.stringify(refused)).to.contain(nameOf(1, 0));
  });

  it("knows a file, and none that it has not", async () => {
    expect(Buffer.from(valueOrThrow(await chain.wire.readFile(chain.rank(0).address, "file"))).toString()).to.equal(
      "a verified file",
    );
    expect(await chain.wire.readFile(chain.rank(0).address, "../secret")).to.include({
      ok: false,
      code: "UnknownFile",
    });
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
    // Valid for two to three seconds when it was read, since ends are whole seconds; expired when it is shown.
    const late = await chain.tls(GATEWAY, chain.authority, 3 / 86_400);
    await new Promise((resolve) => setTimeout(resolve, 3_100));
    const wire = createWire(late);
    const refused = await wire.open(chain.request(promptOf(2)));
    await wire.close();
    expect(refused.ok ? "" : refused.code).to.be.oneOf(["ExpiredCertificate", "Unreachable"]);
  });
});
