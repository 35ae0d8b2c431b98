import { expect } from "chai";
import { type ReadProgress, parseProgress, progressHeaders, progressTogether } from "./read-progress.ts";

const read = (headers: Readonly<Record<string, string>>) => parseProgress((name) => headers[name] ?? null);

describe("how far a rank has read", () => {
  const told: readonly ReadProgress[] = [
    { doneBytes: 0, totalBytes: 1 },
    { doneBytes: 5, totalBytes: 9_000_000_000_000, secondsLeft: 3600 },
  ];
  for (const progress of told)
    it(`is told in headers: ${JSON.stringify(progress)}`, () =>
      expect(read(progressHeaders(progress))).to.deep.equal(progress));

  const lies: readonly Readonly<Record<string, string>>[] = [
    {},
    { "tessellate-done-bytes": "3" },
    { "tessellate-done-bytes": "3", "tessellate-total-bytes": "2" },
    { "tessellate-done-bytes": "-3", "tessellate-total-bytes": "2" },
    { "tessellate-done-bytes": "1e3", "tessellate-total-bytes": "1e4" },
    { "tessellate-done-bytes": "1", "tessellate-total-bytes": "9".repeat(40) },
  ];
  for (const headers of lies)
    it(`is not known from ${JSON.stringify(headers)}`, () => expect(read(headers)).to.equal(undefined));

  it("adds up, and the slowest says how long, once all know", () => {
    const [a, b] = [
      { doneBytes: 1, totalBytes: 10, secondsLeft: 4 },
      { doneBytes: 2, totalBytes: 20 },
    ];
    expect(progressTogether([])).to.equal(undefined);
    expect(progressTogether([a, b])).to.deep.equal({ doneBytes: 3, totalBytes: 30 });
    expect(progressTogether([a, { ...b, secondsLeft: 9 }])).to.deep.equal({
      doneBytes: 3,
      totalBytes: 30,
      secondsLeft: 9,
    });
  });
});
