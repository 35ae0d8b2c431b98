import { expect } from "chai";
import fc from "fast-check";
import { WINDOWED_ROWS_MAX, keptPositions, kvBytesPerPosition, kvBytesPerSlot } from "./kv-cache.ts";
import { aModelConfig } from "./model-config-fixture.ts";
import { cutSlices } from "./slice.ts";

const config = aModelConfig({
  layerCount: 3,
  headCount: 8,
  kvHeadCount: 2,
  headSize: 72, // held as 80
  attentionKinds: [{ window: 100 }, {}],
  layerKinds: [0, 1, 0].map((attention) => ({ attention, experts: false })),
});
const layers = { start: 0, end: 3 };

describe("what a session keeps", () => {
  const [whole = expect.fail("a slice")] = cutSlices(config, [1]);
  const bytes = (shape: Parameters<typeof kvBytesPerSlot>[3]) => kvBytesPerSlot(config, layers, whole, shape);

  it("is every position, and of layers with a window as many as are seen and come at once", () => {
    const perPosition = 2 * 2 * 80 * 4;
    expect(bytes({ dtype: "f32", contextLength: 4096, wraps: false })).to.equal(3 * 4096 * perPosition);
    const kept = keptPositions(4096, 100);
    expect(kept).to.equal(368); // 100 + 256, in blocks of 16
    expect(bytes({ dtype: "f32", contextLength: 4096, wraps: true })).to.equal((4096 + 2 * kept) * perPosition);
    expect(bytes({ dtype: "f32", contextLength: 64, wraps: true })).to.equal(3 * 64 * perPosition);
    expect(kvBytesPerPosition(config, layers, whole, "f32")).to.equal(3 * perPosition);
  });

  it("is a byte a number and a scale for 32 of them, in int8", () => {
    expect(bytes({ dtype: "int8", contextLength: 10, wraps: false })).to.equal(3 * 10 * 2 * 2 * (80 + 3 * 4));
  });

  it("is never more than the context, and holds the window and the rows that come where it is less", () =>
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 40_000 }), fc.integer({ min: 1, max: 40_000 }), (context, window) => {
        const kept = keptPositions(context, window);
        expect(kept).to.be.at.most(context);
        if (kept === context) return;
        expect(kept % 16).to.equal(0);
        expect(kept).to.be.at.least(window + WINDOWED_ROWS_MAX - 1);
      }),
    ));
});
