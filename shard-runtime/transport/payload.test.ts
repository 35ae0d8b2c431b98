import { expect } from "chai";
import * as fc from "fast-check";
import { valueOrThrow } from "../../core/result.ts";
import { encodeHidden, joinValues, parsePayload } from "./payload.ts";

const HALF = { dtype: "f16", columns: 4, rowsMax: 16 } as const;
const FULL = { dtype: "f32", columns: 4, rowsMax: 16 } as const;

/** The bytes at an odd address, as they lie within a message. */
function misplaced(data: Buffer): Buffer {
  const message = Buffer.alloc(data.length + 3);
  data.copy(message, 3);
  return message.subarray(3);
}

/** Rounding to 11 bits of significand, ties to even, the obvious way. */
function nearestHalf(value: number): number {
  if (value === 0) return value;
  const exponent = Math.max(Math.floor(Math.log2(Math.abs(value))), -14);
  const unit = 2 ** (exponent - 10);
  const scaled = value / unit;
  const low = Math.floor(scaled);
  const rest = scaled - low;
  const up = rest > 0.5 || (rest === 0.5 && low % 2 !== 0);
  return (up ? low + 1 : low) * unit;
}

const rows = fc
  .array(fc.float({ min: -60_000, max: 60_000, noNaN: true }), { minLength: 4, maxLength: 64 })
  .map((values) => Float32Array.from(values.slice(0, values.length - (values.length % 4))));

describe("payloads", () => {
  it("carry f32 rows bit for bit, wherever they lie in a message", () =>
    fc.assert(
      fc.property(rows, fc.boolean(), (hidden, odd) => {
        const data = valueOrThrow(encodeHidden(hidden, "f32"));
        const payload = { dtype: "f32", rows: hidden.length / 4, columns: 4, data: odd ? misplaced(data) : data };
        expect([...valueOrThrow(parsePayload(payload, FULL))]).to.deep.equal([...hidden]);
      }),
    ));

  it("round to f16 to nearest, ties to even", () =>
    fc.assert(
      fc.property(rows, (hidden) => {
        const payload = {
          dtype: "f16",
          rows: hidden.length / 4,
          columns: 4,
          data: misplaced(valueOrThrow(encodeHidden(hidden, "f16"))),
        };
        const got = [...valueOrThrow(parsePayload(payload, HALF))];
        for (const [index, value] of hidden.entries()) expect(got[index]).to.equal(nearestHalf(value) + 0);
      }),
    ));

  it("say where f16 is too small", () => {
    expect(encodeHidden(Float32Array.of(1, 65_520, 0, 0), "f16")).to.include({ ok: false, code: "HandOffOverflow" });
    expect(valueOrThrow(encodeHidden(Float32Array.of(65_504), "f16")).readUInt16LE()).to.equal(0x7bff);
    expect(encodeHidden(Float32Array.of(Number.NaN), "f32")).to.include({ ok: false, code: "HandOffOverflow" });
  });

  it("join rows in order, and leave one alone", () => {
    const one = Float32Array.of(1, 2);
    expect(joinValues([{ values: one }])).to.equal(one);
    expect([...joinValues([{ values: Uint32Array.of(1) }, { values: Uint32Array.of(2, 3) }])]).to.deep.equal([1, 2, 3]);
  });
});
