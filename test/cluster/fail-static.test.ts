/** The API server is away for longer than any lease lasts, and every operator with it: what was placed stays placed. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "chai";
import { until } from "../until.ts";
import { ModelCase } from "./model-case.ts";
import { operatedWorld } from "./operated-world.ts";

const AWAY_MS = 15_000;

describe("an API server that is away", function () {
  this.timeout(300_000);
  const suite = operatedWorld("before");

  it("moves nothing: not while it is away, and not when it is back", async () => {
    const tiny = new ModelCase(suite.world, "tiny");
    await tiny.create({ spares: 1, placement: { providers: { min: 3 } } });
    await tiny.turned("Ready", "Serving");
    const [ranks, plan] = [await tiny.ranks(), await tiny.plan()];
    const { apiServer } = suite.world.cluster;
    await apiServer.stop();
    await sleep(AWAY_MS);
    const end = await Promise.race([suite.operator.ended.catch((error: Error) => error.message), sleep(0, "leads on")]);
    expect(end, "nobody leads whom nobody can hear").to.contain("lease");
    await apiServer.start();
    await suite.startNext("after");
    await until("another operator", () => suite.operator.events.some(({ event }) => event === "leads"));
    await tiny.turned("Ready", "Serving");
    await sleep(2_000);
    expect(await tiny.ranks()).to.deep.equal(ranks);
    expect((await tiny.plan())?.spec).to.deep.equal(plan?.spec);
    expect(suite.operator.client.writes.filter((write) => write.includes("/pods/"))).to.deep.equal([]);
  });
});
