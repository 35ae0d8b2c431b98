import { expect } from "chai";
import { latenessOf, metLateness, within } from "./lateness.ts";

describe("lateness of a loop", () => {
  it("counts all who would have waited, and not the timer alone", () => {
    expect(metLateness([{ atMs: 0, lateMs: 0 }], 2)).to.deep.equal([0]);
    expect(metLateness([{ atMs: 0, lateMs: 7 }], 2)).to.deep.equal([7, 5, 3, 1]);
  });

  it("of a loop that stands for a tenth of the time has that in its 99th percentile", () => {
    const samples = Array.from({ length: 450 }, (_, index) => ({ atMs: 2 * index, lateMs: 0 }));
    const { p50, p99, most } = latenessOf([...samples, { atMs: 1_000, lateMs: 98 }], 2);
    expect([p50, most]).to.deep.equal([0, 98]);
    expect(p99).to.be.within(80, 98);
  });

  it("is asked of windows by when the timer was due, too", () => {
    const samples = [1, 2, 3, 4].map((second) => ({ atMs: 1_000 * second, lateMs: second === 3 ? 900 : 0 }));
    const found = within(samples, [{ startMs: 1_900, endMs: 2_200 }]);
    expect(found.map(({ atMs }) => atMs)).to.deep.equal([2_000, 3_000]);
  });
});
