import { expect } from "chai";
import { readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { LEAVES_FILE, columnsPathOf } from "../../core/manifest.ts";
import { type Range, lengthOf } from "../../core/ranges.ts";
import { valueOrThrow } from "../../core/result.ts";
import { cutSlices } from "../../core/slice.ts";
import { aCheckpoint, elementOf, hurriedClock, removed } from "./checkpoint-builder.ts";
import { turn } from "./column-copies.ts";
import { type OpenModel, openModel } from "./open-model.ts";
import { packModel } from "./pack.ts";
import type { ModelConfig } from "../../core/model-config.ts";
import { tensorPlaces } from "../../core/tensor-places.ts";
import type { TensorRead } from "./checkpoint.ts";
import { shardReads } from "./shard-reads.ts";

const clock = hurriedClock();
/** 34 MiB a layer in f16. Its down projection is 1024 × 4096. */
const config = {
  hidden_size: 1024,
  intermediate_size: 4096,
  num_hidden_layers: 2,
  num_attention_heads: 16,
  num_key_value_heads: 4,
  vocab_size: 2000,
};
const COPY = columnsPathOf("model.safetensors");

describe("columns of a model's matrices", () => {
  let directory: string;
  before(async function () {
    this.timeout(60_000);
    directory = await aCheckpoint({ config, dtype: "F16" });
    valueOrThrow(await packModel(directory, { clock }));
  });
  after(() => removed(directory));

  const opened = async (): Promise<OpenModel> => valueOrThrow(await openModel({ path: directory }, { clock }));
  const downs = (model: OpenModel) => ["layers.0.down.weight", "layers.1.o.weight"].map((role) => ({ role, model }));

  it("are read as they are in the model's own files, whatever the part", async () => {
    const model = await opened();
    const plain = await withoutCopies();
    const part = fc.record({ rows: rangeWithin(1024), columns: rangeWithin(1024) });
    for (const { role } of downs(model))
      await fc.assert(
        fc.asyncProperty(part, async ({ rows, columns }) => {
          const own = await model.tensors.read(role, { rows, columns });
          const other = await plain.tensors.read(role, { rows, columns });
          return Buffer.compare(Buffer.from(own.buffer), Buffer.from(other.buffer)) === 0;
        }),
        { numRuns: 25 },
      );
  }).timeout(60_000);

  async function withoutCopies(): Promise<OpenModel> {
    const path = join(directory, COPY);
    const bytes = await readFile(path);
    await rm(path);
    try {
      const model = await opened();
      await model.tensors.read("layers.0.down.weight", { columns: { start: 0, end: 1 } }); // finds that there is none
      return model;
    } finally {
      await writeFile(path, bytes);
    }
  }

  for (const weights of [[1], [1, 1], [2, 3, 4]])
    it(`cost little more than themselves: ${weights.length} rank(s)`, async () => {
      for (const slice of cutSlices((await opened()).config, weights)) {
        const model = await opened();
        const reads = shardReads(model.config, { start: 0, end: 2 }, slice);
        let neededBytes = 0;
        for (const { role, part } of reads) neededBytes += 2 * (await model.tensors.read(role, part)).length;
        // The header and 16 KiB at either end of 8 parts of 2 layers: 4 % of a fifth of such small layers.
        expect(model.fetchedBytes() / neededBytes).to.be.below(1.04);
        expect(neededBytes).to.equal(storedBytes(model.config, reads, 2));
      }
    }).timeout(60_000);

  it("are kept while a packer takes a matrix row by row", async () => {
    const model = await opened();
    const columns = { start: 1000, end: 2000 };
    for (let row = 0; row < 1024; row += 64)
      await model.tensors.read("layers.0.down.weight", { rows: { start: row, end: row + 64 }, columns });
    expect(model.fetchedBytes()).to.be.below(1024 * 1000 * 2 * 1.15);
  });

  it("are packed to the same bytes every time, and left out where they are not wanted", async () => {
    const files = await Promise.all([COPY, LEAVES_FILE].map((name) => readFile(join(directory, name))));
    const first = valueOrThrow(await packModel(directory, { clock }));
    const again = await Promise.all([COPY, LEAVES_FILE].map((name) => readFile(join(directory, name))));
    expect(files.map((bytes, index) => again[index]?.equals(bytes))).to.deep.equal([true, true]);
    expect(first.addedBytes).to.equal((await stat(join(directory, COPY))).size);

    const plain = valueOrThrow(await packModel(directory, { clock, columns: false }));
    expect(plain.addedBytes).to.equal(0);
    expect(plain.manifest.files.map(({ path }) => path)).to.not.include(COPY);
    expect(
      await stat(join(directory, COPY)).then(
        () => "there",
        () => "gone",
      ),
    ).to.equal("gone");
    valueOrThrow(await packModel(directory, { clock }));
  }).timeout(60_000);

  it("are read by whole chunks where a leaf's hash is wrong, and refused where a copy's byte is", async () => {
    for (const name of [LEAVES_FILE, COPY]) {
      const path = join(directory, name);
      const bytes = await readFile(path);
      await writeFile(
        path,
        bytes.map((byte) => byte ^ 1),
      );
      try {
        const model = await opened();
        const read = model.tensors.read("layers.0.down.weight", { columns: { start: 8, end: 9 } });
        if (name === LEAVES_FILE) {
          const values = await read;
          const tensor = 9; // in the builder's order
          expect([...values.slice(0, 3)]).to.deep.equal([0, 1, 2].map((row) => elementOf(tensor, row * 4096 + 8)));
        } else {
          const failure = await read.then(
            () => "read",
            (error: unknown) => String(error),
          );
          expect(failure).to.include("is not the manifest's").and.include(COPY);
        }
      } finally {
        await writeFile(path, bytes);
      }
    }
  });

  it("turn lines into columns, for elements of 1, 2 and 4 bytes", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(1, 2, 4),
        fc.integer({ min: 1, max: 90 }),
        fc.integer({ min: 1, max: 90 }),
        (size, lineCount, lineLength) => {
          const bytes = new Uint8Array(lineCount * lineLength * size).map((_, at) => (at * 7) % 251);
          const out = new Uint8Array(bytes.length);
          turn({ bytes, lineCount, lineLength }, { bytes: out, width: lineCount, column: 0 }, size);
          for (let line = 0; line < lineCount; line += 1)
            for (let row = 0; row < lineLength; row += 1)
              for (let byte = 0; byte < size; byte += 1)
                if (out[(row * lineCount + line) * size + byte] !== bytes[(line * lineLength + row) * size + byte])
                  return false;
          return true;
        },
      ),
      { numRuns: 40 },
    );
  });
});

const rangeWithin = (length: number) =>
  fc.tuple(fc.nat(length), fc.nat(length)).map(([a, b]): Range => ({ start: Math.min(a, b), end: Math.max(a, b) }));

/** Bytes of these parts in a checkpoint of `elementBytes` a value. */
function storedBytes(config: ModelConfig, reads: readonly TensorRead[], elementBytes: number): number {
  const shapes = new Map(tensorPlaces(config).map(({ role, shape }) => [role, shape]));
  return reads.reduce((total, { role, part = {} }) => {
    const [rowCount = 1, width = 1] = shapes.get(role) ?? [];
    const rows = part.rows === undefined ? rowCount : lengthOf(part.rows);
    return total + rows * (part.columns === undefined ? width : lengthOf(part.columns)) * elementBytes;
  }, 0);
}
