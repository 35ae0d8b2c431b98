/** Plans on a real API server: asked about, taken over by spares, refused and made possible; and what is said meanwhile. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "chai";
import type { ShardedModel } from "../../core/gen/crds/shardedmodel.ts";
import type { ShardPlan } from "../../core/gen/crds/shardplan.ts";
import { untilFound } from "../until.ts";
import { ModelCase } from "./model-case.ts";
import { nodeObject } from "./operator-case.ts";
import { operatedWorld } from "./operated-world.ts";

/** The chain that the first spare is named after. */
const SPARES = 256;

describe("plans on a real API server", function () {
  this.timeout(300_000);
  const suite = operatedWorld("planning");

  it("moves nothing by a plan that nobody has let through, and everything by the one that somebody has", async () => {
    const asked = new ModelCase(suite.world, "asked");
    await asked.create({ planPolicy: "Manual", placement: { providers: { min: 2 } } });
    const waits = await asked.turned("Planned", "AwaitsApproval");
    const proposed = await untilFound(
      "a proposal",
      () => asked.plan("tiny.proposed"),
      (found) => found !== undefined,
    );
    const approval = proposed?.spec.approval ?? "";
    expect(waits?.message)
      .to.contain(`tessellate.dev/approved=${approval}`)
      .and.to.match(/tok\/s.*load/);
    expect(await asked.ranks()).to.deep.equal({});
    await asked.told(/PlanProposed/, new RegExp(`approved=${approval}`));

    await asked.kubectl("annotate", "shardplan", "tiny.proposed", "tessellate.dev/approved=000000000000");
    await sleep(1_000);
    expect(await asked.ranks(), "another plan's approval").to.deep.equal({});
    await asked.kubectl("annotate", "shardplan", "tiny.proposed", `tessellate.dev/approved=${approval}`, "--overwrite");
    await asked.turned("Ready", "Serving");
    const before = await asked.ranks();
    expect((await asked.plan())?.spec.chains).to.deep.equal(proposed?.spec.chains);
    await untilFound(
      "no proposal left",
      () => asked.plan("tiny.proposed"),
      (found) => found === undefined,
    );

    const [refused = ""] =
      (await asked.plan())?.spec.chains[0]?.segments[0]?.ranks.map(({ provider }) => provider) ?? [];
    await asked.change({ placement: { providers: { deny: [refused] } } });
    await asked.turned("Planned", "AwaitsApproval");
    await sleep(1_000);
    expect(await asked.ranks(), "what serves goes on").to.deep.equal(before);
    expect(await asked.condition("Ready")).to.include({ status: "True" });
    const next = (await asked.plan("tiny.proposed"))?.spec;
    expect(JSON.stringify(next?.chains)).to.not.contain(`"${refused}"`);
    await asked.kubectl("annotate", "shardplan", "tiny.proposed", `tessellate.dev/approved=${next?.approval}`);
    await untilFound(
      "the plan that was let through",
      async () => (await asked.plan())?.spec.chains,
      (chains) => JSON.stringify(chains) === JSON.stringify(next?.chains),
    );
    await asked.turned("Ready", "Serving");
    await asked.end();
  });

  it("puts a spare in a lost node's place, and touches no other rank", async () => {
    const spared = new ModelCase(suite.world, "spared");
    await spared.create({ spares: 1, placement: { providers: { min: 3 } } });
    await spared.turned("Ready", "Serving");
    const segmentsOf = (plan: ShardPlan | undefined, chain: number) =>
      plan?.spec.chains.find(({ index }) => index === chain)?.segments ?? [];
    const isLoaded = (plan: ShardPlan | undefined) =>
      segmentsOf(plan, SPARES).length > 0 && /^(\d+)\/\1$/.test(plan?.status?.ranks ?? "");
    const plan = await untilFound("a spare, and all ranks ready", () => spared.plan(), isLoaded);
    const [spare] = segmentsOf(plan, SPARES);
    const covered = segmentsOf(plan, 0).find(({ layers }) => layers.start === spare?.layers.start);
    const lost = covered?.ranks[0];
    const { [lost?.name ?? ""]: gone, ...others } = await spared.ranks();
    expect(gone, "the lost rank").to.not.equal(undefined);
    await suite.world.machines.remove(lost?.node ?? "");
    const after = await untilFound(
      "the spare on the route",
      () => spared.plan(),
      (found) => isLoaded(found) && found?.spec.routes?.[0]?.segments.some(({ chain }) => chain === SPARES) === true,
    );
    expect(JSON.stringify(after?.spec.chains)).to.not.contain(`"${lost?.node}"`);
    expect(await spared.ranks()).to.deep.include(others);
    await spared.turned("Ready", "Serving");
    await spared.told(/Replanned.*tok\/s/);
    const { status } = await untilFound(
      "the repair over",
      () => suite.world.cluster.api.get<ShardedModel>(`${spared.path}/tiny`),
      (found) => found.status?.repairs?.last?.secondsToServe !== undefined,
    );
    expect(status?.repairs?.count).to.equal(1);
    expect(status?.repairs?.last).to.include({ rank: lost?.name, node: lost?.node, cause: "NodeGone" });
    const described = await spared.kubectl("describe", "sm", "tiny");
    expect(described).to.match(/Repairs:\s+Count:\s+1\s+Last:\s+Cause:\s+NodeGone\s+Node:\s+\S+\s+Rank:\s+tiny-\d/);
    expect(described).to.match(/Seconds To Serve:\s+[\d.]+\n/);
    await suite.world.machines.add(lost?.node ?? "");
    await spared.end();
  });

  it("loads a drained node's shard elsewhere before it goes, and touches no other rank", async () => {
    const drained = new ModelCase(suite.world, "drained");
    await drained.create({ placement: { providers: { min: 2, maxShare: "50%" } } });
    await drained.turned("Ready", "Serving");
    const before = await drained.ranks();
    const [[name, [node]] = ["", [""]]] = Object.entries(before);
    await drained.kubectl("annotate", "shardnode", node, "tessellate.dev/drain=true");
    const plan = await untilFound(
      "a plan without the node",
      () => drained.plan(),
      (found) => !JSON.stringify(found?.spec.chains).includes(`"${node}"`),
    );
    expect(plan?.spec.routes?.[0]?.segments.some(({ chain }) => chain === SPARES)).to.equal(true);
    const after = await untilFound(
      "the drained rank gone",
      () => drained.ranks(),
      (found) => found[name] === undefined,
    );
    const { [name]: _, ...others } = before;
    expect(after).to.deep.include(others);
    await drained.turned("Ready", "Serving");
    await drained.kubectl("annotate", "shardnode", node, "tessellate.dev/drain-");
    await drained.end();
  });

  it("moves to a better plan beside what serves, and lets go of that once a request has gone through and answers end", async () => {
    const { machines, house, cluster } = suite.world;
    const shardNode = (name: string, memoryBytesPerSecond: string) =>
      JSON.stringify(nodeObject(name, "spare", { memory: { freeBytes: "2Gi" }, memoryBytesPerSecond }));
    await cluster.kubectl(["apply", "-f", "-"], shardNode("spare-1", "10M"));
    const bettered = new ModelCase(suite.world, "bettered");
    await bettered.create({ placement: { providers: { allow: ["spare"] } } });
    await bettered.turned("Ready", "Serving");
    const before = await bettered.ranks();
    const chains = async () =>
      house.told.gateway?.models
        .find(({ namespace }) => namespace === "bettered")
        ?.chains.map(({ index, ready, unproven, draining }) =>
          [index, ready ? "ready" : "", unproven ? "unproven" : "", draining ? "draining" : ""].join(" ").trimEnd(),
        ) ?? [];
    const told = (...wanted: readonly string[]) =>
      untilFound(`gateways told of ${wanted.join(", ")}`, chains, (found) => found.join() === wanted.join());

    machines.autoReady = false; // it takes its time to load
    house.say("bettered/tiny", { sessions: 1 }); // of an answer under way
    await machines.add("quick-1");
    await cluster.kubectl(["apply", "-f", "-"], shardNode("quick-1", "20G"));
    const moving = await bettered.turned("Planned", "Moving");
    expect(moving?.message).to.match(/^a better plan gains \d+ %: its chains are made beside those that serve; /);
    const both = await untilFound(
      "a rank beside",
      () => bettered.ranks(),
      (found) => Object.keys(found).length === 2,
    );
    expect(both).to.deep.include(before);
    await told("0 ready", "1  unproven");
    house.probeFailure = "no answer yet";
    await bettered.runs("tiny-1-0-0");
    machines.autoReady = true;
    await machines.report("tiny-1-0-0", { ready: true });
    await told("0 ready", "1 ready unproven");
    await untilFound(
      "a probe",
      async () => house.probes.some(({ model, chain }) => model === "tiny" && chain === 1),
      (found) => found,
    );
    await sleep(1_000);
    expect(await chains(), "no request has gone through").to.deep.equal(["0 ready", "1 ready unproven"]);
    house.probeFailure = undefined;
    await told("0 ready  draining", "1 ready");
    await sleep(1_000);
    expect(await bettered.ranks(), "while an answer is under way").to.deep.equal(both);
    expect((await bettered.condition("UpToDate"))?.reason).to.equal("AsAsked");
    house.say("bettered/tiny", {});
    await told("1 ready");
    const after = await untilFound(
      "the old rank gone",
      () => bettered.ranks(),
      (found) => Object.keys(found).length === 1,
    );
    expect(Object.values(after).map(([node]) => node)).to.deep.equal(["quick-1"]);
    await bettered.turned("Planned", "Placed");
    expect((await bettered.plan())?.spec.better).to.equal(undefined);
    expect(await bettered.condition("Ready")).to.include({ status: "True" });
    await bettered.end();
    await cluster.kubectl(["apply", "-f", "-"], shardNode("spare-1", "20G"));
  });

  it("says what would make a model fit, and plans as soon as it is so", async () => {
    const large = new ModelCase(suite.world, "large");
    await large.create({ quantization: "f32", slots: 256, contextLength: 16384 });
    const refused = await large.turned("Planned", "NotEnoughRoom");
    const [, need = ""] = /add a node with ≥ ([\d.]+ GiB) free/.exec(refused?.message ?? "") ?? [];
    expect(refused?.message).to.match(/^[\d.]+ [GM]iB short: /);
    expect(need, refused?.message).to.not.equal("");
    await large.told(/NotEnoughRoom/, new RegExp(`≥ ${need}`));
    await suite.world.machines.add("large-1");
    await suite.world.cluster.kubectl(
      ["apply", "-f", "-"],
      JSON.stringify({
        apiVersion: "tessellate.dev/v1alpha1",
        kind: "ShardNode",
        metadata: { name: "large-1" },
        spec: {
          provider: "campus",
          memory: { freeBytes: need.replace(" GiB", "Gi") },
          memoryBytesPerSecond: "20G",
          signer: { target: "signer.example.org:7300" },
        },
      }),
    );
    await large.turned("Planned", "Placed");
    expect(JSON.stringify((await large.plan())?.spec.chains)).to.contain('"large-1"');
    await large.told(/Normal +Planned .*tok\/s/);
    await large.end();
  });

  it("had no trouble on the way", () => {
    expect(suite.operator.events.filter(({ event }) => /trouble|crashed|failed/.test(event))).to.deep.equal([]);
  });
});
