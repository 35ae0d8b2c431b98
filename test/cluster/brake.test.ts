/** Nodes that go away all at once, on a real API server: one is given up, the others are waited for. */
import { expect } from "chai";
import { until, untilFound } from "../until.ts";
import { ModelCase } from "./model-case.ts";
import { operatedWorld } from "./operated-world.ts";

describe("the brake on mass eviction", function () {
  this.timeout(300_000);
  const suite = operatedWorld("first");

  it("gives up one node of four, holds the other, and goes on as it was when that is back", async () => {
    const tiny = new ModelCase(suite.world, "tiny");
    await tiny.create({ placement: { providers: { min: 2, maxShare: "50%" } } });
    await tiny.turned("Ready", "Serving");
    const before = await tiny.ranks();
    const [first = "", second = ""] = Object.values(before).map(([node]) => node);
    const nameOn = (node: string) => Object.entries(before).find(([, [own]]) => own === node)?.[0] ?? "";
    await Promise.all([first, second].map((node) => suite.world.machines.remove(node)));
    await tiny.turned("Planned", "BrakeHolds");
    const moved = await untilFound(
      "a node given up",
      () => tiny.plan(),
      (plan) => plan?.spec.givenUp !== undefined,
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
    await tiny.told(/Warning +BrakeHolds/);
    expect((await tiny.ranks())[nameOn(held)], "its pod is left alone").to.deep.equal(before[nameOn(held)]);

    await suite.operator.stop();
    await suite.startNext("second");
    await until("another operator", () => suite.operator.events.some(({ event }) => event === "leads"));
    await untilFound(
      "the next operator holds it, too",
      async () => suite.operator.heldNodes(),
      (count) => count === 1,
    );
    expect(JSON.stringify((await tiny.plan())?.spec.chains), "whoever leads").to.equal(planned);

    await suite.world.machines.add(held);
    await tiny.turned("Planned", "Placed");
    await tiny.turned("Ready", "Serving");
    expect((await tiny.ranks())[nameOn(held)], "never made anew").to.deep.equal(before[nameOn(held)]);
    expect(await suite.operator.heldNodes()).to.equal(0);
  });
});
