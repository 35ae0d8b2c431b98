import { expect } from "chai";
import { type Progress, ProgressMeter } from "./progress.ts";

describe("progress", () => {
  it("tells bytes done, of how many, and seconds left at the pace so far", () => {
    let now = 1000;
    const seen: Progress[] = [];
    const meter = new ProgressMeter({ monotonicMs: () => now, sleep: async () => {} }, 1000, (progress) =>
      seen.push(progress),
    );
    expect(meter.now()).to.deep.equal({ doneBytes: 0, totalBytes: 1000, secondsLeft: undefined });
    meter.advance(100);
    now += 2000;
    meter.advance(100);
    meter.expect(300);
    now += 2000;
    meter.advance(50);
    meter.advance(150); // more than was expected
    expect(seen.map(({ doneBytes, totalBytes, secondsLeft }) => [doneBytes, totalBytes, secondsLeft])).to.deep.equal([
      [100, 1000, undefined],
      [200, 1000, 8],
      [250, 300, 0.8],
      [400, 400, 0],
    ]);
  });
});
