import { expect } from "chai";
import { type Progress, ProgressMeter, shownProgress } from "./progress.ts";

describe("progress", () => {
  it("tells bytes done, of how many, and seconds left at the pace so far", () => {
    let now = 1000;
    const seen: Progress[] = [];
    const meter = new ProgressMeter({ monotonicMs: () => now, sleep: async () => {} }, 1000, (progress) =>
      seen.push(progress),
    );
    const unknown = { bytesPerSecond: undefined, secondsLeft: undefined };
    expect(meter.now()).to.deep.equal({ doneBytes: 0, totalBytes: 1000, ...unknown });
    meter.advance(100);
    now += 2000;
    meter.advance(100);
    meter.expect(300);
    now += 2000;
    meter.advance(50);
    meter.advance(150); // more than was expected
    const figures = seen.map((each) => [each.doneBytes, each.totalBytes, each.bytesPerSecond, each.secondsLeft]);
    expect(figures).to.deep.equal([
      [100, 1000, undefined, undefined],
      [200, 1000, 100, 8],
      [250, 300, 62.5, 0.8],
      [400, 400, 100, 0],
    ]);
  });

  it("goes by the pace of late: an hour of slowness is forgotten after ten seconds", () => {
    let now = 0;
    const meter = new ProgressMeter({ monotonicMs: () => now, sleep: async () => {} }, 1_000_000);
    for (; now < 3_600_000; now += 1000) meter.advance(1);
    for (; now < 3_615_000; now += 500) meter.advance(500);
    expect(meter.now().bytesPerSecond).to.equal(1000);
  });

  const shown: readonly (readonly [Progress, string])[] = [
    [{ doneBytes: 0, totalBytes: 1 << 30, bytesPerSecond: undefined, secondsLeft: undefined }, "0 B of 1.00 GiB"],
    [
      { doneBytes: 432 << 20, totalBytes: 1 << 30, bytesPerSecond: 85.2 * (1 << 20), secondsLeft: 6.9 },
      "432.0 MiB of 1.00 GiB, 85.2 MiB/s, 7 s left",
    ],
    [{ doneBytes: 1024, totalBytes: 1024, bytesPerSecond: 17, secondsLeft: 0 }, "1.00 KiB of 1.00 KiB"],
    [{ doneBytes: 1, totalBytes: 601, bytesPerSecond: 1, secondsLeft: 600 }, "1 B of 601 B, 1 B/s, 10 min left"],
    [{ doneBytes: 1, totalBytes: 9001, bytesPerSecond: 1, secondsLeft: 9000 }, "1 B of 8.79 KiB, 1 B/s, 2.5 h left"],
  ];
  for (const [progress, text] of shown) it(`says: ${text}`, () => expect(shownProgress(progress)).to.equal(text));
});
