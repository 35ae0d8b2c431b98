/** `kubectl drain` by somebody who knows nothing else, on a real API server: it ends where there is room, and no sooner. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "chai";
import type { ShardNode } from "../../core/gen/crds/shardnode.ts";
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
  const conditionOf = async (node: string, type: string) =>
    (
      await suite.world.cluster.api.get<ShardNode>(`/apis/tessellate.dev/v1alpha1/shardnodes/${node}`)
    ).status?.conditions?.find((each) => each.type === type);
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
    suite.world.house.say("emptied/tiny", { sessions: 1 }); // of an answer under way
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
    await tiny.runs(made);
    const told = async () =>
      suite.world.house.told.gateway?.models
        .find(({ namespace }) => namespace === "emptied")
        ?.chains.map(({ index, ready, draining, unproven }) => ({ index, ready, draining, unproven })) ?? [];
    const chains = (mark: "draining" | "unproven", marked: number) =>
      [0, 1].map((index) => ({
        index,
        ready: true,
        draining: false,
        unproven: false,
        ...(index === marked ? { [mark]: true } : {}),
      }));
    suite.world.house.probeFailure = "no answer yet";
    await suite.world.machines.report(made, { ready: true });
    await untilFound(
      "a chain on trial",
      told,
      (found) => JSON.stringify(found) === JSON.stringify(chains("unproven", 1)),
    );
    await sleep(1_000);
    expect(await told(), "no request has gone through").to.deep.equal(chains("unproven", 1));
    suite.world.house.probeFailure = undefined;
    await untilFound(
      "the old one to drain beside it",
      told,
      (found) => JSON.stringify(found) === JSON.stringify(chains("draining", 0)),
    );
    await sleep(2_500);
    expect((await tiny.ranks())[name], "it stays until its sessions have ended").to.deep.equal([node, uid]);
    const plan = await tiny.plan();
    expect([plan?.spec.draining?.map(({ chain }) => chain), plan?.spec.routes?.length]).to.deep.equal([[0], 2]);
    suite.world.house.say("emptied/tiny", {});
    expect(await drained).to.match(/node\/\S+ drained/);
    const after = await tiny.ranks();
    const { [name]: _, ...others } = before;
    expect(after).to.deep.include(others);
    expect(Object.values(after).map(([each]) => each)).to.not.include(node);
    await tiny.turned("Ready", "Serving");
    await untilFound(
      "said of the node",
      () => conditionOf(node, "Drained"),
      (found) => found?.reason === "Empty",
    );
    await uncordon(node);
    await untilFound(
      "nothing said of a node that is not drained",
      () => conditionOf(node, "Drained"),
      (found) => found === undefined,
    );
    await sleep(1_000);
    expect(await tiny.ranks(), "nothing goes back").to.deep.equal(after);
    await tiny.end();
  });

  it("says why it cannot be done, and what would help, where there is no room", async () => {
    const tiny = new ModelCase(suite.world, "cramped");
    await tiny.create({ placement: { providers: { min: 4, maxShare: "25%" } } });
    await tiny.turned("Ready", "Serving");
    const before = await tiny.ranks();
    const [[name, [node]] = ["", [""]]] = Object.entries(before);
    await untilFound(
      "a budget for the four ranks",
      () => tiny.kubectl("get", "pdb", "tiny", "-o", "jsonpath={.status}"),
      (status) => status.includes('"expectedPods":4'),
    );
    const refused = await drain(node, "3s").then(
      () => "done",
      (error: Error) => error.message,
    );
    expect(refused).to.contain("timeout");
    const planned = await tiny.turned("Planned", "DrainBlocked");
    expect(planned?.status).to.equal("True");
    expect(planned?.message).to.match(
      new RegExp(
        `^node ${node} is drained and keeps what it holds: no other node may hold ${name} .*It would fit with: `,
      ),
    );
    const said = await untilFound(
      "said of the node",
      () => conditionOf(node, "Drained"),
      (found) => found?.reason === "NoRoom",
    );
    expect(said?.message).to.contain("cramped/tiny: no other node may hold");
    expect(await tiny.ranks()).to.deep.equal(before);
    expect(await tiny.condition("Ready")).to.include({ status: "True" });
    await tiny.told(/Warning +DrainBlocked/);
    await untilFound(
      "an event of the node's",
      () => suite.world.cluster.kubectl(["events", "--for", `shardnode/${node}`]),
      (text) => /Warning +DrainBlocked/.test(text),
    );
    await uncordon(node);
    await tiny.turned("Planned", "Placed");
    await tiny.end();
  });

  it("leaves a machine that gets a taint which its ranks do not tolerate, and puts nothing there", async () => {
    const tiny = new ModelCase(suite.world, "tainted");
    await tiny.create({ placement: { providers: { min: 2, maxShare: "50%" } } });
    await tiny.turned("Ready", "Serving");
    const before = await tiny.ranks();
    const [[name, [node, uid]] = ["", ["", ""]], [, [other]] = ["", [""]]] = Object.entries(before);
    await suite.world.cluster.kubectl(["taint", "nodes", other, "dedicated=others:NoSchedule"]);
    suite.world.machines.autoReady = false;
    await suite.world.cluster.kubectl(["taint", "nodes", node, "dedicated=others:NoExecute"]);
    const copy = await untilFound(
      "a copy",
      () => tiny.ranks(),
      (ranks) => Object.keys(ranks).length === 3,
    );
    expect(copy[name], "copies first").to.deep.equal([node, uid]);
    const [made = ""] = Object.keys(copy).filter((each) => before[each] === undefined);
    await tiny.runs(made);
    suite.world.machines.autoReady = true;
    await suite.world.machines.report(made, { ready: true });
    const after = await untilFound(
      "gone from the node",
      () => tiny.ranks(),
      (ranks) => ranks[name] === undefined,
    );
    expect(Object.values(after).map(([each]) => each)).to.include(other, "NoSchedule moves nothing");
    await suite.world.cluster.kubectl(["taint", "nodes", node, other, "dedicated-"]);
    await tiny.end();
  });

  it("had no trouble on the way", () => {
    expect(suite.operator.events.filter(({ event }) => /trouble|crashed|failed/.test(event))).to.deep.equal([]);
  });
});
