import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { valueOrThrow } from "../../core/result.ts";
import { type Slice, cutSlices } from "../../core/slice.ts";
import { systemClock } from "../../core/wire/clock.ts";
import { aCheckpoint, removed } from "../weights/checkpoint-builder.ts";
import type { OpenModel } from "../weights/open-model.ts";
import { openUnpacked } from "../weights/pack.ts";
import { packShard, withPackedShard } from "./pack.ts";
import type { PackFormat } from "./shard.ts";

describe("packing a shard", () => {
  let checkpoint: string;
  let model: OpenModel;
  const caches: string[] = [];

  before(async () => {
    checkpoint = await aCheckpoint({ config: { attention_bias: true, mlp_bias: true } });
    model = valueOrThrow(await openUnpacked(checkpoint, { clock: systemClock }));
  });
  after(() => removed(checkpoint));
  afterEach(async () => {
    for (const cache of caches.splice(0)) await rm(cache, { recursive: true });
  });

  const newCache = async () => {
    const cache = await mkdtemp(join(tmpdir(), "tessellate-pack-"));
    caches.push(cache);
    return cache;
  };
  const pack = (cacheDirectory: string, quantization: PackFormat = "int4", slice?: Slice) =>
    packShard(
      model.tensors,
      model.config,
      { layers: { start: 0, end: 2 }, slice: slice ?? slices([1])[0] ?? expect.fail("a slice") },
      { modelRoot: model.root, quantization, cacheDirectory },
    );
  const slices = (weights: readonly number[]) => cutSlices(model.config, weights);

  for (const quantization of ["f32", "f16", "int8", "int4"] as const)
    it(`gives the same bytes everywhere: ${quantization}`, async () => {
      const [one, other] = [await pack(await newCache(), quantization), await pack(await newCache(), quantization)];
      expect(one.digest)
        .to.equal(other.digest)
        .and.match(/^sha256:[0-9a-f]{64}$/);
      for (const name of await readdir(one.directory))
        expect(await readFile(join(one.directory, name))).to.deep.equal(await readFile(join(other.directory, name)));
    });

  it("gives every slice and quantisation its own digest", async () => {
    const cache = await newCache();
    const packed = [await pack(cache, "f32"), await pack(cache, "int8"), await pack(cache, "int4")];
    for (const slice of slices([1, 3])) packed.push(await pack(cache, "int4", slice));
    expect(new Set(packed.map(({ digest }) => digest)).size).to.equal(5);
  });

  it("finds what is packed, and packs anew where a byte has changed", async () => {
    const cache = await newCache();
    const { directory, digest } = await pack(cache);
    const file = join(directory, "weights.bin");
    const bytes = await readFile(file);
    bytes[5000] = (bytes[5000] ?? 0) ^ 1;
    await writeFile(file, bytes);
    expect(await pack(cache)).to.deep.equal({ directory, digest });
    bytes[5000] = (bytes[5000] ?? 0) ^ 1;
    expect(await readFile(file)).to.deep.equal(bytes);
  });

  for (const ending of ["comes to something", "fails"])
    it(`throws away what was loaded of a changed shard, whether it ${ending}`, async () => {
      const cacheDirectory = await newCache();
      const { directory } = await pack(cacheDirectory);
      const file = join(directory, "weights.bin");
      const whole = await readFile(file);
      await writeFile(file, whole.with(5000, (whole[5000] ?? 0) ^ 1));
      const loads: boolean[] = []; // whether the bytes were whole
      const discarded: number[] = [];
      const loaded = await withPackedShard(
        model.tensors,
        model.config,
        { layers: { start: 0, end: 2 }, slice: slices([1])[0] ?? expect.fail("a slice") },
        { modelRoot: model.root, quantization: "int4", cacheDirectory },
        async () => {
          loads.push(whole.equals(await readFile(file)));
          if (ending === "fails" && loads.length === 1) throw new Error("no graph");
          return loads.length;
        },
        (spoilt) => Promise.resolve(void discarded.push(spoilt)),
      );
      expect(loads).to.deep.equal([false, true]);
      expect(loaded).to.equal(2);
      expect(discarded).to.deep.equal(ending === "fails" ? [] : [1]);
    });

  it("several ranks of a node may pack the same shard at once", async () => {
    const cache = await newCache();
    const packed = await Promise.all([pack(cache), pack(cache), pack(cache)]);
    expect(new Set(packed.map(({ digest }) => digest)).size).to.equal(1);
    expect(await readdir(join(cache, "shards"))).to.have.lengthOf(1);
  });

  it("leaves nothing behind where the source refuses", async () => {
    const cache = await newCache();
    const broken = { read: () => Promise.reject(new Error("no such tensor")) };
    const slice = slices([1])[0] ?? expect.fail("a slice");
    const failed = await packShard(
      broken,
      model.config,
      { layers: { start: 0, end: 1 }, slice },
      {
        modelRoot: model.root,
        quantization: "f32",
        cacheDirectory: cache,
      },
    ).catch(String);
    expect(failed).to.include("no such tensor");
    expect(await readdir(join(cache, "shards"))).to.deep.equal([]);
  });
});
