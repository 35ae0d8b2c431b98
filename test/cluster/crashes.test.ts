/** Operators that crash after their writes: whoever comes next brings it to the same end. */
import { expect } from "chai";
import { seededBy } from "../../operator/plan/seeded.ts";
import { type LifeOutcome, crashOnce, liveThrough } from "./crashes.ts";
import { type ModelWorld, startModelWorld } from "./model-world.ts";

describe("operators that crash right after a write", function () {
  this.timeout(300_000);
  let world: ModelWorld;
  let calm: LifeOutcome;
  before(async () => {
    world = await startModelWorld();
    calm = await liveThrough(world, "calm", () => undefined);
  });
  after(() => world?.stop());

  it("bring a model through its life as one that never crashes, dying every few writes", async () => {
    const outcomes = await Promise.all(
      ["often", "once-more", "again"].map((name) => {
        const { below } = seededBy(name);
        return liveThrough(world, name, () => 1 + below(5), { ends: calm.ends });
      }),
    );
    for (const outcome of outcomes) {
      expect(outcome.crashCount).to.be.greaterThan(10);
      expect(outcome.podCount, "no rank is made twice").to.equal(calm.podCount);
    }
  });

  it("do so after a single crash, wherever it is", async () => {
    const { below } = seededBy("single crashes");
    const points = Array.from({ length: 6 }, () => 1 + below(calm.writeCount));
    expect(await crashOnce(world, calm, points)).to.deep.equal([]);
  });
});
