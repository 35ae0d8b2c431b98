/**
 * Ranks as processes, real weights, real engines: greedy tokens through gRPC equal transformers' own, however the model
 * is cut; receipts hold and fit; what a rank is told wrong it says, and stays up to say it.
 */
import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { RefusalError } from "../core/result.ts";
import { operatorsOrSkip } from "./requirement.ts";
import { faultsOf, generate, receiptsOf } from "./chain/evidence.ts";
import type { Shape } from "./chain/fake-chain.ts";
import { RealChain, ended, rankName, readyz, startProcess } from "./chain/real-chain.ts";
import { until } from "./until.ts";

type Golden = { readonly tokenIds: readonly number[]; readonly greedy: readonly number[] };

const goldensOf = (checkpoint: string): readonly Golden[] =>
  (
    JSON.parse(readFileSync(`test/golden/${checkpoint}/goldens.json`, "utf8")) as {
      readonly prompts: readonly Golden[];
    }
  ).prompts;

const CHAINS: readonly (readonly [checkpoint: string, name: string, shape: Shape])[] = [
  ["gqa-7to1-untied", "one segment", [[1]]],
  ["gqa-7to1-untied", "two segments", [[1], [1]]],
  ["gqa-7to1-untied", "three segments", [[1], [1], [1]]],
  ["gqa-7to1-untied", "two ranks", [[1, 1]]],
  ["gqa-7to1-untied", "three uneven ranks", [[1, 2, 3]]],
  ["mha-sharded", "a rank, then two uneven ones", [[1], [1, 2]]],
  ["tied-odd-vocabulary", "two ranks, then one", [[2, 1], [1]]],
];

describe("ranks as processes", function () {
  this.timeout(120_000);

  for (const [checkpoint, name, shape] of CHAINS)
    describe(`${checkpoint} as ${name}`, () => {
      let chain: RealChain;
      before(async () => {
        chain = await RealChain.start({ checkpoint: `test/golden/${checkpoint}`, shape });
        await chain.serving();
      });
      after(() => chain.stop());

      const keys = () => chain.ranks.map(({ key }) => key.publicKey);
      const model = () => ({ name: "default/model", layerCount: chain.layerCount });

      it("answers as transformers does, one prompt after the other and all eight at once, with receipts that fit", async () => {
        const goldens = goldensOf(checkpoint);
        const alone = await generate(chain.wire, chain.request(goldens[2]?.tokenIds ?? []), 64);
        expect(alone.tokens).to.deep.equal(goldens[2]?.greedy);
        expect(faultsOf(alone, keys(), model())).to.deep.equal([]);
        const together = await Promise.all(
          goldens.map(({ tokenIds }) => generate(chain.wire, chain.request(tokenIds), 64)),
        );
        for (const [index, answer] of together.entries()) {
          expect(answer.tokens).to.deep.equal(goldens[index]?.greedy);
          expect(faultsOf(answer, keys(), model())).to.deep.equal([]);
        }
        const shares = receiptsOf(alone, keys()).filter(({ segmentIndex }) => segmentIndex === 0);
        expect(shares.reduce((sum, { shard }) => sum + shard.shareMillionths, 0n)).to.equal(1_000_000n);
      });

      it("samples the same tokens from the same seed, whoever else is there", async () => {
        const sampler = { temperature: 0.8, topP: 0.9, seed: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8) };
        const prompt = goldensOf(checkpoint)[4]?.tokenIds ?? [];
        const [first, second] = await Promise.all(
          [1, 2].map(() => generate(chain.wire, chain.request(prompt, { sampler }), 24)),
        );
        expect(first?.tokens).to.deep.equal(second?.tokens);
        expect(new Set(first?.tokens).size).to.be.above(1);
      });
    });
});

describe("a rank as a process", function () {
  this.timeout(60_000);
  const checkpoint = "test/golden/gqa-7to1-untied";

  /** What a chain of one says instead of serving, and that it is still there. */
  async function whyNot(tell: Parameters<typeof RealChain.start>[0]["tell"] & {}): Promise<string> {
    const chain = await RealChain.start({ checkpoint, shape: [[1]], tell });
    try {
      const [rank] = chain.ranks;
      if (rank === undefined) throw new Error("a chain of one has a rank");
      let said = "";
      await until("a reason", async () => (said = (await readyz(rank.metricsAddress)).text).includes(": "));
      expect(await chain.wire.open(chain.request([1]))).to.include({ ok: false, code: "NotServing" });
      expect((await fetch(`http://${rank.metricsAddress}/healthz`)).ok).to.equal(true);
      expect(await ended(rank.child)).to.equal(0);
      return said;
    } finally {
      await chain.stop();
    }
  }

  it("says what it cannot load, and stays up to say it", async () => {
    const said = await Promise.all([
      whyNot((config) => ({ ...config, model: { ...config.model, root: `sha256:${"ab".repeat(32)}` } })),
      whyNot((config) => ({ ...config, device: "cuda" })),
      whyNot((config) => ({ ...config, layers: { start: 0, end: 40 } })),
      whyNot((config) => ({ ...config, model: { ...config.model, source: { path: "/nowhere" } } })),
      whyNot((config) => ({ ...config, provider: "somebody-else" })),
      whyNot((config) => ({ ...config, device: "cuda", kvDtype: "int8" })),
    ]);
    for (const [index, part] of [
      "WrongRoot",
      "DeviceMissing",
      "layers.end",
      "MissingFile",
      "SignerMismatch",
      "KvCacheUnsupported",
    ].entries()) {
      expect(said[index]).to.match(/^Failed/);
      expect(said[index]).to.contain(part);
    }
  });

  it("keeps keys and values in int8 where it is told to, and its receipts say so", async function () {
    await operatorsOrSkip(this, join(tmpdir(), "tessellate-test-native"));
    const chain = await RealChain.start({
      checkpoint,
      shape: [[1], [1, 1]],
      tell: (config) => ({ ...config, kvDtype: "int8" }),
    });
    try {
      await chain.serving();
      const prompts = goldensOf("gqa-7to1-untied").slice(0, 4);
      const answers = await Promise.all(
        prompts.map(({ tokenIds }) => generate(chain.wire, chain.request(tokenIds), 24)),
      );
      const [{ tokenIds } = expect.fail("a prompt")] = prompts;
      const alone = await generate(chain.wire, chain.request(tokenIds), 24);
      expect(alone.tokens).to.deep.equal(answers[0]?.tokens);
      const keys = chain.ranks.map(({ key }) => key.publicKey);
      expect(faultsOf(alone, keys, { name: "default/model", layerCount: chain.layerCount })).to.deep.equal([]);
      for (const { driftClass } of receiptsOf(alone, keys)) expect(driftClass).to.match(/\/tp[12]\/kv-int8$/);
    } finally {
      await chain.stop();
    }
  });

  it("waits for a signer that is not there yet", async () => {
    const said = await whyNot((config) => ({ ...config, signer: "unix:/tmp/tessellate-no-such.sock" }));
    expect(said).to.match(/^Fetching: signer: .*no-such.sock/);
  });

  it("ends with one line that names the field where its configuration is wrong", async () => {
    const chain = await RealChain.start({ checkpoint, shape: [[1]] });
    try {
      const config = JSON.parse(readFileSync(join(chain.directory, "0-0", "rank.json"), "utf8")) as Record<
        string,
        unknown
      >;
      const cases: readonly (readonly [change: Record<string, unknown>, says: string])[] = [
        [{ slotCount: 0 }, "slotCount"],
        [{ surprise: 1 }, "surprise"],
        [{ quantization: "int3" }, "quantization"],
        [{ rankIndex: 1 }, "rankIndex"],
        [{ tls: { caFile: "/nowhere/ca.crt", certificateFile: "b", keyFile: "c" } }, "/nowhere/ca.crt"],
      ];
      await Promise.all(
        cases.map(async ([change, says], index) => {
          const file = join(chain.directory, `wrong-${index}.json`);
          await writeFile(file, JSON.stringify({ ...config, ...change }));
          const failure = await startProcess(file).then(
            () => "it started",
            (error: unknown) => (error instanceof Error ? error.message : String(error)),
          );
          expect(failure).to.contain("ended with 1").and.to.contain(says);
        }),
      );
    } finally {
      await chain.stop();
    }
  });

  it("gives out verified files, counts, drains: sessions that run are finished, new ones refused, exit code 0", async () => {
    const chain = await RealChain.start({ checkpoint, shape: [[1]] });
    try {
      await chain.serving();
      const [rank] = chain.ranks;
      if (rank === undefined) throw new Error("a chain of one has a rank");
      const config = await chain.wire.readFile(rank.address, "config.json");
      if (!config.ok) throw new RefusalError(config);
      expect(Buffer.from(config.value).equals(readFileSync(join(checkpoint, "config.json")))).to.equal(true);
      expect(await chain.wire.readFile(rank.address, "model.safetensors")).to.include({ ok: false, code: "TooLarge" });
      expect(await chain.wire.readFile(rank.address, "../secret")).to.include({ ok: false, code: "UnknownFile" });
      const session = await chain.wire.open(chain.request([1, 2, 3]));
      if (!session.ok) throw new RefusalError(session);
      await session.value.next();
      const metrics = await (await fetch(`http://${rank.metricsAddress}/metrics`)).text();
      expect(metrics).to.match(/^tessellate_steps_total [1-9]/m);
      expect(metrics).to.match(/^tessellate_kv_slots\{state="used"\} 1$/m);
      expect(metrics).to.match(/^tessellate_bytes_fetched_total [1-9]/m);
      const exit = ended(rank.child);
      await until("it to drain", async () => (await readyz(rank.metricsAddress)).text.startsWith("Draining"));
      expect(await chain.wire.open(chain.request([1]))).to.include({ ok: false, code: "Draining" });
      expect((await session.value.next()).ok).to.equal(true);
      expect((await session.value.close("done")).receipts).to.have.length(1);
      expect(await exit).to.equal(0);
    } finally {
      await chain.stop();
    }
  });

  it("names itself when it is killed under a session", async () => {
    const chain = await RealChain.start({ checkpoint, shape: [[1], [1]] });
    try {
      await chain.serving();
      const session = await chain.wire.open(chain.request([1, 2, 3], { maxPositions: 160 }));
      if (!session.ok) throw new RefusalError(session);
      await session.value.next();
      chain.ranks[1]?.child.kill("SIGKILL");
      let outcome = await session.value.next();
      while (outcome.ok) outcome = await session.value.next();
      expect(outcome.detail).to.contain(rankName(1, 0));
      expect((await session.value.close("failed")).receipts).to.have.length(1);
    } finally {
      await chain.stop();
    }
  });
});
