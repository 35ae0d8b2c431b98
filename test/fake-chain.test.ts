/**
 * The chain over real gRPC and mTLS, with engines of whole numbers: whatever the cut, the tokens are the whole model's,
 * and the receipts fit together; also when ranks are lost and sessions end early.
 */
import { expect } from "chai";
import { tokenEdgeRoot } from "../core/hand-off.ts";
import { GATEWAY } from "../core/identity.ts";
import { type Result, valueOrThrow } from "../core/result.ts";
import type { SampledToken } from "../gateway/session/types.ts";
import { closeRanks } from "../gateway/session/rank-session.ts";
import { createWire } from "../gateway/session/wire.ts";
import { Ranks } from "../gateway/session/step-stream.ts";
import { drive, generate as generateOn, receiptsOf } from "./chain/evidence.ts";
import { faults, generate, keysOf, promptOf } from "./chain/fake-answers.ts";
import { FakeChain, type Shape, nameOf } from "./chain/fake-chain.ts";
import { referenceTokens } from "./chain/fake-engine.ts";

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
          expect(answer.signed.handOffsIn).to.equal(
            tokenEdgeRoot({ nonce, edge: 0, position: 0 }, [...prompt, ...answer.tokens.slice(0, -1)]),
          );
          expect(answer.signed.handOffsOut).to.equal(
            tokenEdgeRoot({ nonce, edge: shape.length, position: length }, answer.tokens),
          );
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
      (follower.group as { break(refusal: unknown, lost: string): void }).break(
        { ok: false, code: "RankLost", detail: "cut" },
        nameOf(0, 1),
      );
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

  it("gives the same receipts to a gateway that asks again", async () => {
    const request = chain.request(promptOf(3));
    const first = await generateOn(chain.wire, request, 3);
    const ranks = new Ranks(await chain.tls(GATEWAY));
    const asked = await closeRanks(ranks, request, "done", 0);
    ranks.close();
    expect(asked).to.deep.equal(first.signed.receipts);
  });

  it("is forgotten sooner when its gateway's connection breaks: the slot is free after a quarter of a minute", async () => {
    let aheadMs = 0;
    chain.nowMs = () => performance.now() + aheadMs;
    const wire = createWire(await chain.tls(GATEWAY));
    for (const seed of [1, 2]) await drive(valueOrThrow(await wire.open(chain.request(promptOf(2, seed)))), 1);
    await wire.close();
    for (;;) {
      const session = await chain.wire.open(chain.request(promptOf(2)));
      if (session.ok) {
        await session.value.close("done");
        break;
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
      aheadMs += 200; // ten times as fast as time
      expect(aheadMs).to.be.below(40_000);
    }
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
