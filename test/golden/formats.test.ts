/**
 * Checkpoints that are quantised already, and GGUF files, against Hugging Face transformers running the numbers that they
 * mean. Codes and scales follow a rule, as in families.test.ts; goldens are made by tools/goldens.
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "chai";
import { valueOrThrow } from "../../core/result.ts";
import { systemClock } from "../../core/wire/clock.ts";
import { LocalChain, type LocalModel } from "../../shard-runtime/engine/local-chain.ts";
import { openUnpacked } from "../../shard-runtime/weights/pack.ts";
import { type RandomWeights, randomCheckpoint } from "./families/random-weights.ts";

const GOLDEN = fileURLToPath(new URL("./formats/", import.meta.url));
const CHECKPOINTS = [
  ...["gptq-128", "gptq-32-asymmetric", "gptq-v2", "awq-128", "awq-32"],
  ...["fp8-block", "fp8-tensor", "mxfp4"],
  ...["compressed-int4", "compressed-int4-asymmetric", "compressed-fp8-tensor", "compressed-fp8-channel"],
  ...["gguf-f16", "gguf-q8-0", "gguf-q4-0", "gguf-k", "gguf-qwen2"],
];

type Golden = {
  readonly tokenIds: readonly number[];
  readonly greedy: readonly number[];
  readonly lastLogits: readonly number[];
  readonly allLogits?: readonly (readonly number[])[];
};

const readJson = async (...path: readonly string[]) => JSON.parse(await readFile(join(GOLDEN, ...path), "utf8"));
const indexOfLargest = (values: Float32Array): number => values.indexOf(Math.max(...values));
const distance = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Array.from(a).reduce((worst, value, index) => Math.max(worst, Math.abs(value - (b[index] ?? Number.NaN))), 0);

for (const name of CHECKPOINTS)
  describe(`format: ${name}`, () => {
    const folders: string[] = [];
    let model: LocalModel;
    let cacheDirectory: string;
    let goldens: readonly Golden[];

    before(async () => {
      const checkpoint = await randomCheckpoint(join(GOLDEN, name));
      cacheDirectory = await mkdtemp(join(tmpdir(), "tessellate-formats-"));
      folders.push(checkpoint, cacheDirectory);
      model = valueOrThrow(await openUnpacked(checkpoint, { clock: systemClock, tokenizer: "optional" }));
      goldens = (await readJson(name, "goldens.json")).prompts;
    });
    after(async () => {
      for (const folder of folders) await rm(folder, { recursive: true });
    });

    it("its codes mean the numbers that the format says, to the last bit", async () => {
      const { sample }: RandomWeights = await readJson(name, "weights.json");
      if (!("role" in sample)) return expect.fail("a sample by role");
      const { length } = sample.rows[0] ?? [];
      const rows = { start: 0, end: sample.rows.length };
      const read = await model.tensors.read(sample.role, { rows, columns: { start: 0, end: length } });
      const unsigned = (values: readonly number[]) => values.map((value) => value + 0); // minus zero is zero
      expect(unsigned([...read])).to.deep.equal(unsigned(sample.rows.flat()));
    });

    for (const weights of [[1], [1, 2]])
      it(`64 greedy tokens equal the reference's, logits within 1e-3, with ${weights.length} ranks`, async () => {
        const layers = { start: 0, end: model.config.layerCount };
        const options = { slotCount: 1, threadCount: 2, contextLength: 128, spin: false, cacheDirectory };
        const plan = [{ layers, sliceWeights: weights }];
        const chain = await LocalChain.load(model, plan, { ...options, quantization: "f32" });
        for (const { tokenIds, greedy, lastLogits } of goldens) {
          chain.acquire("answer");
          const logits = chain.feed("answer", tokenIds);
          const tokens = [indexOfLargest(logits)];
          while (tokens.length < greedy.length) tokens.push(indexOfLargest(chain.feed("answer", tokens.slice(-1))));
          chain.release("answer");
          expect(distance(logits, lastLogits)).to.be.below(1e-3);
          expect(tokens).to.deep.equal(greedy);
        }
        chain.close();
      });
  });
