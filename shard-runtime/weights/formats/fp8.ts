/**
 * FP8 weights (e4m3fn: 1 sign, 4 exponent, 3 fraction bits, no infinities) with scales that multiply: one for the whole
 * tensor, one per output, or one per block of outputs × inputs. Both spellings of the scale's name are read.
 */
import { lengthOf } from "../../../core/ranges.ts";
import type { TensorEntry } from "../safetensors.ts";
import {
  type Encoding,
  type Format,
  type Rect,
  type WantedTensor,
  matrixWindow,
  refusal,
  windowOf,
} from "./encoding.ts";
import { FLOATS, floatsOf } from "./grouped-integers.ts";
import { assertShape } from "./plain.ts";

/** `blockSize`: [outputs, inputs] under one scale. */
export const fp8Format = (blockSize?: readonly [outputs: number, inputs: number]): Format => ({
  mainTensor: (name) => name,
  async encodingOf(wanted, lookup) {
    const values = await lookup.find(wanted.name);
    if (values?.dtype !== "F8_E4M3") return undefined;
    assertShape(lookup, values, wanted);
    const scales = (await lookup.find(`${wanted.name}_scale_inv`)) ?? (await lookup.find(`${wanted.name}_scale`));
    if (scales === undefined) throw refusal("MissingTensor", lookup.missing(`${wanted.name}_scale`));
    if (!FLOATS.some((dtype) => dtype === scales.dtype))
      throw refusal("UnsupportedDtype", `${lookup.where(scales)} has dtype ${scales.dtype}, expected a float`);
    const grid = gridOf(wanted, scales, blockSize);
    if (grid !== undefined) return fp8Encoding(wanted, values, scales, grid);
    throw refusal(
      "WrongShape",
      `${lookup.where(scales)} has shape [${scales.shape.join(",")}], which does not scale ${wanted.name} of shape ` +
        `[${wanted.shape.join(",")}]; the checkpoint's weight_block_size and its tensors disagree`,
    );
  },
});

/** Scales lie in a grid; each is for so many rows and columns of the tensor. */
type Grid = {
  readonly rows: number;
  readonly columns: number;
  readonly rowSize: number;
  readonly columnSize: number;
  readonly planes: boolean; // a grid for each plane
};

function gridOf(
  { extent }: WantedTensor,
  { shape }: TensorEntry,
  blockSize: readonly [number, number] | undefined,
): Grid | undefined {
  const planes = extent.planes > 1;
  if (planes && shape[0] !== extent.planes) return undefined;
  const [rows = 1, columns = 1, ...rest] = planes ? shape.slice(1) : shape;
  if (rest.length > 0) return undefined;
  const whole = { planes, rows, columns, rowSize: extent.rows, columnSize: extent.columns };
  if (rows === 1 && columns === 1) return whole;
  if (rows === extent.rows && columns === 1) return { ...whole, rowSize: 1 };
  if (blockSize === undefined) return undefined;
  const [rowSize, columnSize] = blockSize;
  if (rows !== Math.ceil(extent.rows / rowSize) || columns !== Math.ceil(extent.columns / columnSize)) return undefined;
  return { ...whole, rowSize, columnSize };
}

function fp8Encoding({ extent }: WantedTensor, values: TensorEntry, scales: TensorEntry, grid: Grid): Encoding {
  const scaleBytes = scales.dtype === "F32" ? 4 : 2;
  const gridRows = ({ rows }: Rect) => ({
    start: Math.floor(rows.start / grid.rowSize),
    end: Math.ceil(rows.end / grid.rowSize),
  });
  return {
    transposed: false,
    scattered: false,
    windows(rect) {
      const layout = { rowBytes: extent.columns, planeRows: extent.rows, plane: rect.plane };
      const ofScales = {
        rowBytes: grid.columns * scaleBytes,
        planeRows: grid.rows,
        plane: grid.planes ? rect.plane : 0,
      };
      const window =
        values.shape.length === 2
          ? matrixWindow(values, 1, rect.rows, rect.columns)
          : windowOf(values, layout, rect.rows, rect.columns);
      return [window, windowOf(scales, ofScales, gridRows(rect))];
    },
    decode(rect, [raw = new Uint8Array(), scaleValues = new Uint8Array()]) {
      const { rows, columns } = rect;
      const factors = floatsOf(scales, scaleValues);
      const first = gridRows(rect).start;
      const out = new Float32Array(lengthOf(rows) * lengthOf(columns));
      for (let row = rows.start, at = 0; row < rows.end; row += 1) {
        const line = (Math.floor(row / grid.rowSize) - first) * grid.columns;
        for (let column = columns.start; column < columns.end; column += 1, at += 1)
          out[at] = (E4M3[raw[at] ?? 0] ?? 0) * (factors[line + Math.floor(column / grid.columnSize)] ?? 0);
      }
      return out;
    },
  };
}

/** The value of every byte; 0x7f and 0xff are no numbers (OCP 8-bit floating point, E4M3). */
export const E4M3 = Float32Array.from({ length: 256 }, (_, byte) => {
  const sign = byte & 0x80 ? -1 : 1;
  const exponent = (byte >> 3) & 15;
  const fraction = byte & 7;
  if (exponent === 15 && fraction === 7) return Number.NaN;
  return exponent === 0 ? (sign * fraction) / 512 : sign * (1 + fraction / 8) * 2 ** (exponent - 7);
});
