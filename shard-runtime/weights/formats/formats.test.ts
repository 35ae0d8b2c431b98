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

type Matrix = readonly (readonly number[])[];
const matrix = (rows: number, columns: number, of: (row: number, column: number) => number): Matrix =>
  Array.from({ length: rows }, (_, row) => Array.from({ length: columns }, (_, column) => of(row, column)));
const flipped = (m: Matrix): Matrix => matrix(m[0]?.length ?? 0, m.length, (row, column) => m[column]?.[row] ?? 0);

/** `order`: which value of a group of 32 / bits lies at which place of the word, the lowest first. */
function packedColumns(m: Matrix, bits: number, order = [0, 1, 2, 3, 4, 5, 6, 7]): Matrix {
  const perWord = 32 / bits;
  return m.map((row) =>
    Array.from({ length: Math.ceil(row.length / perWord) }, (_, word) => {
      let packed = 0;
      for (let place = 0; place < perWord; place += 1)
        packed |= (row[word * perWord + (order[place] ?? 0)] ?? 0) << (place * bits);
      return packed >>> 0;
    }),
  );
}
const packedRows = (m: Matrix, bits: number): Matrix => flipped(packedColumns(flipped(m), bits));

function tensor(
  name: string,
  dtype: "I32" | "I8" | "U8" | "F32" | "F8_E4M3",
  m: Matrix,
  shape?: number[],
): BuiltTensor {
  const flat = m.flat();
  const arrays = { I32: Uint32Array, I8: Int8Array, U8: Uint8Array, F8_E4M3: Uint8Array, F32: Float32Array };
  const bytes = new Uint8Array(new arrays[dtype](flat).buffer);
  return { name, dtype, shape: shape ?? [m.length, m[0]?.length ?? 0], bytes };
}

/** Nothing random: values that differ from their neighbours. */
const mixed = (row: number, column: number): number => (row * 7 + column * 5 + ((row * column) % 3)) % 251;
const scaleOf = (row: number, group: number): number => Math.fround(0.013 * (1 + row) + 0.21 * group - 0.5);

type Case = {
  readonly name: string;
  readonly quantization: SourceQuantization;
  readonly tensors: readonly BuiltTensor[];
  readonly place: StoredPlace;
  readonly values: Matrix; // of the role
  readonly blocks?: Range; // columns that can be had as blocks
};

const OUT = 24;
const IN = 64;
const placeOf = (set: Partial<StoredPlace> = {}): StoredPlace => ({
  role: "q.weight",
  shape: [OUT, IN],
  stored: "m.q.weight",
  storedShape: [OUT, IN],
  ...set,
});

function gptqCase(
  name: string,
  set: { bits: 4 | 8; offset: 0 | 1; groupSize?: number; order?: boolean; symmetric?: boolean },
): Case {
  const { bits, offset, groupSize, order = false, symmetric = false } = set;
  const size = groupSize ?? IN;
  const groups = IN / size;
  const groupOf = (input: number) => (order ? (input * 5) % groups : Math.floor(input / size));
  const integers = matrix(OUT, IN, (row, column) => mixed(row, column) % (1 << bits));
  const middle = 1 << (bits - 1);
  const zero = matrix(OUT, groups, (row, group) => (symmetric ? middle : 1 + ((row + group) % (middle - 1))));
  const value = (row: number, column: number) =>
    ((integers[row]?.[column] ?? 0) - (zero[row]?.[groupOf(column)] ?? 0)) * scaleOf(row, groupOf(column));
  const stored = flipped(zero).map((row) => row.map((z) => z - offset));
  return {
    name,
    quantization: {
      kind: "gptq",
      bits,
      ...(groupSize === undefined ? {} : { groupSize }),
      symmetric,
      descAct: order,
      zeroPointOffset: offset,
    },
    tensors: [
      tensor("m.q.qweight", "I32", packedRows(flipped(integers), bits)),
      tensor("m.q.qzeros", "I32", packedColumns(stored, bits)),
      tensor("m.q.scales", "F32", flipped(matrix(OUT, groups, scaleOf))),
      tensor("m.q.g_idx", "I32", matrix(IN, 1, groupOf), [IN]),
    ],
    place: placeOf(),
    values: matrix(OUT, IN, value),
    ...(order ? {} : { blocks: { start: 16, end: 48 } }),
  };
}

function awqCase(): Case {
  const integers = matrix(OUT, IN, (row, column) => mixed(row, column) % 16);
  const zero = matrix(OUT, 2, (row, group) => (row + 3 * group) % 16);
  const order = [0, 2, 4, 6, 1, 3, 5, 7];
  return {
    name: "awq",
    quantization: { kind: "awq", bits: 4, groupSize: 32, zeroPoint: true },
    tensors: [
      tensor("m.q.qweight", "I32", packedColumns(flipped(integers), 4, order)),
      tensor("m.q.qzeros", "I32", packedColumns(flipped(zero), 4, order)),
      tensor("m.q.scales", "F32", flipped(matrix(OUT, 2, scaleOf))),
    ],
    place: placeOf(),
    values: matrix(OUT, IN, (row, column) => {
      const group = Math.floor(column / 32);
      return ((integers[row]?.[column] ?? 0) - (zero[row]?.[group] ?? 0)) * scaleOf(row, group);
    }),
    blocks: { start: 32, end: 64 },
  };
}

function compressedCase(
  name: string,
  set: {
    stored: "packed" | "int8";
    bits: 4 | 8;
    scaleOf: "group" | "output" | "tensor";
    symmetric: boolean;
    order?: boolean;
  },
): Case {
  const { stored, bits, symmetric, order = false } = set;
  const groups = set.scaleOf === "group" ? 2 : 1;
  const rows = set.scaleOf === "tensor" ? 1 : OUT;
  const middle = 1 << (bits - 1);
  const integers = matrix(OUT, IN, (row, column) => mixed(row, column) % (1 << bits));
  const zero = matrix(rows, groups, (row, group) => (symmetric ? middle : (row + 3 * group) % (1 << bits)));
  const groupOf = (input: number) => (order ? (input * 7) % groups : Math.floor((input * groups) / IN));
  const signed = (m: Matrix) => m.map((row) => row.map((value) => value - middle));
  const rowOf = (row: number) => (rows === 1 ? 0 : row);
  const asStored = (m: Matrix) => (stored === "packed" ? packedColumns(m, bits) : signed(m));
  const zeros = stored === "packed" ? packedRows(zero, bits) : signed(zero);
  const dtype = stored === "packed" ? "I32" : "I8";
  return {
    name,
    quantization: {
      kind: "compressedTensors",
      ...set,
      ...(set.scaleOf === "group" ? { groupSize: IN / 2 } : {}),
      actOrder: order,
    },
    tensors: [
      tensor(stored === "packed" ? "m.q.weight_packed" : "m.q.weight", dtype, asStored(integers)),
      tensor("m.q.weight_scale", "F32", matrix(rows, groups, scaleOf), rows === 1 ? [1] : [rows, groups]),
      ...(symmetric ? [] : [tensor("m.q.weight_zero_point", dtype, zeros)]),
      ...(order ? [tensor("m.q.weight_g_idx", "I32", matrix(IN, 1, groupOf), [IN])] : []),
    ],
    place: placeOf(),
    values: matrix(OUT, IN, (row, column) => {
      const group = groupOf(column);
      return ((integers[row]?.[column] ?? 0) - (zero[rowOf(row)]?.[group] ?? 0)) * scaleOf(rowOf(row), group);
    }),
    ...(order ? {} : { blocks: { start: 0, end: 32 } }),
  };
}

function fp8Case(name: string, rows: number, columns: number, block?: readonly [number, number]): Case {
  const bytes = matrix(OUT, IN, (row, column) => mixed(row, column) % 0x7f);
  const [rowSize, columnSize] = block ?? [OUT / rows, IN / columns];
  const shape = rows === 1 && columns === 1 ? [] : [rows, columns];
  return {
    name,
    quantization: { kind: "fp8", ...(block === undefined ? {} : { blockSize: block }) },
    tensors: [
      tensor("m.q.weight", "F8_E4M3", bytes),
      tensor(`m.q.weight_scale${block === undefined ? "" : "_inv"}`, "F32", matrix(rows, columns, scaleOf), shape),
    ],
    place: placeOf(),
    values: matrix(OUT, IN, (row, column) => {
      const scale = scaleOf(Math.floor(row / rowSize), Math.floor(column / columnSize));
      return e4m3(bytes[row]?.[column] ?? 0) * scale;
    }),
  };
}

/** By definition, for finite values. */
const e4m3 = (byte: number): number => {
  const exponent = (byte >> 3) & 15;
  const size = exponent === 0 ? (byte & 7) * 2 ** -9 : (8 + (byte & 7)) * 2 ** (exponent - 10);
  return byte & 0x80 ? -size : size;
};

/** Rows of gate and up alternate, as in gpt-oss. */
function mxfp4Case(start: 0 | 1): Case {
  const experts = 2;
  const outputs = 2 * OUT;
  const codes = matrix(experts * outputs, IN, (row, column) => mixed(row, column) % 16);
  const exponents = matrix(experts * outputs, IN / 32, (row, block) => 120 + ((row + block) % 11));
  const magnitudes = [0, 0.5, 1, 1.5, 2, 3, 4, 6];
  const bytes = codes.map((row) =>
    Array.from({ length: IN / 2 }, (_, at) => (row[2 * at] ?? 0) | ((row[2 * at + 1] ?? 0) << 4)),
  );
  return {
    name: `mxfp4, ${start === 0 ? "gate" : "up"} of an expert`,
    quantization: { kind: "mxfp4" },
    tensors: [
      tensor("m.gate_up_blocks", "U8", bytes, [experts, outputs, IN / 32, 16]),
      tensor("m.gate_up_scales", "U8", exponents, [experts, outputs, IN / 32]),
    ],
    place: placeOf({
      stored: "m.gate_up",
      storedShape: [experts, IN, outputs],
      plane: 1,
      transposed: true,
      rows: { start, step: 2 },
    }),
    values: matrix(OUT, IN, (row, column) => {
      const stored = outputs + start + 2 * row;
      const code = codes[stored]?.[column] ?? 0;
      const scale = 2 ** ((exponents[stored]?.[Math.floor(column / 32)] ?? 0) - 127);
      return (code & 8 ? -1 : 1) * (magnitudes[code & 7] ?? 0) * scale;
    }),
    blocks: { start: 32, end: 64 },
  };
}

const CASES: readonly Case[] = [
  gptqCase("gptq, 4 bits, first format", { bits: 4, offset: 1, groupSize: 32 }),
  gptqCase("gptq, 4 bits, symmetric", { bits: 4, offset: 1, groupSize: 16, symmetric: true }),
  gptqCase("gptq, 4 bits, v2, one group", { bits: 4, offset: 0 }),
  gptqCase("gptq, 8 bits", { bits: 8, offset: 1, groupSize: 32 }),
  gptqCase("gptq, 4 bits, desc_act", { bits: 4, offset: 1, groupSize: 16, order: true }),
  awqCase(),
  compressedCase("packed int4, groups", { stored: "packed", bits: 4, scaleOf: "group", symmetric: true }),
  compressedCase("packed int4, groups, zero points", { stored: "packed", bits: 4, scaleOf: "group", symmetric: false }),
  compressedCase("packed int4, sorted inputs", {
    stored: "packed",
    bits: 4,
    scaleOf: "group",
    symmetric: true,
    order: true,
  }),
  compressedCase("packed int8, outputs", { stored: "packed", bits: 8, scaleOf: "output", symmetric: true }),
  compressedCase("packed int8, zero points", { stored: "packed", bits: 8, scaleOf: "output", symmetric: false }),
  compressedCase("int8, outputs", { stored: "int8", bits: 8, scaleOf: "output", symmetric: true }),
  compressedCase("int8, one scale, zero point", { stored: "int8", bits: 8, scaleOf: "tensor", symmetric: false }),
  fp8Case("fp8, one scale", 1, 1),
  fp8Case("fp8, a scale per output", OUT, 1),
  fp8Case("fp8, blocks", 3, 4, [10, 16]),
  mxfp4Case(0),
  mxfp4Case(1),
];

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
