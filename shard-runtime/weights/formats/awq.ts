/**
 * AWQ as AutoAWQ's "gemm" writes it: `.qweight` [inputs, outputs / 8], 32-bit words of eight neighbouring outputs in the
 * order that its kernels unpack fastest; `.qzeros` [groups, outputs / 8] in the same order; `.scales` [groups, outputs].
 */
import { lengthOf } from "../../../core/ranges.ts";
import type { SourceQuantization } from "../../../core/quantized-source.ts";
import { type Format, type Rect, covering, refusal, windowOf } from "./encoding.ts";
import { transposed, turned } from "./gptq.ts";
import {
  FLOATS,
  floatsOf,
  groupsOfNeighbours,
  integerEncoding,
  optionalPartOf,
  partOf,
  wordsOf,
} from "./grouped-integers.ts";

const PER_WORD = 8;
/** By output within a word: how far its four bits are shifted. Even outputs lie in the lower half. */
const SHIFTS = [0, 16, 4, 20, 8, 24, 12, 28] as const;

export const awqFormat = (settings: Extract<SourceQuantization, { kind: "awq" }>): Format => ({
  mainTensor: (name) => name.replace(/\.weight$/, ".qweight"),
  async encodingOf({ name, extent: { rows: outputCount, columns: inputCount } }, lookup) {
    const stem = name.replace(/\.weight$/, "");
    if (stem === name || (await lookup.find(`${stem}.qweight`)) === undefined) return undefined;
    if (outputCount % PER_WORD !== 0)
      throw refusal("WrongShape", `tensor ${name}: ${outputCount} outputs do not fill words of ${PER_WORD} values`);
    const groupSize = settings.groupSize ?? inputCount;
    const groupCount = Math.ceil(inputCount / groupSize);
    const wordCount = outputCount / PER_WORD;
    const weights = await partOf(lookup, `${stem}.qweight`, ["I32"], [inputCount, wordCount]);
    const find = settings.zeroPoint ? partOf : optionalPartOf;
    const zeros = await find(lookup, `${stem}.qzeros`, ["I32"], [groupCount, wordCount]);
    const scales = await partOf(lookup, `${stem}.scales`, FLOATS, [groupCount, outputCount]);
    const scaleBytes = scales.dtype === "F32" ? 4 : 2;
    const allGroups = { start: 0, end: groupCount };
    const packed = {
      scattered: true,
      windows({ rows, columns }: Rect) {
        const words = covering(rows, PER_WORD);
        const wordBytes = { start: words.start * 4, end: words.end * 4 };
        const ownScales = { start: rows.start * scaleBytes, end: rows.end * scaleBytes };
        return [
          windowOf(weights, { rowBytes: wordCount * 4, planeRows: 0 }, columns, wordBytes),
          windowOf(scales, { rowBytes: outputCount * scaleBytes, planeRows: 0 }, allGroups, ownScales),
          ...(zeros === undefined
            ? []
            : [windowOf(zeros, { rowBytes: wordCount * 4, planeRows: 0 }, allGroups, wordBytes)]),
        ];
      },
      unpack(
        rect: Rect,
        [weightBytes = new Uint8Array(), scaleValues = new Uint8Array(), zeroBytes]: readonly Uint8Array[],
      ) {
        const { rows } = rect;
        const zeroPoints =
          zeroBytes === undefined
            ? new Uint8Array(lengthOf(rows) * groupCount).fill(8)
            : turned(rows, groupCount, integerAt(rect, wordsOf(zeroBytes), 0));
        const integer = integerAt(rect, wordsOf(weightBytes), rect.columns.start);
        return {
          bits: 4 as const,
          integers: integersOf(rect, integer),
          zeroPoints,
          scales: transposed(floatsOf(scales, scaleValues), groupCount, lengthOf(rows)),
          groupOf: groupsOfNeighbours(rect, groupSize),
        };
      },
    };
    return integerEncoding(packed, inputCount);
  },
});

/** The integer at a row and an output (of the whole tensor) of words [rows from `first` on, words that cover the rectangle's outputs]. */
function integerAt({ rows }: Rect, words: Uint32Array, first: number) {
  const covered = covering(rows, PER_WORD);
  const width = lengthOf(covered);
  return (row: number, output: number): number => {
    const word = words[(row - first) * width + Math.floor(output / PER_WORD) - covered.start] ?? 0;
    return (word >>> (SHIFTS[output % PER_WORD] ?? 0)) & 15;
  };
}

function integersOf({ rows, columns }: Rect, integer: (input: number, output: number) => number): Uint8Array {
  const width = lengthOf(columns);
  const out = new Uint8Array(lengthOf(rows) * width);
  for (let input = 0; input < width; input += 1)
    for (let output = rows.start, at = input; output < rows.end; output += 1, at += width)
      out[at] = integer(columns.start + input, output);
  return out;
}
