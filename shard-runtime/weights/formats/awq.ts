/**
 * AWQ as AutoAWQ's "gemm" writes it: `.qweight` [inputs, outputs / 8], 32-bit words of eight neighbouring outputs in the
 * order that its kernels unpack fastest; `.qzeros` [groups, outputs / 8] in the same order; `.scales` [groups, outputs].
 */
import { lengthOf } from "../../../core/ranges.ts";
import type { SourceQuantization } from "../../../core/quantized-source.ts";
import { type Format, type Rect, covering, matrixWindow, refusal } from "./encoding.ts";
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
        return [
          matrixWindow(weights, 4, columns, words),
          matrixWindow(scales, scaleBytes, allGroups, rows),
          ...(zeros === undefined ? [] : [matrixWindow(zeros, 4, allGroups, words)]),
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
            : turned(rows, groupCount, integerAt(rect, wordsOf(zeroBytes)));
        return {
          bits: 4 as const,
          integers: integersOf(rect, wordsOf(weightBytes)),
          zeroPoints,
          scales: transposed(floatsOf(scales, scaleValues), groupCount, lengthOf(rows)),
          groupOf: groupsOfNeighbours(rect, groupSize),
        };
      },
    };
    return integerEncoding(packed, inputCount);
  },
});

/** The integer at a row and an output (of the whole tensor) of words [rows, words that cover the rectangle's outputs]. */
function integerAt({ rows }: Rect, words: Uint32Array) {
  const covered = covering(rows, PER_WORD);
  return (row: number, output: number): number => {
    const word = words[row * lengthOf(covered) + Math.floor(output / PER_WORD) - covered.start] ?? 0;
    return (word >>> (SHIFTS[output % PER_WORD] ?? 0)) & 15;
  };
}

/** Inputs that are turned together, so that what is written stays in the processor's cache. */
const TILE = 64;

/** Words [inputs, words that cover the rectangle's outputs] as integers [outputs, inputs]. */
function integersOf({ rows, columns }: Rect, words: Uint32Array): Uint8Array {
  const covered = covering(rows, PER_WORD);
  const wordCount = lengthOf(covered);
  const width = lengthOf(columns);
  const all = new Uint8Array(wordCount * PER_WORD * width);
  for (let tile = 0; tile < width; tile += TILE)
    for (let place = 0; place < wordCount; place += 1)
      for (let input = tile; input < Math.min(width, tile + TILE); input += 1) {
        const word = words[input * wordCount + place] ?? 0;
        for (let half = 0, at = place * PER_WORD * width + input; half < 4; half += 1, at += 2 * width) {
          all[at] = (word >>> (4 * half)) & 15; // even outputs lie in the lower half of a word
          all[at + width] = (word >>> (16 + 4 * half)) & 15;
        }
      }
  const skipped = rows.start - covered.start * PER_WORD;
  return all.subarray(skipped * width, (skipped + lengthOf(rows)) * width);
}
