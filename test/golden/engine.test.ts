/**
 * The engine against Hugging Face transformers (goldens made by tools/goldens), and against itself: cut, batched, chunked
 * and quantised in every way that the system does, the same session must give the same bits.
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "chai";
import { present } from "../../core/assert.ts";
import { splitByWeights } from "../../core/ranges.ts";
import { valueOrThrow } from "../../core/result.ts";
import { systemClock } from "../../core/wire/clock.ts";
import { LocalChain, type LocalModel, type LocalSegment } from "../../shard-runtime/engine/local-chain.ts";
import { machineLibrary } from "../../shard-runtime/engine/native/products.ts";
import type { PackFormat } from "../../shard-runtime/engine/shard.ts";
import { openUnpacked } from "../../shard-runtime/weights/pack.ts";
import { type Golden, answer, distance, indexOfLargest } from "./reference.ts";
import { roundedModel } from "./rounded-model.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const MODELS = [
  { name: "gqa-7to1-untied", folder: "test/golden/gqa-7to1-untied" },
  { name: "mha-sharded", folder: "test/golden/mha-sharded" },
  { name: "tied-odd-vocabulary", folder: "test/golden/tied-odd-vocabulary" },
  { name: "demo", folder: "models/demo" },
  { name: "gqa-7to1-untied", folder: "test/golden/gqa-7to1-untied", ownOperators: true },
];

type CutOptions = {
  readonly quantization?: PackFormat;
  readonly slotCount?: number;
  readonly threadCount?: number;
  readonly contextLength?: number;
};

for (const { name, folder, ownOperators = false } of MODELS)
  describe(`engine: ${name}${ownOperators ? ", our own operators" : ""}`, () => {
    let cache: string;
    let model: LocalModel;
    let goldens: readonly Golden[];
    let whole: LocalChain;
    let products: string | undefined;
    const chains: LocalChain[] = [];

    before(async function () {
      this.timeout(180_000);
      if (ownOperators) {
        const library = await machineLibrary(join(tmpdir(), "tessellate-test-native"));
        if ("reason" in library) return expect.fail(library.reason);
        products = library.path;
      }
      cache = await mkdtemp(join(tmpdir(), "tessellate-golden-"));
      model = valueOrThrow(await openUnpacked(join(ROOT, folder), { clock: systemClock, tokenizer: "optional" }));
      goldens = JSON.parse(await readFile(join(ROOT, "test/golden", name, "goldens.json"), "utf8")).prompts;
      whole = await cut([[1]]);
      chains.pop();
    });
    afterEach(() => {
      for (const chain of chains.splice(0)) chain.close();
    });
    after(async () => {
      whole?.close();
      if (cache !== undefined) await rm(cache, { recursive: true });
    });

    /** One segment for each list of weights, equal runs of layers. */
    async function cut(
      weights: readonly (readonly number[])[],
      options: CutOptions = {},
      source = model,
    ): Promise<LocalChain> {
      const layers = splitByWeights(model.config.layerCount, new Array<number>(weights.length).fill(1));
      const plan: LocalSegment[] = layers.map((range, index) => ({
        layers: range,
        sliceWeights: weights[index] ?? [1],
      }));
      const defaults = { quantization: "f32", slotCount: 6, threadCount: 2, contextLength: 200, spin: false } as const;
      const chain = await LocalChain.load(source, plan, { ...defaults, ...options, products, cacheDirectory: cache });
      chains.push(chain);
      return chain;
    }

    it("64 greedy tokens equal the reference's, logits within 1e-3, for every prompt", () => {
      expect(goldens).to.have.lengthOf.at.least(8);
      for (const golden of goldens) {
        const { logits, tokens } = answer(whole, golden.tokenIds, golden.greedy.length);
        expect(distance(logits, golden.lastLogits)).to.be.below(1e-3);
        expect(tokens).to.deep.equal(golden.greedy);
      }
    });

    it("logits at every position equal the reference's, one token at a time", () => {
      for (const { tokenIds, allLogits } of goldens) {
        whole.acquire("each");
        for (const [position, logits] of (allLogits ?? []).entries())
          expect(distance(whole.feed("each", tokenIds.slice(position, position + 1)), logits)).to.be.below(1e-3);
        whole.release("each");
      }
    });

    for (const quantization of ["f32", "f16", "int8", "int4"] as const) {
      const bits = (chain: LocalChain, chunkLength?: number) =>
        goldens.slice(4, 6).map(({ tokenIds }) => answer(chain, tokenIds, 12, chunkLength));

      it(`${quantization}: 2, 3 and 8 segments give the same bits as one, whatever the threads and the context`, async () => {
        const expected = bits(await cut([[1]], { quantization }));
        for (const count of [2, 3, 8].filter((each) => each <= model.config.layerCount)) {
          const weights = new Array<number[]>(count).fill([1]);
          const options = { quantization, threadCount: 1, slotCount: 1, contextLength: 100 + count };
          expect(bits(await cut(weights, options))).to.deep.equal(expected);
        }
      });

      it(`${quantization}: prompts in chunks of any length give the same bits, decoded tokens too`, async () => {
        const chain = await cut([[1]], { quantization });
        const expected = bits(chain);
        for (const chunkLength of [1, 2, 7, 16]) expect(bits(chain, chunkLength)).to.deep.equal(expected);
      });

      it(`${quantization}: sessions of unlike length give the same bits together as alone`, async () => {
        const chain = await cut([[1]], { quantization });
        const prompts = goldens.slice(0, 6).map(({ tokenIds }) => tokenIds);
        const alone = prompts.map((tokenIds) => answer(chain, tokenIds, 5).tokens);
        const sessions = prompts.map((tokenIds, index) => ({
          session: `s${index}`,
          next: [...tokenIds],
          said: [] as number[],
        }));
        for (const { session } of sessions) chain.acquire(session);
        // Session k joins in round k with its prompt while those before it decode.
        for (let round = 0; round < prompts.length + 5; round += 1) {
          const running = sessions.slice(0, round + 1).filter(({ said }) => said.length < 5);
          if (running.length === 0) break;
          const steps = running.map(({ session, next }) => {
            const position = present(chain.engines[0]?.positionOf(session), "an open session");
            return { session, position, rowCount: next.length, sample: true };
          });
          const logits = chain.run(steps, Uint32Array.from(running.flatMap(({ next }) => next)));
          for (const [index, each] of running.entries()) {
            each.next = [indexOfLargest(present(logits[index], "one for each step"))];
            each.said.push(...each.next);
          }
        }
        expect(sessions.map(({ said }) => said)).to.deep.equal(alone);
      });
    }

    for (const weights of [
      [[1, 1]],
      [[3, 2]],
      [[1, 2, 3]],
      [
        [1, 1],
        [2, 1],
      ],
    ])
      it(`tensor parallel ${JSON.stringify(weights)} stays within 1e-4 and gives the same tokens`, async () => {
        const chain = await cut(weights);
        for (const { tokenIds, greedy } of goldens.slice(3, 6)) {
          const { logits, tokens } = answer(chain, tokenIds, greedy.length);
          expect(distance(logits, answer(whole, tokenIds, 1).logits)).to.be.below(1e-4);
          expect(tokens).to.deep.equal(greedy);
        }
      });

    for (const bits of [8, 4] as const)
      it(`int${bits} computes with the weights it should: near f32 arithmetic over the same rounded weights`, async () => {
        const quantization: PackFormat = bits === 8 ? "int8" : "int4";
        const rounded = roundedModel(model, bits);
        const [packed, reference] = [await cut([[1]], { quantization }), await cut([[1]], {}, rounded)];
        for (const { tokenIds } of goldens.slice(3, 6)) {
          const [ours, theirs] = [answer(packed, tokenIds, 1).logits, answer(reference, tokenIds, 1).logits];
          const error = Math.hypot(...ours.map((value, index) => value - (theirs[index] ?? 0)));
          // What is left are activations rounded to 8 bits before every matrix: half a percent each time, which random
          // weights amplify from layer to layer. The products by themselves are checked to the last digits elsewhere.
          expect(error / Math.hypot(...theirs)).to.be.below(0.15);
        }
      });

    it("a session of NaNs changes no bit of the sessions beside it", async () => {
      const chain = await cut([[1], [1]]);
      const [, second] = chain.engines;
      if (second === undefined) return expect.fail("two segments");
      const width = model.config.hiddenSize;
      const rows = Float32Array.from({ length: 3 * width }, (_, index) => Math.sin(index));
      const hidden = (value: number) => new Float32Array(width).fill(value);
      const said = (broken: boolean) => {
        for (const session of ["before", "broken", "after"]) second.acquire(session);
        const logits = [0, 1, 2].map((position) => {
          const own = rows.subarray(position * width, (position + 1) * width);
          const input = Float32Array.of(...own, ...(broken ? hidden(Number.NaN) : hidden(1)), ...own);
          const steps = ["before", "broken", "after"].map((session) => ({
            session,
            position,
            rowCount: 1,
            sample: session !== "broken",
          }));
          return present(second.forward({ steps, input }).next().value, "an output");
        });
        for (const session of ["before", "broken", "after"]) second.release(session);
        return logits;
      };
      const expected = said(false);
      expect(said(true)).to.deep.equal(expected);
      expect(said(false)).to.deep.equal(expected);
    });
  });
