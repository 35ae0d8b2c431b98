/**
 * The promise of docs/decisions/0004, as a property: a row's bits follow from its session's tokens alone. Sessions of
 * unlike length join and leave batches at random, prompts come in chunks of any length, tokens are decoded or prefilled,
 * one thread computes or two; every logit must be the very one that the session gets alone, in one piece.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import fc from "fast-check";
import { present } from "../../core/assert.ts";
import { keptPositions } from "../../core/kv-cache.ts";
import { aModelConfig } from "../../core/model-config-fixture.ts";
import type { ModelConfig } from "../../core/model-config.ts";
import { LocalChain } from "../../shard-runtime/engine/local-chain.ts";
import { operatorsOrSkip } from "../requirement.ts";
import { randomModel } from "./random-model.ts";

const SESSION_COUNT = 4;
const LENGTH_MAX = 40;

const rope = { theta: 10_000, rotarySize: 32, scaling: { kind: "none" } } as const;
const small: Partial<ModelConfig> = {
  hiddenSize: 128,
  layerCount: 3,
  headCount: 4,
  kvHeadCount: 2,
  headSize: 32,
  ffnSize: 256,
  vocabularySize: 101,
  maxPositions: 1024,
};

const MODELS: readonly (readonly [about: string, config: ModelConfig])[] = [
  ["dense", aModelConfig({ ...small, qkvBias: true, qkNorm: "head" })],
  [
    "experts, windows and sinks",
    aModelConfig({
      ...small,
      sinks: true,
      attentionKinds: [{ rope, window: 8 }, { rope }],
      layerKinds: [0, 1, 0].map((attention) => ({ attention, experts: true })),
      activation: { kind: "clampedSwiGlu", alpha: 1.702, limit: 7 },
      experts: { count: 6, perToken: 2, size: 64, weights: "softmaxOfChosen", routerBias: true, bias: true },
    }),
  ],
];

/** One session: its tokens, and the lengths of the pieces in which they come; the last is repeated. */
type Script = { readonly tokens: readonly number[]; readonly pieces: readonly number[]; readonly delay: number };

const scripts: fc.Arbitrary<readonly Script[]> = fc.array(
  fc.record({
    tokens: fc.array(fc.nat(100), { minLength: 1, maxLength: LENGTH_MAX, size: "max" }),
    pieces: fc.array(fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 19 })), { minLength: 1, maxLength: 5 }),
    delay: fc.nat(6),
  }),
  { minLength: 1, maxLength: SESSION_COUNT, size: "max" },
);

type Logits = Map<number, Float32Array>; // by position

/** All sessions together: in each round those that have begun and are not done take one step. */
function together(chain: LocalChain, sessions: readonly Script[]): readonly Logits[] {
  const states = sessions.map((script) => ({ script, at: 0, piece: 0, logits: new Map<number, Float32Array>() }));
  for (const index of states.keys()) chain.acquire(`s${index}`);
  for (let round = 0; states.some(({ script, at }) => at < script.tokens.length); round += 1) {
    const taking = [...states.entries()].filter(
      ([, { script, at }]) => script.delay <= round && at < script.tokens.length,
    );
    if (taking.length === 0) continue;
    const steps = taking.map(([index, { script, at, piece }]) => {
      const wanted = script.pieces[Math.min(piece, script.pieces.length - 1)] ?? 1;
      return {
        session: `s${index}`,
        position: at,
        rowCount: Math.min(wanted, script.tokens.length - at),
        sample: true,
      };
    });
    const tokenIds = taking.flatMap(([, { script, at }], step) =>
      script.tokens.slice(at, at + present(steps[step], "a step for each").rowCount),
    );
    const logits = chain.run(steps, Uint32Array.from(tokenIds));
    for (const [step, [, state]] of taking.entries()) {
      state.at += present(steps[step], "a step for each").rowCount;
      state.piece += 1;
      state.logits.set(state.at - 1, present(logits[step], "every step is sampled"));
    }
  }
  for (const index of states.keys()) chain.release(`s${index}`);
  return states.map(({ logits }) => logits);
}

/** What the session gets alone, prefilled in one piece up to each position that was sampled. */
function alone(chain: LocalChain, { tokens }: Script, positions: Iterable<number>): Logits {
  const logits: Logits = new Map();
  for (const position of positions) {
    chain.acquire("alone");
    logits.set(position, chain.feed("alone", tokens.slice(0, position + 1)));
    chain.release("alone");
  }
  return logits;
}

const KERNELS = [
  { kernels: "ONNX Runtime's operators", quantizations: ["int4", "int8"], kvDtype: "f32" },
  { kernels: "our own operators", quantizations: ["f32", "int4", "int8"], kvDtype: "f32" },
  { kernels: "our own operators, int8 KV", quantizations: ["f32", "int4"], kvDtype: "int8" },
] as const;
const CASES = MODELS.flatMap(([about, config]) => KERNELS.map((each) => ({ about, config, ...each })));

for (const { about, config, kernels, quantizations, kvDtype } of CASES)
  describe(`a row's bits follow from its session: ${about}, ${kernels}`, () => {
    let products: string | undefined;
    before(async function () {
      if (kernels === "ONNX Runtime's operators") return;
      this.timeout(180_000);
      products = await operatorsOrSkip(this, join(tmpdir(), "tessellate-test-native"));
    });

    for (const quantization of quantizations)
      it(`${quantization}: batches, chunks, decoding, threads and the buffer's length change none`, async function () {
        this.timeout(120_000);
        const cacheDirectory = await mkdtemp(join(tmpdir(), "tessellate-determinism-"));
        const slotCount = SESSION_COUNT + 1;
        const options = { quantization, cacheDirectory, slotCount, spin: false, products, kvDtype };
        const plan = [{ layers: { start: 0, end: config.layerCount }, sliceWeights: [1] }];
        const load = (threadCount: number, contextLength: number) =>
          LocalChain.load(randomModel(config), plan, { ...options, threadCount, contextLength });
        try {
          await fc.assert(
            fc.asyncProperty(fc.array(scripts, { minLength: 6, maxLength: 6 }), async (batches) => {
              // The process has one pool of threads: another count needs the first engine closed.
              const one = await load(1, 64);
              const expected = batches.map((sessions) => together(one, sessions));
              one.close();
              const two = await load(2, 83);
              try {
                for (const [index, sessions] of batches.entries()) {
                  const found = together(two, sessions);
                  expect(found).to.deep.equal(expected[index]);
                  for (const [session, logits] of found.entries())
                    expect(logits).to.deep.equal(
                      alone(two, present(sessions[session], "a script for each"), logits.keys()),
                    );
                }
              } finally {
                two.close();
              }
            }),
            { numRuns: 2 },
          );
        } finally {
          await rm(cacheDirectory, { recursive: true });
        }
      });
  });

describe("layers with a window keep the window and the rows that come", () => {
  const windowed = aModelConfig({
    ...small,
    attentionKinds: [{ rope, window: 20 }, { rope }],
    layerKinds: [0, 1, 0].map((attention) => ({ attention, experts: false })),
  });
  const tokens = Array.from({ length: 600 }, (_, index) => (index * 37 + (index >> 3)) % 101);
  const plan = [{ layers: { start: 0, end: windowed.layerCount }, sliceWeights: [1] }];

  for (const kvDtype of ["f32", "int8"] as const)
    it(`${kvDtype}: a session that went round gets what it gets in other pieces, and beside ONNX Runtime's`, async function () {
      this.timeout(180_000);
      const operators = await operatorsOrSkip(this, join(tmpdir(), "tessellate-test-native"));
      const cacheDirectory = await mkdtemp(join(tmpdir(), "tessellate-determinism-"));
      const answer = async (products: string | undefined, chunkLengths: readonly number[]) => {
        const options = { quantization: "f32", cacheDirectory, slotCount: 1, spin: false, threadCount: 2 } as const;
        const kept = { contextLength: tokens.length, products, kvDtype: products === undefined ? "f32" : kvDtype };
        const chain = await LocalChain.load(randomModel(windowed), plan, { ...options, ...kept });
        try {
          return chunkLengths.map((chunkLength) => {
            chain.acquire("s");
            const logits = chain.feed("s", tokens, chunkLength);
            chain.release("s");
            return logits;
          });
        } finally {
          chain.close();
        }
      };
      try {
        expect(keptPositions(tokens.length, 20)).to.be.below(tokens.length);
        const [whole = expect.fail("logits"), ...others] = await answer(operators, [512, 300, 7, 1]);
        for (const other of others) expect(other).to.deep.equal(whole);
        const [theirs = expect.fail("logits")] = await answer(undefined, [512]);
        const far = Math.max(...whole.map((value, index) => Math.abs(value - (theirs[index] ?? Number.NaN))));
        expect(far).to.be.below(kvDtype === "f32" ? 1e-4 : 0.1);
        if (kvDtype === "int8") expect(far).to.be.above(1e-5);
      } finally {
        await rm(cacheDirectory, { recursive: true });
      }
    });
});
