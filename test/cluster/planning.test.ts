/** Plans on a real API server: asked about, taken over by spares, refused and made possible; and what is said meanwhile. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "chai";
import type { ShardedModel } from "../../core/gen/crds/shardedmodel.ts";
import type { ShardPlan } from "../../core/gen/crds/shardplan.ts";
import { untilFound } from "../until.ts";
import { ModelCase } from "./model-case.ts";
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
