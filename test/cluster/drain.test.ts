/** `kubectl drain` by somebody who knows nothing else, on a real API server: it ends where there is room, and no sooner. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "chai";
import { untilFound } from "../until.ts";
import { ModelCase } from "./model-case.ts";
import { operatedWorld } from "./operated-world.ts";

describe("draining nodes on a real API server", function () {
  this.timeout(300_000);
  const suite = operatedWorld("draining");

  const drain = (node: string, timeout = "60s") =>
    suite.world.cluster.kubectl([
      "drain",
      node,
      "--pod-selector=tessellate.dev/model",
      "--delete-emptydir-data",
      `--timeout=${timeout}`,
    ]);
  const uncordon = (node: string) => suite.world.cluster.kubectl(["uncordon", node]);

  it("is asked again until what the node held serves elsewhere, and touches no other rank", async () => {
    const tiny = new ModelCase(suite.world, "emptied");
    await tiny.create({ placement: { providers: { min: 2, maxShare: "50%" } } });
    await tiny.turned("Ready", "Serving");
    const before = await tiny.ranks();
    const [[name, [node, uid]] = ["", ["", ""]]] = Object.entries(before);
    const budget = await untilFound(
      "a budget for the two ranks",
      () => tiny.kubectl("get", "pdb", "tiny", "-o", "jsonpath={.status}"),
      (status) => status.includes('"expectedPods":2'),
    );
    expect(JSON.parse(budget)).to.include({ disruptionsAllowed: 0, currentHealthy: 2 });
    suite.world.machines.autoReady = false; // the copy takes its time
    const drained = drain(node);
    const copy = await untilFound(
      "a copy",
      () => tiny.ranks(),
      (ranks) => Object.keys(ranks).length === 3,
    );
    await sleep(1_000);
    expect((await tiny.ranks())[name], "it stays until its copy is ready").to.deep.equal([node, uid]);
    const [made = ""] = Object.keys(copy).filter((each) => before[each] === undefined);
    suite.world.machines.autoReady = true;
    await suite.world.machines.report(made, { ready: true });
    expect(await drained).to.match(/node\/\S+ drained/);
    const after = await tiny.ranks();
    const { [name]: _, ...others } = before;
    expect(after).to.deep.include(others);
    expect(Object.values(after).map(([each]) => each)).to.not.include(node);
    await tiny.turned("Ready", "Serving");
    await uncordon(node);
    await sleep(1_000);
    expect(await tiny.ranks(), "nothing goes back").to.deep.equal(after);
    await tiny.end();
  });

  it("had no trouble on the way", () => {
    expect(suite.operator.events.filter(({ event }) => /trouble|crashed|failed/.test(event))).to.deep.equal([]);
  });
});
