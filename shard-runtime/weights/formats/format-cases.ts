/** Quantised tensors for tests, packed element by element from the formats' descriptions. */
import type { SourceQuantization } from "../../../core/quantized-source.ts";
import type { Range } from "../../../core/ranges.ts";
import type { BuiltTensor } from "../checkpoint-builder.ts";
import type { StoredPlace } from "../tensor-view.ts";

export type Matrix = readonly (readonly number[])[];
export const matrix = (rows: number, columns: number, of: (row: number, column: number) => number): Matrix =>
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

export function tensor(
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
export const mixed = (row: number, column: number): number => (row * 7 + column * 5 + ((row * column) % 3)) % 251;
export const scaleOf = (row: number, group: number): number => Math.fround(0.013 * (1 + row) + 0.21 * group - 0.5);

export type Case = {
  readonly name: string;
  readonly quantization: SourceQuantization;
  readonly tensors: readonly BuiltTensor[];
  readonly place: StoredPlace;
  readonly values: Matrix; // of the role
  readonly blocks?: Range; // columns that can be had as blocks
};

export const OUT = 24;
export const IN = 64;
export const placeOf = (set: Partial<StoredPlace> = {}): StoredPlace => ({
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
export const e4m3 = (byte: number): number => {
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

export const CASES: readonly Case[] = [
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
