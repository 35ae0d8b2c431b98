import { expect } from "chai";
import fc from "fast-check";
import { type BlockBits, dequantizeRows, quantizeRows } from "./quantize.ts";

const rowsOf = (rowCount: number, columnCount: number) =>
  fc.float32Array({
    minLength: rowCount * columnCount,
    maxLength: rowCount * columnCount,
    noNaN: true,
    min: -8,
    max: 8,
  });

/** Largest distance of any value from the nearest one that its block could express. */
const stepOf = (block: Float32Array, bits: BlockBits): number => {
  const peak = Math.max(...block.map(Math.abs));
  return bits === 8 ? peak / 127 : (peak * 1.1) / 8;
};

/**
 * Half a step, where no value is cut off. With 4 bits the side across from the peak is: -8 of 8.8 codes, 7 of 8.8. Of 16
 * values 14 cut off so pull the fitted scale up by 22 %, and a value halfway between codes 7 and 8 is then 1.9 steps off.
 */
const STEPS_OFF = { 8: 0.501, 4: 1.9 } as const;
/** What chance found once: 1.3 steps off. */
const lopsided = new Float32Array(120);
lopsided.set([-7.999998, 0, 0, 0, -6.8181806, 0, 0, 0, 7.569409, 0, 0, 0, 7.999988, 0, 0, 7.9999967]);

describe("quantisation in blocks", () => {
  for (const bits of [4, 8] as const) {
    it(`${bits} bits: every value comes back within its block's step`, () => {
      fc.assert(
        fc.property(rowsOf(3, 40), (rows) => {
          const back = dequantizeRows(quantizeRows(rows, 40, 16, bits), 40, 16, bits);
          for (const [index, value] of rows.entries()) {
            const row = Math.floor(index / 40) * 40;
            const start = row + Math.floor((index - row) / 16) * 16;
            const step = stepOf(rows.subarray(start, Math.min(start + 16, row + 40)), bits);
            expect(Math.abs((back[index] ?? 0) - value)).to.be.at.most(step * STEPS_OFF[bits] + 1e-30);
          }
        }),
        { examples: [[lopsided]] },
      );
    });

    it(`${bits} bits: a row's bytes do not depend on the rows around it, nor a block's on the blocks around it`, () => {
      fc.assert(
        fc.property(rowsOf(2, 64), (rows) => {
          const whole = quantizeRows(rows, 64, 32, bits);
          const second = quantizeRows(rows.slice(64), 64, 32, bits);
          expect(whole.values.slice(second.values.length)).to.deep.equal(second.values);
          const half = quantizeRows(rows.slice(96), 32, 32, bits);
          expect(second.values.slice(half.values.length)).to.deep.equal(half.values);
          expect(second.scales[1]).to.equal(half.scales[0]);
        }),
      );
    });

    it(`${bits} bits: zeros stay zeros, and fill up a short block`, () => {
      const { values, scales } = quantizeRows(new Float32Array(5), 5, 16, bits);
      expect([...new Set(values)]).to.deep.equal([bits === 4 ? 0x88 : 0x80]);
      expect([...scales]).to.deep.equal([0]);
    });
  }

  it("lays out 4 bits with the earlier value low", () => {
    const rows = Float32Array.of(8, -8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    const { values, scales } = quantizeRows(rows, 16, 16, 4);
    // The peak is negative eight steps of a negative scale; minus the peak is clipped to seven.
    expect(values[0]).to.equal(0x0 | (0xf << 4));
    expect(scales[0]).to.be.closeTo(-(8 * 8 + 8 * 7) / (64 + 49), 1e-6);
  });

  it("4 bits in blocks of 128 stay within ten percent of normally distributed weights", () => {
    let state = 1;
    const uniform = () => {
      state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
      return (state + 1) / 2 ** 31;
    };
    const rows = Float32Array.from(
      { length: 128 * 400 },
      () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()),
    );
    const back = dequantizeRows(quantizeRows(rows, 128, 128, 4), 128, 128, 4);
    const error = rows.reduce((sum, value, index) => sum + (value - (back[index] ?? 0)) ** 2, 0);
    const power = rows.reduce((sum, value) => sum + value ** 2, 0);
    expect(Math.sqrt(error / power)).to.be.below(0.1);
  });
});
