/**
 * Checkpoints that are quantised already, and GGUF files, against Hugging Face transformers running the numbers that they
 * mean. Codes and scales follow a rule, as in families.test.ts; goldens are made by tools/goldens.
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "chai";
import { parseModelConfig } from "../../core/model-config.ts";
import { valueOrThrow } from "../../core/result.ts";
import { systemClock } from "../../core/wire/clock.ts";
import { LocalChain, type LocalModel } from "../../shard-runtime/engine/local-chain.ts";
import type { PackFormat } from "../../shard-runtime/engine/shard.ts";
import type { TensorSource } from "../../shard-runtime/engine/tensor-source.ts";
import { openUnpacked, packModel } from "../../shard-runtime/weights/pack.ts";
import { type RandomWeights, randomCheckpoint } from "./families/random-weights.ts";
import { type Golden, answer, distance } from "./reference.ts";

const GOLDEN = fileURLToPath(new URL("./formats/", import.meta.url));
const CHECKPOINTS = [
  ...["gptq-128", "gptq-32-asymmetric", "gptq-v2", "awq-128", "awq-32"],
  ...["fp8-block", "fp8-tensor", "mxfp4"],
  ...["compressed-int4", "compressed-int4-asymmetric", "compressed-fp8-tensor", "compressed-fp8-channel"],
  ...["gguf-f16", "gguf-q8-0", "gguf-q4-0", "gguf-k", "gguf-qwen2"],
  ...["gguf-gemma2", "gguf-gemma3", "gguf-phi3", "gguf-granite", "gguf-olmo2", "gguf-smollm3"],
  ...["gguf-mixtral", "gguf-qwen3-moe", "gguf-gpt-oss"],
];
/** Formats whose blocks are the engine's own int4. */
const HELD_AS_STORED = /^(gptq|awq|compressed-int4|gguf-q4)/;

const readJson = async (...path: readonly string[]) => JSON.parse(await readFile(join(GOLDEN, ...path), "utf8"));

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

    if (name.startsWith("gguf"))
      it("its metadata alone says the same as its config.json", async () => {
        const alone = await randomCheckpoint(join(GOLDEN, name));
        folders.push(alone);
        await rm(join(alone, "config.json"));
        const { manifest } = valueOrThrow(await packModel(alone, { clock: systemClock, tokenizer: "optional" }));
        const written = valueOrThrow(parseModelConfig(manifest.configText));
        expect(written).to.deep.equal(model.config);
      });

    async function loaded(quantization: PackFormat, sliceWeights: readonly number[], tensors: TensorSource) {
      const plan = [{ layers: { start: 0, end: model.config.layerCount }, sliceWeights }];
      const root = `${model.root}${tensors === model.tensors ? "" : "-rounded"}`;
      const options = { slotCount: 1, threadCount: 2, contextLength: 128, spin: false, cacheDirectory, quantization };
      return LocalChain.load({ ...model, root, tensors }, plan, options);
    }

    for (const weights of [[1], [1, 2]])
      it(`64 greedy tokens equal the reference's, logits within 1e-3, with ${weights.length} ranks`, async () => {
        const chain = await loaded("f32", weights, model.tensors);
        for (const { tokenIds, greedy, lastLogits } of goldens) {
          const { logits, tokens } = answer(chain, tokenIds, greedy.length);
          expect(distance(logits, lastLogits)).to.be.below(1e-3);
          expect(tokens).to.deep.equal(greedy);
        }
        chain.close();
      });

    if (HELD_AS_STORED.test(name))
      it("int4 holds its codes as they are: far nearer to it than rounding them again", async () => {
        const error = async (tensors: TensorSource) => {
          const chain = await loaded("int4", [1], tensors);
          const errors = goldens.map(({ tokenIds, lastLogits }) => {
            const { logits } = answer(chain, tokenIds, 1);
            const difference = logits.map((value, index) => value - (lastLogits[index] ?? Number.NaN));
            return Math.hypot(...difference) / Math.hypot(...lastLogits);
          });
          chain.close();
          return errors.reduce((sum, each) => sum + each, 0) / errors.length;
        };
        const asNumbers: TensorSource = { read: (role, part) => model.tensors.read(role, part) };
        expect(await error(model.tensors)).to.be.below(0.6 * (await error(asNumbers)));
      });
  });
