/**
 * Integers as compressed-tensors (llm-compressor, vLLM) writes them: `.weight_packed` [outputs, inputs / n], 32-bit words
 * of n = 32 / bits neighbouring inputs, the first one lowest, shifted to be unsigned; or `.weight` [outputs, inputs] of
 * int8. `.weight_scale` [outputs, groups]; `.weight_zero_point`, where not symmetric, packed along the outputs;
 * `.weight_g_idx` [inputs] where inputs were sorted. Its FP8 is that of fp8.ts.
 */
import { lengthOf } from "../../../core/ranges.ts";
import type { SourceQuantization } from "../../../core/quantized-source.ts";
import type { TensorEntry } from "../safetensors.ts";
import {
  type Format,
  type Rect,
  type TensorLookup,
  type WantedTensor,
  covering,
  refusal,
  windowOf,
} from "./encoding.ts";
import { turned } from "./gptq.ts";
import {
  FLOATS,
  type PackedIntegers,
  floatsOf,
  groupsFrom,
  groupsOfNeighbours,
  integerEncoding,
  optionalPartOf,
  partOf,
  wordsOf,
} from "./grouped-integers.ts";

type Settings = Extract<SourceQuantization, { kind: "compressedTensors" }>;

export const compressedIntegers = (settings: Settings): Format => {
  const isPacked = settings.stored === "packed";
  return {
    mainTensor: (name) => (isPacked ? name.replace(/\.weight$/, ".weight_packed") : name),
    async encodingOf(wanted, lookup) {
      const { name } = wanted;
      const main = await lookup.find(isPacked ? `${name}_packed` : name);
      if (!name.endsWith(".weight") || main === undefined || (!isPacked && main.dtype !== "I8")) return undefined;
      const tensors = await tensorsOf(wanted, settings, lookup);
      return integerEncoding(packedIntegers(tensors), wanted.extent.columns);
    },
  };
};

type Tensors = {
  readonly bits: 4 | 8;
  readonly perWord: number; // 1: each integer is a byte of its own
  readonly weights: TensorEntry;
  readonly scales: TensorEntry;
  readonly zeros: TensorEntry | undefined;
  readonly groups: TensorEntry | undefined;
  readonly scaleRows: number; // one for all outputs, or each its own
  readonly groupCount: number;
  readonly groupSize: number;
  readonly inputCount: number;
  readonly whereGroups: string;
};

async function tensorsOf(
  { name, extent: { rows: outputCount, columns: inputCount } }: WantedTensor,
  { stored, bits, scaleOf, groupSize: ownSize, symmetric, actOrder }: Settings,
  lookup: TensorLookup,
): Promise<Tensors> {
  if (scaleOf === "block")
    throw refusal("UnsupportedOption", `tensor ${name}: integers with a scale per block are not read`);
  const perWord = stored === "packed" ? 32 / bits : 1;
  const groupSize = ownSize ?? inputCount;
  const groupCount = Math.ceil(inputCount / groupSize);
  const scaleRows = scaleOf === "tensor" ? 1 : outputCount;
  const weights =
    perWord === 1
      ? await partOf(lookup, name, ["I8"], [outputCount, inputCount])
      : await partOf(lookup, `${name}_packed`, ["I32"], [outputCount, Math.ceil(inputCount / perWord)]);
  const scalar = scaleOf === "tensor" ? [[1], []] : [];
  const scales = await partOf(lookup, `${name}_scale`, FLOATS, [scaleRows, groupCount], ...scalar);
  const zeroRows = Math.ceil(scaleRows / perWord);
  const zeroType = perWord === 1 ? "I8" : "I32";
  const zeros = symmetric
    ? undefined
    : await partOf(lookup, `${name}_zero_point`, [zeroType], [zeroRows, groupCount], ...scalar);
  const groups = actOrder
    ? await partOf(lookup, `${name}_g_idx`, ["I32"], [inputCount])
    : await optionalPartOf(lookup, `${name}_g_idx`, ["I32"], [inputCount]);
  const whereGroups = groups === undefined ? "" : lookup.where(groups);
  return { bits, perWord, weights, scales, zeros, groups, scaleRows, groupCount, groupSize, inputCount, whereGroups };
}

function packedIntegers(tensors: Tensors): PackedIntegers {
  const { bits, perWord, weights, scales, zeros, groups, scaleRows, groupCount, groupSize, inputCount } = tensors;
  const wordBytes = perWord === 1 ? 1 : 4;
  const scaleBytes = scales.dtype === "F32" ? 4 : 2;
  const rowBytes = Math.ceil(inputCount / perWord) * wordBytes;
  const ownRows = ({ rows }: Rect) => (scaleRows === 1 ? { start: 0, end: 1 } : rows);
  return {
    scattered: false,
    windows(rect) {
      const { start, end } = covering(rect.columns, perWord);
      const words = { start: start * wordBytes, end: end * wordBytes };
      const zeroRows = covering(ownRows(rect), perWord);
      return [
        windowOf(weights, { rowBytes, planeRows: 0 }, rect.rows, words),
        windowOf(scales, { rowBytes: groupCount * scaleBytes, planeRows: 0 }, ownRows(rect)),
        ...(zeros === undefined ? [] : [windowOf(zeros, { rowBytes: groupCount * wordBytes, planeRows: 0 }, zeroRows)]),
        ...(groups === undefined ? [] : [windowOf(groups, { rowBytes: 4, planeRows: 0 }, rect.columns)]),
      ];
    },
    unpack(rect, raw) {
      const [weightBytes = NONE, scaleValues = NONE, ...others] = raw;
      const zeroBytes = zeros === undefined ? undefined : others.shift();
      const [groupBytes] = others;
      const { rows } = rect;
      const zeroPoints =
        zeroBytes === undefined
          ? new Uint8Array(lengthOf(rows) * groupCount).fill(1 << (bits - 1))
          : zeroPointsOf(rect, zeroBytes, { bits, perWord, groupCount, isShared: scaleRows === 1 });
      const factors = floatsOf(scales, scaleValues);
      return {
        bits,
        integers: integersOf(rect, weightBytes, bits, perWord),
        zeroPoints,
        scales: scaleRows === 1 ? repeated(factors, lengthOf(rows)) : factors,
        groupOf:
          groupBytes === undefined
            ? groupsOfNeighbours(rect, groupSize)
            : groupsFrom(tensors.whereGroups, groupBytes, groupCount),
      };
    },
  };
}

const NONE = new Uint8Array();

function repeated(values: Float32Array, count: number): Float32Array {
  const out = new Float32Array(values.length * count);
  for (let row = 0; row < count; row += 1) out.set(values, row * values.length);
  return out;
}

/** Unsigned integers [outputs, inputs]; a signed byte turns unsigned by its highest bit. */
function integersOf({ rows, columns }: Rect, raw: Uint8Array, bits: 4 | 8, perWord: number): Uint8Array {
  if (perWord === 1) return raw.map((byte) => byte ^ 0x80);
  const words = wordsOf(raw);
  const covered = covering(columns, perWord);
  const width = lengthOf(columns);
  const mask = (1 << bits) - 1;
  const out = new Uint8Array(lengthOf(rows) * width);
  for (let row = 0, at = 0; row < lengthOf(rows); row += 1) {
    const line = row * lengthOf(covered) - covered.start;
    for (let column = columns.start; column < columns.end; column += 1, at += 1)
      out[at] = ((words[line + Math.floor(column / perWord)] ?? 0) >>> ((column % perWord) * bits)) & mask;
  }
  return out;
}

/** [outputs, groups]; `isShared`: one for all outputs. */
function zeroPointsOf(
  { rows }: Rect,
  raw: Uint8Array,
  { bits, perWord, groupCount, isShared }: { bits: 4 | 8; perWord: number; groupCount: number; isShared: boolean },
): Uint8Array {
  const first = isShared ? 0 : covering(rows, perWord).start;
  const words = perWord === 1 ? undefined : wordsOf(raw);
  return turned(rows, groupCount, (group, output) => {
    const row = isShared ? 0 : output;
    const at = (Math.floor(row / perWord) - first) * groupCount + group;
    if (words === undefined) return (raw[at] ?? 0) ^ 0x80;
    return ((words[at] ?? 0) >>> ((row % perWord) * bits)) & ((1 << bits) - 1);
  });
}
