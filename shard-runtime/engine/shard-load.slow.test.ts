import { mkdtemp, open, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { present } from "../../core/assert.ts";
import { valueOrThrow } from "../../core/result.ts";
import { cutSlices } from "../../core/slice.ts";
import { systemClock } from "../../core/wire/clock.ts";
import { operatorsOrSkip } from "../../test/requirement.ts";
import { aCheckpoint, removed } from "../weights/checkpoint-builder.ts";
import type { OpenModel } from "../weights/open-model.ts";
import { openUnpacked } from "../weights/pack.ts";
import { loadEngine } from "./ort-engine.ts";
import { type PackedShard, packShard, withPackedShard } from "./pack.ts";
import { quantizeRows } from "./quantize.ts";
import { DESCRIPTION_FILE, DIGEST_FILE, type PackFormat, readShard } from "./shard.ts";
import { startShardLoad } from "./shard-load.ts";
import type { TensorSource } from "./tensor-source.ts";

/** A head of several pieces, columns that fill no group, a short last block, biases. */
const CONFIG = { hidden_size: 200, vocab_size: 12_300, attention_bias: true, mlp_bias: true };
const TOKENS = [3, 1, 4, 1, 5, 9, 12_299];

describe("a packed shard that native threads read", () => {
  let checkpoint: string;
  let cacheDirectory: string;
  let library: string;
  let model: OpenModel;

  before(async function () {
    this.timeout(180_000);
    checkpoint = await aCheckpoint({ config: { ...CONFIG, num_attention_heads: 4, head_dim: 48 } });
    cacheDirectory = await mkdtemp(join(tmpdir(), "tessellate-load-"));
    model = valueOrThrow(await openUnpacked(checkpoint, { clock: systemClock }));
    library = await operatorsOrSkip(this, cacheDirectory);
  });
  after(async () => {
    await removed(checkpoint);
    await rm(cacheDirectory, { recursive: true });
  });

  const shard = () => ({
    layers: { start: 0, end: 2 },
    slice: present(cutSlices(model.config, [1])[0], "one weight, one slice"),
  });
  const packing = (quantization: PackFormat, modelRoot = model.root) => ({ modelRoot, quantization, cacheDirectory });

  /** Logits of the last token, from an engine that takes its matrices from the load, or lays them out itself. */
  async function logitsOf({ directory, reading }: PackedShard): Promise<Float32Array> {
    const options = { contextLength: 16, slotCount: 1, threadCount: 2, spin: false, products: library };
    const loadHandle = reading?.handle;
    const engine = await loadEngine({ ...options, shardDirectory: directory, device: "cpu", loadHandle });
    try {
      expect(await reading?.intact).to.not.equal(false);
      engine.acquire("s");
      const steps = [{ session: "s", position: 0, rowCount: TOKENS.length, sample: true }];
      const step = engine.forward({ steps, input: Uint32Array.from(TOKENS) }).next();
      return step.done === true ? step.value.logits : expect.fail("one rank exchanges nothing");
    } finally {
      engine.close();
    }
  }

  /** As a source that is quantised already, with zero points. */
  const withZeroPoints = (tensors: TensorSource): TensorSource => ({
    read: (role, part) => tensors.read(role, part),
    readBlocks: async (role, part) => {
      if (part?.columns === undefined || role.startsWith("embedding")) return undefined;
      const width = part.columns.end - part.columns.start;
      const { values, scales } = quantizeRows(await tensors.read(role, part), width, 32, 4);
      const blockCount = Math.ceil(width / 32);
      const zeroPoints = Uint8Array.from(
        { length: (scales.length / blockCount) * Math.ceil(blockCount / 2) },
        (_, index) => (index * 37) % 256,
      );
      return { bits: 4, blockSize: 32, values, scales, zeroPoints };
    },
  });

  const kinds: readonly (readonly [string, PackFormat, (tensors: TensorSource) => TensorSource])[] = [
    ["f32", "f32", (tensors) => tensors],
    ["int8", "int8", (tensors) => tensors],
    ["int4", "int4", (tensors) => tensors],
    ["int4 with zero points", "int4", withZeroPoints],
  ];
  for (const [name, quantization, sourceOf] of kinds)
    it(`gives the bits that an engine gives which lays out by itself: ${name}`, async () => {
      const options = packing(quantization, `sha256:${name}`);
      const source = sourceOf(model.tensors);
      const own = await logitsOf(await packShard(source, model.config, shard(), options));
      for (const threadCount of [1, 3]) {
        const reading = () => Promise.resolve({ library, threadCount, laysOut: true });
        const loaded = await withPackedShard(
          source,
          model.config,
          shard(),
          { ...options, reading },
          (packed) => {
            expect(packed.reading).to.not.equal(undefined);
            return logitsOf(packed);
          },
          () => expect.fail("every byte was right"),
        );
        expect(loaded).to.deep.equal(own);
      }
    });

  it("sees a byte that has changed, wherever it is, and a file that is short or gone", async () => {
    const { directory } = await packShard(model.tensors, model.config, shard(), packing("int4"));
    const { description } = await readShard(directory);
    const isIntact = async (laysOut: boolean) => {
      const reading = startShardLoad(library, directory, description, { threadCount: 2, laysOut });
      const intact = await reading?.intact;
      reading?.end();
      return intact;
    };
    expect([await isIntact(true), await isIntact(false)]).to.deep.equal([true, true]);
    for (const { name, sizeBytes } of description.files)
      for (const place of [0, Math.floor(sizeBytes / 2), sizeBytes - 1]) {
        const file = await open(join(directory, name), "r+");
        const byte = Buffer.alloc(1);
        await file.read(byte, 0, 1, place);
        await file.write(Buffer.of(present(byte[0], "a byte") ^ 0x10), 0, 1, place);
        expect(await isIntact(place > 0), `${name} at ${place}`).to.equal(false);
        await file.write(byte, 0, 1, place);
        await file.close();
      }
    expect(await isIntact(true)).to.equal(true);
    const file = await open(join(directory, "weights.bin"), "r+");
    await file.truncate((await stat(join(directory, "weights.bin"))).size - 1);
    await file.close();
    expect(await isIntact(true)).to.equal(false);
    await rm(join(directory, "weights.bin"));
    expect(await isIntact(true)).to.equal(false);
  });

  it("is packed anew where a byte or its description has changed", async () => {
    const options = {
      ...packing("int8"),
      reading: () => Promise.resolve({ library, threadCount: 2, laysOut: true }),
    };
    const { directory, digest } = await packShard(model.tensors, model.config, shard(), options);
    for (const name of ["weights.bin", "head.onnx", DESCRIPTION_FILE, DIGEST_FILE]) {
      const file = await open(join(directory, name), "r+");
      await file.write(Buffer.of(0x21), 0, 1, 5);
      await file.close();
      expect((await packShard(model.tensors, model.config, shard(), options)).digest, name).to.equal(digest);
    }
    expect((await readShard(directory)).digest).to.equal(digest);
  });
});
