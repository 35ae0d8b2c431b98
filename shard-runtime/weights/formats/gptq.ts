/**
 * GPTQ as AutoGPTQ and its successors write it: `.qweight` [inputs / 8, outputs], 32-bit words of neighbouring inputs, the
 * first one lowest; `.qzeros` [groups, outputs / 8]; `.scales` [groups, outputs]; `.g_idx` [inputs], each input's group,
 * which is trivial unless desc_act sorted them. In the first format a stored zero point is one too low.
 */
import { lengthOf } from "../../../core/ranges.ts";
import type { SourceQuantization } from "../../../core/quantized-source.ts";
import type { TensorEntry } from "../safetensors.ts";
import { type Format, type Rect, covering, matrixWindow, refusal, windowOf } from "./encoding.ts";
import {
  FLOATS,
  type GroupedIntegers,
  type PackedIntegers,
  floatsOf,
  groupsFrom,
  groupsOfNeighbours,
  integerEncoding,
  optionalPartOf,
  partOf,
  wordsOf,
} from "./grouped-integers.ts";

type Gptq = Extract<SourceQuantization, { kind: "gptq" }>;

type Tensors = {
  readonly weights: TensorEntry;
  readonly zeros: TensorEntry;
  readonly scales: TensorEntry;
  readonly groups: TensorEntry | undefined;
  readonly groupCount: number;
  readonly groupSize: number;
  readonly whereGroups: string;
};

export const gptqFormat = (settings: Gptq): Format => ({
  mainTensor: (name) => name.replace(/\.weight$/, ".qweight"),
  async encodingOf({ name, extent: { rows: outputCount, columns: inputCount } }, lookup) {
    const stem = name.replace(/\.weight$/, "");
    const words = 32 / settings.bits;
    if (stem === name || (await lookup.find(`${stem}.qweight`)) === undefined) return undefined;
    if (inputCount % words !== 0 || outputCount % words !== 0)
      throw refusal(
        "WrongShape",
        `tensor ${name}: [${outputCount},${inputCount}] does not fill words of ${words} values`,
      );
    const groupSize = settings.groupSize ?? inputCount;
    const groupCount = Math.ceil(inputCount / groupSize);
    const weights = await partOf(lookup, `${stem}.qweight`, ["I32"], [inputCount / words, outputCount]);
    const zeros = await partOf(lookup, `${stem}.qzeros`, ["I32"], [groupCount, outputCount / words]);
    const scales = await partOf(lookup, `${stem}.scales`, FLOATS, [groupCount, outputCount]);
    const groups = await optionalPartOf(lookup, `${stem}.g_idx`, ["I32"], [inputCount]);
    if (groups === undefined && settings.descAct)
      throw refusal("MissingTensor", `${lookup.missing(`${stem}.g_idx`)}; desc_act needs it`);
    const whereGroups = groups === undefined ? "" : lookup.where(groups);
    const tensors = { weights, zeros, scales, groups, groupCount, groupSize, whereGroups };
    return integerEncoding(packedGptq(settings, tensors), inputCount);
  },
});

function packedGptq({ bits, zeroPointOffset }: Gptq, tensors: Tensors): PackedIntegers {
  const { weights, zeros, scales, groups, groupCount, groupSize, whereGroups } = tensors;
  const perWord = 32 / bits;
  const scaleBytes = scales.dtype === "F32" ? 4 : 2;
  const allGroups = { start: 0, end: groupCount };
  return {
    scattered: true,
    windows({ rows, columns }) {
      return [
        matrixWindow(weights, 4, covering(columns, perWord), rows),
        matrixWindow(zeros, 4, allGroups, covering(rows, perWord)),
        matrixWindow(scales, scaleBytes, allGroups, rows),
        ...(groups === undefined ? [] : [windowOf(groups, { rowBytes: 4, planeRows: 0 }, columns)]),
      ];
    },
    unpack(rect, [weightBytes = NONE, zeroBytes = NONE, scaleBytes_ = NONE, groupBytes]) {
      const { rows } = rect;
      const words = covering(rows, perWord);
      const zeroWords = wordsOf(zeroBytes);
      return {
        bits,
        integers: integersOf(rect, wordsOf(weightBytes), bits),
        zeroPoints: turned(rows, groupCount, (group, output) => {
          const word = zeroWords[group * lengthOf(words) + Math.floor(output / perWord) - words.start] ?? 0;
          return ((word >>> ((output % perWord) * bits)) & ((1 << bits) - 1)) + zeroPointOffset;
        }),
        scales: transposed(floatsOf(scales, scaleBytes_), groupCount, lengthOf(rows)),
        groupOf:
          groupBytes === undefined
            ? groupsOfNeighbours(rect, groupSize)
            : groupsFrom(whereGroups, groupBytes, groupCount),
      };
    },
  };
}

const NONE = new Uint8Array();
/** Words of 32 / bits neighbouring inputs of an output each, [words, outputs], as integers [outputs, inputs]. */
function integersOf({ rows, columns }: Rect, words: Uint32Array, bits: 4 | 8): GroupedIntegers["integers"] {
  const perWord = 32 / bits;
  const mask = (1 << bits) - 1;
  const outputCount = lengthOf(rows);
  const covered = covering(columns, perWord);
  const width = lengthOf(covered) * perWord;
  const out = new Uint8Array(outputCount * width);
  for (let line = 0; line < lengthOf(covered); line += 1)
    for (let output = 0; output < outputCount; output += 1) {
      const word = words[line * outputCount + output] ?? 0;
      const at = output * width + line * perWord;
      for (let place = 0; place < perWord; place += 1) out[at + place] = (word >>> (place * bits)) & mask;
    }
  return cut(out, width, columns.start - covered.start * perWord, lengthOf(columns));
}

/** Columns of rows of bytes, `width` each. */
function cut(rows: Uint8Array, width: number, from: number, count: number): Uint8Array {
  if (count === width) return rows;
  const rowCount = width === 0 ? 0 : rows.length / width;
  const out = new Uint8Array(rowCount * count);
  for (let row = 0; row < rowCount; row += 1)
    out.set(rows.subarray(row * width + from, row * width + from + count), row * count);
  return out;
}

/** [outputs of `rows`, groups] of what is given by group and output (of the whole tensor). */
export function turned(
  rows: { readonly start: number; readonly end: number },
  groupCount: number,
  of: (group: number, output: number) => number,
): Uint8Array {
  const out = new Uint8Array(lengthOf(rows) * groupCount);
  for (let output = rows.start, at = 0; output < rows.end; output += 1)
    for (let group = 0; group < groupCount; group += 1, at += 1) out[at] = of(group, output);
  return out;
}

/** [columns, rows] of [rows, columns]. */
export function transposed(values: Float32Array, rowCount: number, columnCount: number): Float32Array {
  const out = new Float32Array(values.length);
  for (let row = 0; row < rowCount; row += 1)
    for (let column = 0; column < columnCount; column += 1)
      out[column * rowCount + row] = values[row * columnCount + column] ?? 0;
  return out;
}
