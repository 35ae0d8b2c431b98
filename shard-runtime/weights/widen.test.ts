import { expect } from "chai";
import { widen } from "./widen.ts";

/** IEEE 754 binary16 by its definition, slow and obvious. */
function halfByDefinition(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 31;
  const fraction = half & 1023;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

const words = (count: number, word: (index: number) => number) =>
  new Uint8Array(Uint16Array.from({ length: count }, (_, index) => word(index)).buffer);

describe("widening to f32", () => {
  it("keeps the value of every f16", () => {
    const out = new Float32Array(1 << 16);
    widen(
      "F16",
      words(1 << 16, (half) => half),
      0,
      out,
      0,
      1 << 16,
    );
    for (let half = 0; half < 1 << 16; half += 1)
      if (!Object.is(out[half], halfByDefinition(half)))
        expect.fail(`f16 ${half.toString(16)}: ${out[half]} is not ${halfByDefinition(half)}`);
  });

  it("keeps the bits of every bf16", () => {
    const out = new Float32Array(1 << 16);
    widen(
      "BF16",
      words(1 << 16, (word) => word),
      0,
      out,
      0,
      1 << 16,
    );
    const bits = new Uint32Array(out.buffer);
    for (let word = 0; word < 1 << 16; word += 1)
      if (bits[word] !== (word << 16) >>> 0) expect.fail(`bf16 ${word.toString(16)}`);
  });

  it("writes where it is told to", () => {
    const out = new Float32Array(4);
    widen("F32", new Uint8Array(Float32Array.of(1, 2, 3).buffer), 4, out, 1, 2);
    expect([...out]).to.deep.equal([0, 2, 3, 0]);
  });
});
