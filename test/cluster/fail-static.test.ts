/** The API server is away for longer than any lease lasts, and every operator with it: what was placed stays placed. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "chai";
import { ModelCase, until } from "./model-case.ts";
import { type ModelWorld, startModelWorld } from "./model-world.ts";
import { type Operator, startOperator } from "./running-operator.ts";

const AWAY_MS = 15_000;

describe("an API server that is away", function () {
  this.timeout(300_000);
  let world: ModelWorld;
  let operator: Operator;
  before(async () => {
    world = await startModelWorld();
    operator = await startOperator(world.cluster, "before");
  });
  after(async () => {
    await operator?.stop();
    await world?.stop();
  });

  it("moves nothing: not while it is away, and not when it is back", async () => {
    const tiny = new ModelCase(world, "tiny");
    await tiny.create({ spares: 1, placement: { providers: { min: 3 } } });
    await tiny.turned("Ready", "Serving");
    const [ranks, plan] = [await tiny.ranks(), await tiny.plan()];
    const { apiServer } = world.cluster;
    await apiServer.stop();
    await sleep(AWAY_MS);
    const end = await Promise.race([operator.ended.catch((error: Error) => error.message), sleep(0, "leads on")]);
    expect(end, "nobody leads whom nobody can hear").to.contain("lease");
    await apiServer.start();
    operator = await startOperator(world.cluster, "after");
    await until(
      async () => operator.events.some(({ event }) => event === "leads"),
      (leads) => leads,
      "another operator",
    );
    await tiny.turned("Ready", "Serving");
    await sleep(2_000);
    expect(await tiny.ranks()).to.deep.equal(ranks);
    expect((await tiny.plan())?.spec).to.deep.equal(plan?.spec);
    expect(operator.client.writes.filter((write) => write.includes("/pods/"))).to.deep.equal([]);
  });
});
