/** Each format against a packer written from its description, element by element. */
import { expect } from "chai";
import fc from "fast-check";
import type { SourceQuantization } from "../../../core/quantized-source.ts";
import { type Range, lengthOf } from "../../../core/ranges.ts";
import { RefusalError, valueOrThrow } from "../../../core/result.ts";
import type { TensorBlocks, TensorPart } from "../../engine/tensor-source.ts";
import { type BuiltTensor, safetensors } from "../checkpoint-builder.ts";
import { type TensorEntry, headerBytesOf, parseTensors } from "../safetensors.ts";
import { type StoredPlace, arranged, arrangedBlocks, viewOf, wantedAt } from "../tensor-view.ts";
import { WindowReader } from "../window-reader.ts";
import { CASES, IN, type Matrix, OUT, e4m3, matrix, mixed, placeOf, scaleOf, tensor } from "./format-cases.ts";
import { E4M3 } from "./fp8.ts";
import { formatsOf } from "./formats.ts";

/** Reads a role out of a safetensors file in memory, as a Checkpoint does. */
function opened(tensors: readonly BuiltTensor[], quantization: SourceQuantization, place: StoredPlace) {
  const file = safetensors(tensors);
  const length = valueOrThrow(headerBytesOf("w", file.subarray(0, 8), file.length));
  const entries = valueOrThrow(parseTensors("w", file.subarray(8, 8 + length), file.length));
  const lookup = {
    find: (name: string): Promise<TensorEntry | undefined> => Promise.resolve(entries.get(name)),
    where: ({ name }: TensorEntry) => `w: tensor ${name}`,
    missing: (name: string) => `w: tensor ${name} is not in the file`,
  };
  const windows = new WindowReader({ read: (_path, { start, end }) => Promise.resolve(file.slice(start, end)) });
  async function find(part: TensorPart) {
    for (const format of formatsOf(quantization)) {
      const encoding = await format.encodingOf(wantedAt(place), lookup);
      if (encoding === undefined) continue;
      const view = viewOf(place, encoding, part);
      const raw: Uint8Array[] = [];
      for (const window of encoding.windows(view.rect)) raw.push(await windows.read(window, view.scattered));
      return { encoding, view, raw };
    }
    throw new Error("no format takes it");
  }
  return {
    async read(part: TensorPart = {}): Promise<Float32Array> {
      const { encoding, view, raw } = await find(part);
      return arranged(view, encoding.decode(view.rect, raw), place.add);
    },
    async readBlocks(part: TensorPart = {}): Promise<TensorBlocks | undefined> {
      const { encoding, view, raw } = await find(part);
      const blocks = encoding.blocks?.(view.rect, raw);
      return blocks === undefined ? undefined : arrangedBlocks(view, blocks);
    },
  };
}

/** Blocks back to f32, by MatMulNBits' definition. */
function valuesOfBlocks({ bits, blockSize, values, scales, zeroPoints }: TensorBlocks, rowCount: number): number[] {
  const blockCount = scales.length / rowCount;
  const out: number[] = [];
  for (let row = 0; row < rowCount; row += 1)
    for (let column = 0; column < blockCount * blockSize; column += 1) {
      const block = Math.floor(column / blockSize);
      const stored = bitsAt(values, row * blockCount * blockSize + column, bits);
      const zeroBytes = Math.ceil((blockCount * bits) / 8);
      const zero =
        zeroPoints === undefined
          ? 1 << (bits - 1)
          : bitsAt(zeroPoints.subarray(row * zeroBytes, (row + 1) * zeroBytes), block, bits);
      out.push(Math.fround((stored - zero) * (scales[row * blockCount + block] ?? 0)));
    }
  return out;
}

const bitsAt = (bytes: Uint8Array, index: number, bits: number): number =>
  bits === 8 ? (bytes[index] ?? 0) : ((bytes[index >> 1] ?? 0) >> (index % 2 === 0 ? 0 : 4)) & 15;

const within = (length: number) =>
  fc.tuple(fc.nat(length), fc.nat(length)).map(([a, b]): Range => ({ start: Math.min(a, b), end: Math.max(a, b) }));

const slice = (m: Matrix, rows: Range, columns: Range): number[] =>
  m.slice(rows.start, rows.end).flatMap((row) => row.slice(columns.start, columns.end).map(Math.fround));

describe("quantised checkpoints", () => {
  for (const { name, quantization, tensors, place, values, blocks } of CASES) {
    it(`give any part of a matrix: ${name}`, () => {
      const source = opened(tensors, quantization, place);
      return fc.assert(
        fc.asyncProperty(within(OUT), within(IN), async (rows, columns) => {
          const read = [...(await source.read({ rows, columns }))];
          expect(read.map(plusZero)).to.deep.equal(slice(values, rows, columns).map(plusZero));
        }),
        { numRuns: 60 },
      );
    });

    it(`${blocks === undefined ? "are no blocks" : "are blocks, exactly"}: ${name}`, async () => {
      const source = opened(tensors, quantization, place);
      const rows = { start: 3, end: 20 };
      const columns = blocks ?? { start: 0, end: IN };
      const found = await source.readBlocks({ rows, columns });
      if (found === undefined || blocks === undefined) {
        expect(found).to.equal(blocks);
        return;
      }
      expect(valuesOfBlocks(found, lengthOf(rows)).map(plusZero)).to.deep.equal(
        slice(values, rows, columns).map(plusZero),
      );
      expect(await source.readBlocks({ rows, columns: { start: 8, end: 40 } })).to.equal(undefined);
    });
  }

  it("leave modules alone that were not converted", async () => {
    const plain = tensor("m.q.weight", "F32", matrix(OUT, IN, mixed));
    for (const { quantization } of CASES)
      expect([...(await opened([plain], quantization, placeOf()).read())]).to.deep.equal(matrix(OUT, IN, mixed).flat());
  });

  it("know every finite e4m3", () => {
    for (let byte = 0; byte < 256; byte += 1)
      if ((byte & 0x7f) !== 0x7f) expect(E4M3[byte]).to.equal(e4m3(byte) + 0, `byte ${byte}`);
    expect(E4M3[0x7f]).to.satisfy(Number.isNaN);
  });
});

/** No integer is a negative zero. */
const plusZero = (value: number): number => value + 0;

const without = (tensors: readonly BuiltTensor[], name: string) => tensors.filter((each) => each.name !== name);
const spoilt = (tensors: readonly BuiltTensor[], name: string, change: Partial<BuiltTensor>) =>
  tensors.map((each) => (each.name === name ? { ...each, ...change } : each));

const BAD: readonly {
  name: string;
  of: string;
  spoil: (t: readonly BuiltTensor[]) => readonly BuiltTensor[];
  code: string;
  says: string[];
}[] = [
  {
    name: "scales that are missing",
    of: "awq",
    spoil: (t) => without(t, "m.q.scales"),
    code: "MissingTensor",
    says: ["m.q.scales"],
  },
  {
    name: "zero points of another shape",
    of: "gptq, 4 bits, first format",
    spoil: (t) => spoilt(t, "m.q.qzeros", tensor("m.q.qzeros", "I32", matrix(1, 3, mixed))),
    code: "WrongShape",
    says: ["m.q.qzeros", "[1,3]", "[2,3]"],
  },
  {
    name: "words of another dtype",
    of: "awq",
    spoil: (t) => spoilt(t, "m.q.qweight", tensor("m.q.qweight", "F32", matrix(IN, OUT / 8, mixed))),
    code: "UnsupportedDtype",
    says: ["m.q.qweight", "F32", "I32"],
  },
  {
    name: "a group beyond the groups",
    of: "gptq, 4 bits, desc_act",
    spoil: (t) =>
      spoilt(
        t,
        "m.q.g_idx",
        tensor(
          "m.q.g_idx",
          "I32",
          matrix(IN, 1, () => 4),
          [IN],
        ),
      ),
    code: "MalformedTensors",
    says: ["m.q.g_idx", "group 4 of 4"],
  },
  {
    name: "a grid of scales that does not fit",
    of: "fp8, blocks",
    spoil: (t) => spoilt(t, "m.q.weight_scale_inv", tensor("m.q.weight_scale_inv", "F32", matrix(2, 4, scaleOf))),
    code: "WrongShape",
    says: ["m.q.weight_scale_inv", "[2,4]"],
  },
  {
    name: "values without scales",
    of: "fp8, one scale",
    spoil: (t) => without(t, "m.q.weight_scale"),
    code: "MissingTensor",
    says: ["m.q.weight_scale"],
  },
];

describe("bad quantised checkpoints", () => {
  for (const { name, of, spoil, code, says } of BAD)
    it(`are refused: ${name}`, async () => {
      const found = CASES.find((each) => each.name === of);
      if (found === undefined) throw new Error(`no case ${of}`);
      const source = opened(spoil(found.tensors), found.quantization, found.place);
      const error = await source.read().catch((refused: unknown) => refused);
      expect(error).to.be.instanceOf(RefusalError).and.include({ code });
      for (const said of says) expect(String(error)).to.include(said);
    });
});
