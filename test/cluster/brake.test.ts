/** Nodes that go away all at once, on a real API server: one is given up, the others are waited for. */
import { expect } from "chai";
import { ModelCase, until } from "./model-case.ts";
import { type ModelWorld, startModelWorld } from "./model-world.ts";
import { type Operator, startOperator } from "./running-operator.ts";

describe("the brake on mass eviction", function () {
  this.timeout(300_000);
  let world: ModelWorld;
  let operator: Operator;
  before(async () => {
    world = await startModelWorld();
    operator = await startOperator(world.cluster, "first");
  });
  after(async () => {
    await operator?.stop();
    await world?.stop();
  });

  it("gives up one node of four, holds the other, and goes on as it was when that is back", async () => {
    const tiny = new ModelCase(world, "tiny");
    await tiny.create({ placement: { providers: { min: 2, maxShare: "50%" } } });
    await tiny.turned("Ready", "Serving");
    const before = await tiny.ranks();
    const [first = "", second = ""] = Object.values(before).map(([node]) => node);
    const nameOn = (node: string) => Object.entries(before).find(([, [own]]) => own === node)?.[0] ?? "";
    await Promise.all([first, second].map((node) => world.machines.remove(node)));
    await tiny.turned("Planned", "BrakeHolds");
    const moved = await until(
      () => tiny.plan(),
      (plan) => plan?.spec.givenUp !== undefined,
      "a node given up",
    );
    const { givenUp = [], chains } = moved?.spec ?? {};
    const [gone = ""] = givenUp.map(({ node }) => node);
    const held = gone === first ? second : first;
    expect(givenUp).to.have.length(1);
    expect([first, second]).to.include(gone);
    const planned = JSON.stringify(chains);
    expect(planned).to.contain(`"${held}"`).and.not.to.contain(`"${gone}"`);
    const condition = await tiny.condition("Planned");
    expect(condition).to.include({ status: "True" });
    expect(condition?.message).to.match(new RegExp(`^node ${held} went away, .* at most 1 of 4 nodes are given up`));
    expect(await tiny.events()).to.match(/Warning +BrakeHolds/);
    expect((await tiny.ranks())[nameOn(held)], "its pod is left alone").to.deep.equal(before[nameOn(held)]);

    await operator.stop();
    operator = await startOperator(world.cluster, "second");
    await until(
      async () => operator.events.some(({ event }) => event === "leads"),
      (leads) => leads,
      "another operator",
    );
    await until(
      async () => operator.heldNodes(),
      (count) => count === 1,
      "the next operator holds it, too",
    );
    expect(JSON.stringify((await tiny.plan())?.spec.chains), "whoever leads").to.equal(planned);

    await world.machines.add(held);
    await tiny.turned("Planned", "Placed");
    await tiny.turned("Ready", "Serving");
    expect((await tiny.ranks())[nameOn(held)], "never made anew").to.deep.equal(before[nameOn(held)]);
    expect(await operator.heldNodes()).to.equal(0);
  });
});
