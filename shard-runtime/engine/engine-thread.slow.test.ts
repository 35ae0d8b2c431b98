import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { RefusalError, valueOrThrow } from "../../core/result.ts";
import { cutSlices } from "../../core/slice.ts";
import { systemClock } from "../../core/wire/clock.ts";
import { aCheckpoint, removed } from "../weights/checkpoint-builder.ts";
import type { OpenModel } from "../weights/open-model.ts";
import { openUnpacked } from "../weights/pack.ts";
import type { Batch } from "./engine.ts";
import { type EngineThread, type EngineThreadOptions, type Exchange, startEngineThread } from "./engine-thread.ts";
import { LocalChain } from "./local-chain.ts";
import { packShard } from "./pack.ts";
import { sumInRankOrder } from "./reduce.ts";

describe("the engine on its own thread", () => {
  let checkpoint: string;
  let cache: string;
  let model: OpenModel;
  const threads: EngineThread[] = [];

  before(async () => {
    checkpoint = await aCheckpoint();
    cache = await mkdtemp(join(tmpdir(), "tessellate-thread-"));
    model = valueOrThrow(await openUnpacked(checkpoint, { clock: systemClock }));
  });
  after(async () => {
    await removed(checkpoint);
    await rm(cache, { recursive: true });
  });
  afterEach(async () => {
    for (const thread of threads.splice(0)) await thread.close();
  });

  async function start(weights: readonly number[], part: Partial<EngineThreadOptions> = {}): Promise<EngineThread[]> {
    const ranks: EngineThread[] = [];
    for (const slice of cutSlices(model.config, weights)) {
      const { directory } = await packShard(
        model.tensors,
        model.config,
        { layers: { start: 0, end: 2 }, slice },
        {
          modelRoot: model.root,
          quantization: "f32",
          cacheDirectory: cache,
        },
      );
      const options = { shardDirectory: directory, device: "cpu", contextLength: 16, slotCount: 2, threadCount: 1 };
      const thread = await startEngineThread({ ...options, spin: false, ...part });
      threads.push(thread);
      ranks.push(thread);
    }
    return ranks;
  }
  const one = async (part: Partial<EngineThreadOptions> = {}) => (await start([1], part))[0] ?? expect.fail("a thread");
  const batch = (session: string, position: number, ...tokens: number[]): Batch => ({
    steps: [{ session, position, rowCount: tokens.length, sample: true }],
    input: Uint32Array.from(tokens),
  });
  const codeOf = (work: Promise<unknown>) =>
    work.then(
      () => "went well",
      (cause: unknown) => (cause instanceof RefusalError ? cause.code : String(cause)),
    );
  async function reference(weights: readonly number[], tokens: readonly number[]): Promise<Float32Array> {
    const options = {
      quantization: "f32",
      cacheDirectory: cache,
      contextLength: 16,
      slotCount: 1,
      threadCount: 1,
      spin: false,
    } as const;
    const chain = await LocalChain.load(model, [{ layers: { start: 0, end: 2 }, sliceWeights: weights }], options);
    chain.acquire("r");
    const logits = chain.feed("r", tokens);
    chain.close();
    return logits;
  }

  /** Adds when the last of `count` ranks has come. */
  function meeting(count: number): (rank: number) => Exchange {
    let arrived: { rank: number; partial: Float32Array; done: () => void }[] = [];
    return (rank) => (partial) =>
      new Promise((done) => {
        arrived.push({ rank, partial, done });
        if (arrived.length < count) return;
        const all = arrived.toSorted((a, b) => a.rank - b.rank);
        arrived = [];
        const sum = new Float32Array(partial.length);
        sumInRankOrder(
          all.map((each) => each.partial),
          sum,
        );
        for (const each of all) {
          each.partial.set(sum);
          each.done();
        }
      });
  }

  it("gives the same bits as in one thread", async () => {
    const thread = await one();
    await thread.acquire("a");
    const { logits } = await thread.run(batch("a", 0, 1, 2, 3));
    expect(logits).to.deep.equal(await reference([1], [1, 2, 3]));
  });

  it("adds up over three uneven ranks, the same bits as in one thread", async () => {
    const ranks = await start([1, 2, 1]);
    const exchange = meeting(3);
    await Promise.all(ranks.map((rank) => rank.acquire("a")));
    const outputs = await Promise.all(ranks.map((rank, index) => rank.run(batch("a", 0, 1, 2, 3), exchange(index))));
    const logits = Float32Array.from(outputs.flatMap((output) => [...output.logits]));
    expect(logits).to.deep.equal(await reference([1, 2, 1], [1, 2, 3]));
  });

  it("carries refusals with their codes and goes on", async () => {
    const thread = await one();
    expect(await codeOf(thread.run(batch("who", 0, 1)))).to.equal("UnknownSession");
    await thread.acquire("a");
    await thread.acquire("b");
    expect(await codeOf(thread.acquire("c"))).to.equal("NoFreeSlot");
    expect(thread.freeSlotCount).to.equal(0);
    expect(await codeOf(thread.run(batch("a", 3, 1)))).to.equal("WrongPosition");
    expect(await codeOf(thread.run(batch("a", 0, 1)))).to.equal("went well");
    await thread.release("b");
    expect(thread.freeSlotCount).to.equal(1);
    expect(await codeOf(thread.acquire("c"))).to.equal("went well");
  });

  it("a failed exchange fails its batch with the same error and leaves the session where it was", async () => {
    const [rank] = await start([1, 1]);
    if (rank === undefined) expect.fail("a thread");
    await rank.acquire("a");
    const lost = new Error("rank 1 is gone");
    expect(await rank.run(batch("a", 0, 1), () => Promise.reject(lost)).catch((cause: unknown) => cause)).to.equal(
      lost,
    );
    const alone: Exchange = () => Promise.resolve();
    expect(await codeOf(rank.run(batch("a", 0, 1), alone))).to.equal("went well");
  });

  it("an exchange that never comes back times out, and its late end does not wake the next one", async () => {
    const [rank] = await start([1, 1], { exchangeTimeoutMs: 1_000 });
    if (rank === undefined) expect.fail("a thread");
    await rank.acquire("a");
    let finishLate = () => {};
    const never: Exchange = () => new Promise((resolve) => (finishLate = resolve));
    expect(await codeOf(rank.run(batch("a", 0, 1), never))).to.include("did not add up within 1000 ms");
    const slow: Exchange = async (partial) => {
      finishLate();
      await new Promise((resolve) => setTimeout(resolve, 5));
      partial.fill(1);
    };
    const expected = await rank.run(batch("a", 0, 1), async (partial) => void partial.fill(1));
    const fresh = await start([1, 1]);
    await fresh[0]?.acquire("a");
    expect((await fresh[0]?.run(batch("a", 0, 1), slow))?.logits).to.deep.equal(expected.logits);
  });

  it("closing finishes what runs and refuses what waits", async () => {
    const thread = await one();
    await thread.acquire("a");
    const running = codeOf(thread.run(batch("a", 0, 1)));
    const waiting = codeOf(thread.run(batch("a", 1, 1)));
    await thread.close();
    expect([await running, await waiting]).to.deep.equal(["went well", "EngineClosed"]);
    expect(await codeOf(thread.acquire("b"))).to.equal("EngineClosed");
    expect(await thread.ended).to.equal(undefined);
  });

  const bad: readonly [about: string, part: Partial<EngineThreadOptions>, says: string][] = [
    ["a device that is not served", { device: "cuda" }, "DeviceMissing"],
    ["a library that is not there", { libraryPath: "/nowhere/libonnxruntime.so" }, "EngineUnavailable"],
    ["a context longer than the model's", { contextLength: 1000 }, "ContextTooLong"],
    ["a folder that holds no shard", { shardDirectory: "/nowhere" }, "holds no packed shard"],
  ];
  for (const [about, part, says] of bad)
    it(`refuses ${about}`, async () => expect(await codeOf(start([1], part))).to.include(says));
});
