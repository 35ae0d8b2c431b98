/**
 * Every family against Hugging Face transformers, on tiny random checkpoints: at least two unlike configurations each, one
 * with every option on. Weights follow a rule (families/random-weights.ts); goldens are made by tools/goldens. The same
 * session must give the same bits however it is cut and chunked, in every number format.
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
import { LocalChain, type LocalModel } from "../../shard-runtime/engine/local-chain.ts";
import type { PackFormat } from "../../shard-runtime/engine/shard.ts";
import { openUnpacked } from "../../shard-runtime/weights/pack.ts";
import { type RandomWeights, randomCheckpoint, randomTensors } from "./families/random-weights.ts";
import { type Golden, answer, distance, indexOfLargest } from "./reference.ts";

const GOLDEN = fileURLToPath(new URL("./families/", import.meta.url));
const CHECKPOINTS = [
  ...["llama-2", "llama-3-all", "llama-linear"],
  ...["mistral-plain", "mistral-window"],
  ...["qwen2-tied", "qwen2-all", "qwen3-tied", "qwen3-all"],
  ...["gemma2-published", "gemma2-all", "gemma3-published", "gemma3-all"],
  ...["phi3-plain", "phi3-short", "phi4-long"],
  ...["olmo2-published", "olmo2-all"],
  ...["granite-published", "granite-all"],
  ...["smollm3-published", "smollm3-all"],
  ...["mixtral-published", "mixtral-all"],
  ...["qwen3-moe-published", "qwen3-moe-all"],
  ...["gpt-oss-published", "gpt-oss-all"],
];

const readJson = async (...path: readonly string[]) => JSON.parse(await readFile(join(GOLDEN, ...path), "utf8"));

for (const name of CHECKPOINTS)
  describe(`family: ${name}`, () => {
    const folders: string[] = [];
    const chains: LocalChain[] = [];
    let model: LocalModel;
    let cacheDirectory: string;
    let goldens: readonly Golden[];

    before(async () => {
      const checkpoint = await randomCheckpoint(join(GOLDEN, name));
      cacheDirectory = await mkdtemp(join(tmpdir(), "tessellate-families-"));
      folders.push(checkpoint, cacheDirectory);
      model = valueOrThrow(await openUnpacked(checkpoint, { clock: systemClock, tokenizer: "optional" }));
      goldens = (await readJson(name, "goldens.json")).prompts;
    });
    afterEach(() => {
      for (const chain of chains.splice(0)) chain.close();
    });
    after(async () => {
      for (const folder of folders) await rm(folder, { recursive: true });
    });

    /** One segment for each list of weights, equal runs of layers. */
    async function cut(weights: readonly (readonly number[])[], quantization: PackFormat): Promise<LocalChain> {
      const layers = splitByWeights(model.config.layerCount, new Array<number>(weights.length).fill(1));
      const plan = layers.map((range, index) => ({ layers: range, sliceWeights: weights[index] ?? [1] }));
      const options = { slotCount: 3, threadCount: 2, contextLength: 128, spin: false, quantization, cacheDirectory };
      const chain = await LocalChain.load(model, plan, options);
      chains.push(chain);
      return chain;
    }

    it("its weights are those that the goldens were made with", async () => {
      const weights: RandomWeights = await readJson(name, "weights.json");
      const { sample } = weights;
      if (!("name" in sample)) return expect.fail("a sample by name");
      expect(randomTensors(weights).map((tensor) => tensor.name)).to.include(sample.name);
      const role = sample.name === "lm_head.weight" ? "head.weight" : "embedding.weight";
      const row = await model.tensors.read(role, { rows: { start: 0, end: 1 } });
      expect([...row.subarray(0, sample.values.length)]).to.deep.equal(sample.values);
    });

    it("64 greedy tokens equal the reference's, logits within 1e-3", async () => {
      const whole = await cut([[1]], "f32");
      expect(goldens).to.have.lengthOf(5);
      for (const golden of goldens) {
        const { logits, tokens } = answer(whole, golden.tokenIds, golden.greedy.length);
        expect(distance(logits, golden.lastLogits)).to.be.below(1e-3);
        expect(tokens).to.deep.equal(golden.greedy);
      }
    });

    it("logits at every position equal the reference's, one token at a time", async () => {
      const { tokenIds, allLogits } = present(
        goldens.find((golden) => golden.allLogits !== undefined),
        "one prompt has all logits",
      );
      const whole = await cut([[1]], "f32");
      whole.acquire("each");
      const distances = (allLogits ?? []).map((logits, position) =>
        distance(whole.feed("each", tokenIds.slice(position, position + 1)), logits),
      );
      expect(distances).to.have.lengthOf(tokenIds.length);
      expect(Math.max(...distances)).to.be.below(1e-3);
    });

    for (const quantization of ["f32", "int8", "int4"] as const)
      it(`${quantization}: the same bits in 2, 3 and N segments, and in chunks of any length`, async () => {
        const bits = (chain: LocalChain, chunkLength?: number) =>
          goldens.slice(2, 4).map(({ tokenIds }) => answer(chain, tokenIds, 8, chunkLength));
        const whole = await cut([[1]], quantization);
        const expected = bits(whole);
        for (const chunkLength of [1, 7, 8]) expect(bits(whole, chunkLength)).to.deep.equal(expected);
        for (const count of [2, 3, model.config.layerCount])
          expect(bits(await cut(new Array<number[]>(count).fill([1]), quantization)), `${count}`).to.deep.equal(
            expected,
          );
      });

    for (const quantization of ["f32", "int8", "int4"] as const)
      it(`${quantization}: three sessions of unlike length give the same bits together as alone`, async () => {
        const chain = await cut([[1]], quantization);
        const prompts = goldens.slice(1, 4).map(({ tokenIds }) => tokenIds);
        const alone = prompts.map((tokenIds) => answer(chain, tokenIds, 6).tokens);
        const sessions = prompts.map((tokenIds, index) => ({
          session: `s${index}`,
          position: 0,
          next: [...tokenIds],
          said: [] as number[],
        }));
        for (const { session } of sessions) chain.acquire(session);
        while (sessions.some(({ said }) => said.length < 6)) {
          const steps = sessions.map(({ session, position, next }) => {
            return { session, position, rowCount: next.length, sample: true };
          });
          const logits = chain.run(steps, Uint32Array.from(sessions.flatMap(({ next }) => next)));
          for (const [index, each] of sessions.entries()) {
            each.position += each.next.length;
            each.next = [indexOfLargest(present(logits[index], "one for each step"))];
            each.said.push(...each.next);
          }
        }
        expect(sessions.map(({ said }) => said)).to.deep.equal(alone);
      });

    for (const weights of [[[1, 1]], [[1, 2, 3]], [[2, 1], [1]]])
      it(`tensor parallel ${JSON.stringify(weights)} stays within 1e-4 and gives the same tokens`, async () => {
        const [whole, sliced] = [await cut([[1]], "f32"), await cut(weights, "f32")];
        for (const { tokenIds, greedy } of goldens.slice(1, 4)) {
          const { logits, tokens } = answer(sliced, tokenIds, greedy.length);
          expect(distance(logits, answer(whole, tokenIds, 1).logits)).to.be.below(1e-4);
          expect(tokens).to.deep.equal(greedy);
        }
      });
  });
