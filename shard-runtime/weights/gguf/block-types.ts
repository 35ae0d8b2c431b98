/**
 * The block types of GGUF, by the number that a file names them with (github.com/ggml-org/ggml, docs/gguf.md): how many
 * values are in how many bytes, and what the bytes mean. All arithmetic is exact in doubles until the one rounding to f32.
 */
import { F16_VALUES } from "../widen.ts";

export type BlockType = {
  readonly name: string;
  readonly valueCount: number; // of a block
  readonly byteCount: number;
  /** Writes the values of the block at byte `at` to `out` from `to` on. */
  readonly decode: (bytes: Uint8Array, at: number, out: Float32Array, to: number) => void;
  /** Where the block is integers around the middle of their range: writes them as MatMulNBits packs them, returns the scale. */
  readonly blocks?: {
    readonly bits: 4 | 8;
    readonly pack: (bytes: Uint8Array, at: number, out: Uint8Array, to: number) => number;
  };
};

type Decode = BlockType["decode"];

const half = (bytes: Uint8Array, at: number): number => F16_VALUES[(bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8)] ?? 0;
const signed = (byte: number | undefined): number => ((byte ?? 0) << 24) >> 24;

/** 32 codes of 4 bits in 16 bytes: the low halves are the first 16. */
const lowThenHigh = (bytes: Uint8Array, from: number, index: number): number =>
  ((bytes[from + (index & 15)] ?? 0) >> (index < 16 ? 0 : 4)) & 15;
/** The fifth bit of each of 32 codes, in four bytes. */
const fifthBit = (bytes: Uint8Array, from: number, index: number): number =>
  (((bytes[from + (index >> 3)] ?? 0) >> (index & 7)) & 1) << 4;

/** Blocks of 32: a code of each value, times a scale, plus an offset. */
const linear32 =
  (
    code: (bytes: Uint8Array, at: number, index: number) => number,
    offset: (bytes: Uint8Array, at: number) => number,
  ): Decode =>
  (bytes, at, out, to) => {
    const scale = half(bytes, at);
    const add = offset(bytes, at);
    for (let index = 0; index < 32; index += 1) out[to + index] = scale * code(bytes, at, index) + add;
  };

const none = () => 0;
const minimum = (bytes: Uint8Array, at: number) => half(bytes, at + 2);

const Q4_0: Decode = (bytes, at, out, to) => {
  const scale = half(bytes, at);
  for (let index = 0; index < 16; index += 1) {
    const byte = bytes[at + 2 + index] ?? 0;
    out[to + index] = scale * ((byte & 15) - 8);
    out[to + 16 + index] = scale * ((byte >> 4) - 8);
  }
};
const Q4_1: Decode = linear32((bytes, at, index) => lowThenHigh(bytes, at + 4, index), minimum);
const Q5_0: Decode = linear32(
  (bytes, at, index) => (lowThenHigh(bytes, at + 6, index) | fifthBit(bytes, at + 2, index)) - 16,
  none,
);
const Q5_1: Decode = linear32(
  (bytes, at, index) => lowThenHigh(bytes, at + 8, index) | fifthBit(bytes, at + 4, index),
  minimum,
);
const Q8_0: Decode = (bytes, at, out, to) => {
  const scale = half(bytes, at);
  for (let index = 0; index < 32; index += 1) out[to + index] = scale * signed(bytes[at + 2 + index]);
};

function packQ4(bytes: Uint8Array, at: number, out: Uint8Array, to: number): number {
  for (let pair = 0; pair < 16; pair += 1)
    out[to + pair] = lowThenHigh(bytes, at + 2, 2 * pair) | (lowThenHigh(bytes, at + 2, 2 * pair + 1) << 4);
  return half(bytes, at);
}

function packQ8(bytes: Uint8Array, at: number, out: Uint8Array, to: number): number {
  for (let index = 0; index < 32; index += 1) out[to + index] = (bytes[at + 2 + index] ?? 0) ^ 0x80;
  return half(bytes, at);
}

/** Q4_K and Q5_K: twelve bytes hold, for eight groups of 32, a scale and a minimum of six bits each. */
function groupScale(bytes: Uint8Array, from: number, group: number): number {
  if (group < 4) return (bytes[from + group] ?? 0) & 63;
  return ((bytes[from + 4 + group] ?? 0) & 15) | (((bytes[from + group - 4] ?? 0) >> 6) << 4);
}
function groupMinimum(bytes: Uint8Array, from: number, group: number): number {
  if (group < 4) return (bytes[from + 4 + group] ?? 0) & 63;
  return ((bytes[from + 4 + group] ?? 0) >> 4) | (((bytes[from + group] ?? 0) >> 6) << 4);
}

const withMinima =
  (codesAt: number, fifthAt?: number): Decode =>
  (bytes, at, out, to) => {
    const factor = half(bytes, at);
    const minimumFactor = half(bytes, at + 2);
    for (let group = 0; group < 8; group += 1) {
      const scale = factor * groupScale(bytes, at + 4, group);
      const below = minimumFactor * groupMinimum(bytes, at + 4, group);
      const codes = at + codesAt + (group >> 1) * 32;
      for (let index = 0; index < 32; index += 1) {
        const low = ((bytes[codes + index] ?? 0) >> ((group & 1) * 4)) & 15;
        const high = fifthAt === undefined ? 0 : (((bytes[at + fifthAt + index] ?? 0) >> group) & 1) << 4;
        out[to + group * 32 + index] = scale * (low | high) - below;
      }
    }
  };

const Q2_K: Decode = (bytes, at, out, to) => {
  const factor = half(bytes, at + 80);
  const minimumFactor = half(bytes, at + 82);
  for (let index = 0; index < 256; index += 1) {
    const scales = bytes[at + (index >> 4)] ?? 0;
    const code = ((bytes[at + 16 + (index >> 7) * 32 + (index & 31)] ?? 0) >> (((index >> 5) & 3) * 2)) & 3;
    out[to + index] = factor * (scales & 15) * code - minimumFactor * (scales >> 4);
  }
};

const Q3_K: Decode = (bytes, at, out, to) => {
  const factor = half(bytes, at + 108);
  for (let index = 0; index < 256; index += 1) {
    const group = index >> 4;
    const low = ((bytes[at + 96 + (group & 7)] ?? 0) >> (group < 8 ? 0 : 4)) & 15;
    const high = ((bytes[at + 104 + (group & 3)] ?? 0) >> ((group >> 2) * 2)) & 3;
    const code = ((bytes[at + 32 + (index >> 7) * 32 + (index & 31)] ?? 0) >> (((index >> 5) & 3) * 2)) & 3;
    const isLow = (((bytes[at + (index & 31)] ?? 0) >> (index >> 5)) & 1) === 0;
    out[to + index] = factor * ((low | (high << 4)) - 32) * (code - (isLow ? 4 : 0));
  }
};

const Q6_K: Decode = (bytes, at, out, to) => {
  const factor = half(bytes, at + 208);
  for (let group = 0; group < 16; group += 1) {
    const scale = factor * signed(bytes[at + 192 + group]);
    const quarter = (group >> 1) & 3; // of 128 values: the lower two share bytes with the upper two
    const lows = at + (group >> 3) * 64 + ((group * 16) & 63);
    const highs = at + 128 + (group >> 3) * 32 + ((group * 16) & 31);
    for (let index = 0; index < 16; index += 1) {
      const low = ((bytes[lows + index] ?? 0) >> (quarter < 2 ? 0 : 4)) & 15;
      const high = ((bytes[highs + index] ?? 0) >> (quarter * 2)) & 3;
      out[to + group * 16 + index] = scale * ((low | (high << 4)) - 32);
    }
  }
};

/** Twice the value of every e2m1, as in ../formats/mxfp4.ts; the order of a block's halves is GGUF's own. */
const TWICE = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12] as const;
const halfScale = (byte: number): number => (byte === 255 ? Number.NaN : 2 ** (byte - 128));
const MXFP4: Decode = (bytes, at, out, to) => {
  const scale = halfScale(bytes[at] ?? 0);
  for (let index = 0; index < 32; index += 1) out[to + index] = scale * (TWICE[lowThenHigh(bytes, at + 1, index)] ?? 0);
};
function packMxfp4(bytes: Uint8Array, at: number, out: Uint8Array, to: number): number {
  for (let index = 0; index < 32; index += 1) out[to + index] = 128 + (TWICE[lowThenHigh(bytes, at + 1, index)] ?? 0);
  return halfScale(bytes[at] ?? 0);
}

const TYPES: Readonly<Record<number, BlockType>> = {
  2: { name: "Q4_0", valueCount: 32, byteCount: 18, decode: Q4_0, blocks: { bits: 4, pack: packQ4 } },
  3: { name: "Q4_1", valueCount: 32, byteCount: 20, decode: Q4_1 },
  6: { name: "Q5_0", valueCount: 32, byteCount: 22, decode: Q5_0 },
  7: { name: "Q5_1", valueCount: 32, byteCount: 24, decode: Q5_1 },
  8: { name: "Q8_0", valueCount: 32, byteCount: 34, decode: Q8_0, blocks: { bits: 8, pack: packQ8 } },
  10: { name: "Q2_K", valueCount: 256, byteCount: 84, decode: Q2_K },
  11: { name: "Q3_K", valueCount: 256, byteCount: 110, decode: Q3_K },
  12: { name: "Q4_K", valueCount: 256, byteCount: 144, decode: withMinima(16) },
  13: { name: "Q5_K", valueCount: 256, byteCount: 176, decode: withMinima(48, 16) },
  14: { name: "Q6_K", valueCount: 256, byteCount: 210, decode: Q6_K },
  39: { name: "MXFP4", valueCount: 32, byteCount: 17, decode: MXFP4, blocks: { bits: 8, pack: packMxfp4 } },
};

/** Types whose values stand each for itself, named as in safetensors. */
const PLAIN: Readonly<Record<number, { readonly name: string; readonly byteCount: number }>> = {
  0: { name: "F32", byteCount: 4 },
  1: { name: "F16", byteCount: 2 },
  24: { name: "I8", byteCount: 1 },
  25: { name: "I16", byteCount: 2 },
  26: { name: "I32", byteCount: 4 },
  27: { name: "I64", byteCount: 8 },
  28: { name: "F64", byteCount: 8 },
  30: { name: "BF16", byteCount: 2 },
};

/** Types that are not read, so that a refusal can name them. */
const UNREAD: Readonly<Record<number, string>> = {
  9: "Q8_1",
  15: "Q8_K",
  16: "IQ2_XXS",
  17: "IQ2_XS",
  18: "IQ3_XXS",
  19: "IQ1_S",
  20: "IQ4_NL",
  21: "IQ3_S",
  22: "IQ2_S",
  23: "IQ4_XS",
  29: "IQ1_M",
  34: "TQ1_0",
  35: "TQ2_0",
};

export const nameOfUnread = (type: number): string => UNREAD[type] ?? `number ${type}`;

/** What is known of a type: its name and the size of a block. Undefined: a type that is not read. */
export function sizesOfType(type: number): { name: string; valueCount: number; byteCount: number } | undefined {
  const plain = PLAIN[type];
  return plain === undefined ? TYPES[type] : { ...plain, valueCount: 1 };
}

export const BLOCK_TYPES: readonly BlockType[] = Object.values(TYPES);
export const blockTypeNamed = (name: string): BlockType | undefined => BLOCK_TYPES.find((type) => type.name === name);

/** Types that are rounded anew when the engine holds int4 or int8: their blocks are none of MatMulNBits'. */
export const isRoundedAgain = (name: string): boolean => {
  const type = blockTypeNamed(name);
  return type !== undefined && type.blocks === undefined;
};
