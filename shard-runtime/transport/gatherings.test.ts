import { expect } from "chai";
import { refuse } from "../../core/result.ts";
import { Gatherings } from "./gatherings.ts";

const part = (...values: readonly number[]): Buffer => Buffer.from(Float32Array.from(values).buffer);
const shown = (parts: readonly (Float32Array | undefined)[]) =>
  parts.map((values) => (values === undefined ? "-" : [...values].join(",")));

describe("gatherings", () => {
  it("give every part in its rank's place, whatever came first", async () => {
    for (const order of [
      [0, 2],
      [2, 0],
    ]) {
      const gatherings = new Gatherings(3, 1);
      for (const rank of order) expect(gatherings.put(rank, 1, 0, part(rank, rank + 0.5)).ok).to.equal(true);
      expect(shown(await gatherings.take(1, 0))).to.deep.equal(["0,0.5", "-", "2,2.5"]);
    }
  });

  it("wait for the last one, and say for whom", async () => {
    const gatherings = new Gatherings(3, 0);
    const taken = gatherings.take(1, 0);
    expect(gatherings.awaited()).to.equal(1);
    gatherings.put(1, 1, 0, part(1));
    expect(gatherings.awaited()).to.equal(2);
    gatherings.put(1, 1, 1, part(9)); // already at the next exchange
    gatherings.put(2, 1, 0, part(2));
    expect(shown(await taken)).to.deep.equal(["-", "1", "2"]);
    expect(gatherings.awaited()).to.equal(undefined);
    gatherings.put(2, 1, 1, part(8));
    expect(shown(await gatherings.take(1, 1))).to.deep.equal(["-", "9", "8"]);
  });

  it("refuse a part twice, a part of a value, and those who are too far ahead", () => {
    const gatherings = new Gatherings(2, 0);
    expect(gatherings.put(1, 1, 0, part(1)).ok).to.equal(true);
    expect(gatherings.put(1, 1, 0, part(1))).to.include({ ok: false, code: "BadFrame" });
    expect(gatherings.put(1, 1, 1, Buffer.alloc(3))).to.include({ ok: false, code: "BadFrame" });
    gatherings.put(1, 1, 2, part(1));
    expect(gatherings.put(1, 1, 3, part(1))).to.include({ ok: false, code: "BadFrame" });
  });

  it("refuse whoever waits when the group breaks", async () => {
    const gatherings = new Gatherings(2, 0);
    const taken = gatherings.take(1, 0).then(
      () => "taken",
      (error: unknown) => (error instanceof Error ? error.message : ""),
    );
    gatherings.fail(refuse("RankLost", "gone"));
    expect(await taken).to.equal("gone");
    expect(gatherings.put(1, 1, 0, part(1)).ok).to.equal(true); // of the group that joins anew
  });
});
