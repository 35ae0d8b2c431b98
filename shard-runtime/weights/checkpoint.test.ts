import { expect } from "chai";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { CHUNK_BYTES } from "../../core/manifest.ts";
import { parseModelConfig } from "../../core/model-config.ts";
import { tensorPlaces } from "../../core/tensor-places.ts";
import type { Range } from "../../core/ranges.ts";
import { valueOrThrow } from "../../core/result.ts";
import type { TensorPart } from "../engine/tensor-source.ts";
import { type CheckpointOptions, TINY, aCheckpoint, elementOf, hurriedClock, removed } from "./checkpoint-builder.ts";
import { type OpenModel, openModel } from "./open-model.ts";
import { makeManifest, openUnpacked, writeManifest } from "./pack.ts";

const clock = hurriedClock();

async function withCheckpoint(options: CheckpointOptions, work: (directory: string) => Promise<void>): Promise<void> {
  const directory = await aCheckpoint(options);
  try {
    await work(directory);
  } finally {
    await removed(directory);
  }
}

async function opened(directory: string): Promise<OpenModel> {
  await writeManifest(directory, valueOrThrow(await makeManifest(directory, { clock })));
  return valueOrThrow(await openModel({ path: directory }, { clock }));
}

const shapesOf = (config: object) =>
  tensorPlaces(valueOrThrow(parseModelConfig(JSON.stringify({ ...TINY, ...config })))).map(
    ({ role, shape }) => [role, shape] as const,
  );

/** What a slice must hold, element by element. */
function expectedPart(tensor: number, shape: readonly number[], { rows, columns }: TensorPart): number[] {
  const width = shape[1] ?? 1;
  const out: number[] = [];
  for (let row = rows?.start ?? 0; row < (rows?.end ?? shape[0] ?? 1); row += 1)
    for (let column = columns?.start ?? 0; column < (columns?.end ?? width); column += 1)
      out.push(elementOf(tensor, row * width + column));
  return out;
}

const within = (length: number) =>
  fc.tuple(fc.nat(length), fc.nat(length)).map(([a, b]): Range => ({ start: Math.min(a, b), end: Math.max(a, b) }));

describe("checkpoints", () => {
  for (const dtype of ["F32", "F16", "BF16"] as const)
    for (const files of [1, 3])
      it(`give any slice of any tensor: ${dtype} in ${files} file(s)`, () =>
        withCheckpoint({ dtype, files }, async (directory) => {
          const { tensors } = await opened(directory);
          const shapes = shapesOf({});
          const slices = fc.nat(shapes.length - 1).chain((tensor) => {
            const [, shape = []] = shapes[tensor] ?? [];
            return fc.record({
              tensor: fc.constant(tensor),
              rows: within(shape[0] ?? 1),
              columns: within(shape[1] ?? 1),
            });
          });
          await fc.assert(
            fc.asyncProperty(slices, async ({ tensor, rows, columns }) => {
              const [name, shape] = shapes[tensor] ?? ["", []];
              expect([...(await tensors.read(name, { rows, columns }))]).to.deep.equal(
                expectedPart(tensor, shape, { rows, columns }),
              );
            }),
            { numRuns: 60 },
          );
        }));

  it("open bare folders too, without a tokenizer", () =>
    withCheckpoint({}, async (directory) => {
      await removed(join(directory, "tokenizer.json"));
      const model = valueOrThrow(await openUnpacked(directory, { clock }));
      expect([...(await model.tensors.read("norm"))]).to.deep.equal(expectedPart(19, [16], {}));
    }));

  it("have the same root wherever and however often they are packed, cards and other files left aside", () =>
    withCheckpoint({ files: 2 }, (first) =>
      withCheckpoint({ files: 2 }, async (second) => {
        await writeFile(join(second, "README.md"), "a card");
        await opened(second); // its own manifest is no part of it either
        const roots = [first, second].map(
          async (directory) => valueOrThrow(await makeManifest(directory, { clock })).root,
        );
        const [a, b] = await Promise.all(roots);
        expect(a).to.equal(b);
      }),
    ));

  it("are read slice by slice: little more than the slice's own bytes", () =>
    withCheckpoint({ config: LARGE, dtype: "F16" }, async (directory) => {
      const names = shapesOf(LARGE);
      await opened(directory);
      for (const { part, reads } of LARGE_SLICES) {
        let last = { doneBytes: 0, totalBytes: 0 };
        const wanted = names
          .filter(([name]) => reads.test(name))
          .map(([role, shape]) => ({ role, part: part(role, shape) }));
        const metered = valueOrThrow(
          await openModel({ path: directory }, { clock, onProgress: (progress) => (last = progress) }),
        );
        await metered.expectReads(wanted);
        let neededBytes = 0;
        for (const { role, part: own } of wanted) neededBytes += 2 * (await metered.tensors.read(role, own)).length;
        // Row slices and whole layers: at most a chunk at either end of each contiguous stretch, and the header's.
        const roundingBytes = (wanted.filter(({ part: own }) => own.rows !== undefined).length * 2 + 4) * CHUNK_BYTES;
        expect(metered.fetchedBytes()).to.be.at.most(1.1 * neededBytes + roundingBytes);
        expect(last).to.include({ doneBytes: metered.fetchedBytes(), totalBytes: metered.fetchedBytes() });
      }
    })).timeout(120_000);

  it("take a whole model without fetching any byte twice, in whatever order", () =>
    withCheckpoint({ config: LARGE, dtype: "F16" }, async (directory) => {
      const model = await opened(directory);
      const names = shapesOf(LARGE).map(([name]) => name);
      for (const name of names.toReversed()) await model.tensors.read(name);
      const weights = model.manifest.files.find(({ path }) => path === "model.safetensors");
      expect(model.fetchedBytes()).to.be.at.most(1.02 * (weights?.sizeBytes ?? 0));
    })).timeout(120_000);
});

/** 8.6 MiB a layer in f16, so that chunks of 1 MiB are the small part. */
const LARGE = {
  hidden_size: 512,
  intermediate_size: 2048,
  num_hidden_layers: 4,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  vocab_size: 6000,
};
const half = (length: number | undefined): Range => ({ start: Math.floor((length ?? 0) / 2), end: length ?? 0 });

const LARGE_SLICES: readonly {
  readonly reads: RegExp;
  readonly part: (name: string, shape: readonly number[]) => TensorPart;
}[] = [
  { reads: /^layers\.2\./, part: () => ({}) },
  { reads: /^layers\.[01]\./, part: () => ({}) },
  { reads: /embedding|head/, part: (_, shape) => ({ rows: half(shape[0]) }) },
  { reads: /layers\.3\.(gate|up|q)\./, part: (_, shape) => ({ rows: half(shape[0]) }) },
];
