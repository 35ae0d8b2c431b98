import { expect } from "chai";
import fc from "fast-check";
import { aModelConfig } from "../../core/model-config-fixture.ts";
import { turningPlaces, withHeadLayout } from "./head-layout.ts";
import type { TensorBlocks, TensorSource } from "./tensor-source.ts";

const shapes = fc
  .record({ headSize: fc.integer({ min: 1, max: 40 }), turning: fc.double({ min: 0, max: 1, noNaN: true }) })
  .map(({ headSize, turning }) => ({ headSize: 2 * headSize, rotarySize: 2 * Math.ceil(turning * headSize) }));

/** Row r of every tensor is r + 1, in rows of one column. */
const source = (rowCount: number): TensorSource => ({
  read: (_, part = {}) => {
    const { start, end } = part.rows ?? part.columns ?? { start: 0, end: rowCount };
    return Promise.resolve(Float32Array.from({ length: end - start }, (_each, index) => start + index + 1));
  },
  readBlocks: (_, part = {}) => {
    const { start, end } = part.rows ?? { start: 0, end: rowCount };
    const rows = Array.from({ length: end - start }, (_each, index) => start + index + 1);
    const blocks = {
      bits: 8,
      blockSize: 16,
      values: new Uint8Array(rows.length * 16),
      scales: Float32Array.from(rows),
    };
    return Promise.resolve(blocks as TensorBlocks);
  },
});

const configOf = (headSize: number, rotarySize: number) =>
  aModelConfig({
    headSize,
    headCount: 3,
    kvHeadCount: 3,
    attentionKinds: [{ rope: { theta: 1e4, rotarySize, scaling: { kind: "none" } } }],
  });

describe("the layout of heads", () => {
  it("gives every value a place of its own, and turning pairs the two halves", () => {
    fc.assert(
      fc.property(shapes, ({ headSize, rotarySize }) => {
        const places = turningPlaces(headSize, rotarySize) ?? Array.from({ length: headSize }, (_, i) => i);
        const half = (Math.ceil(headSize / 16) * 16) / 2;
        expect(new Set(places).size).to.equal(headSize);
        expect(Math.max(...places)).to.be.below(2 * half);
        for (let pair = 0; pair < rotarySize / 2; pair += 1) {
          expect(places[pair]).to.equal(pair);
          expect(places[pair + rotarySize / 2]).to.equal(half + pair);
        }
      }),
    );
  });

  it("rows read in any pieces are those read at once, floats and blocks alike", async () => {
    await fc.assert(
      fc.asyncProperty(shapes, fc.nat(200), fc.constantFrom("q", "k", "v"), async (shape, cut, letter) => {
        const { headSize, rotarySize } = shape;
        const padded = Math.ceil(headSize / 16) * 16;
        const model = withHeadLayout(source(3 * headSize), configOf(headSize, rotarySize));
        const role = `layers.0.${letter}.weight`;
        const border = cut % (3 * padded);
        const ranges = [
          { start: 0, end: border },
          { start: border, end: 3 * padded },
        ].filter(({ start, end }) => end > start);
        const whole = await model.read(role, { rows: { start: 0, end: 3 * padded } });
        const pieces = await Promise.all(ranges.map((rows) => model.read(role, { rows })));
        expect(pieces.flatMap((piece) => [...piece])).to.deep.equal([...whole]);
        const blocks = await Promise.all(ranges.map(async (rows) => model.readBlocks?.(role, { rows })));
        expect(blocks.flatMap((piece) => [...(piece?.scales ?? [])])).to.deep.equal([...whole]);
        expect([...whole].filter((value) => value > 0).sort((a, b) => a - b)).to.deep.equal(
          Array.from({ length: 3 * headSize }, (_, index) => index + 1),
        );
      }),
    );
  });

  it("gains of a padded head grow, so that the mean over the padding takes nothing away", async () => {
    const model = withHeadLayout(source(24), configOf(24, 24));
    const gains = await model.read("layers.0.q.norm", { rows: { start: 0, end: 32 } });
    expect(gains[0]).to.be.closeTo(Math.sqrt(24 / 32), 1e-7);
    expect(gains).to.have.lengthOf(32);
  });

  it("leaves heads alone that fit", async () => {
    const own = source(96);
    const model = withHeadLayout(own, configOf(32, 32));
    const rows = { start: 5, end: 40 };
    expect(await model.read("layers.0.q.weight", { rows })).to.deep.equal(await own.read("q", { rows }));
  });
});
