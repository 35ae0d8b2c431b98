/** The reflector in front of a real API server, through a proxy that misbehaves in every way we know. */
import { expect } from "chai";
import { type ControlPlane, startControlPlane } from "./control-plane.ts";
import { FAULTS } from "./faulty-proxy.ts";
import { soak } from "./soak.ts";

describe("the reflector through a faulty proxy", function () {
  this.timeout(300_000);
  let cluster: ControlPlane;
  before(async () => {
    cluster = await startControlPlane();
  });
  after(() => cluster?.stop());

  it("misses no change in half a minute of faults, and sees each within the bound that it states", async () => {
    const outcome = await soak(cluster, {
      seconds: 32,
      seed: 7,
      faultEveryMs: 900,
      checkMs: 1_500,
      graceMs: 500,
      silenceMs: 2_000,
      timeoutMs: 2_000,
    });
    expect(outcome.wrong).to.deep.equal([]);
    expect(outcome.writeCount).to.be.greaterThan(100);
    expect([...outcome.faultCounts.keys()], "faults that took effect").to.include.members([...FAULTS]);
    expect(outcome.counts.missed, "changes that only a check could find").to.be.greaterThan(0);
    expect(outcome.busyLateMs).to.be.at.most(outcome.boundMs);
    expect(outcome.quietLateMs).to.be.at.most(outcome.boundMs);
  });
});
