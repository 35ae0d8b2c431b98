/** Heartbeats of node agents, as the operator keeps them: what becomes of a node whose agent falls silent. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "chai";
import type { ShardNode } from "../../core/gen/crds/shardnode.ts";
import { keyNamed } from "../../core/session-fixture.ts";
import { openAuthority } from "../../operator/apply/authority.ts";
import { SILENT_MS } from "../../operator/apply/offers.ts";
import { clusterAccess } from "../../operator/kube/access.ts";
import { KubeClient } from "../../operator/kube/client.ts";
import { until } from "../until.ts";
import { type FakeAgents, startFakeAgents } from "./fake-agents.ts";
import { type ModelWorld, startModelWorld } from "./model-world.ts";
import { modelObject, ranksOf } from "./operator-case.ts";
import { type Operator, startOperator } from "./running-operator.ts";

const MACHINES = [
  { machine: "campus-a1", provider: "campus" },
  { machine: "garage-3", provider: "garage" },
  { machine: "studio-x1", provider: "studio" },
];
/** Agents are looked at every 15 s, give or take a tenth: by then each has been looked at twice. */
const TWO_LOOKS_MS = 35_000;

describe("an operator and node agents", function () {
  this.timeout(300_000);
  let world: ModelWorld;
  let agents: FakeAgents;
  let operator: Operator;
  let victim: string;
  const kubectl = (...args: string[]) => world.cluster.kubectl(["-n", "models", ...args]);
  const nodeOf = (name: string) => world.cluster.api.get<ShardNode>(`/apis/tessellate.dev/v1alpha1/shardnodes/${name}`);
  const reasonOf = async (name: string) =>
    (await nodeOf(name)).status?.conditions?.find(({ type }) => type === "Ready")?.reason;

  before(async () => {
    world = await startModelWorld();
    await world.createNamespace("models");
    const client = new KubeClient(clusterAccess(world.cluster.kubeconfig));
    const authority = await openAuthority(client, "tessellate");
    client.close();
    const all = MACHINES.map((each) => ({ ...each, key: keyNamed(each.provider) }));
    agents = await startFakeAgents(world.cluster, authority, all);
    operator = await startOperator(world.cluster, "agents");
    await world.cluster.kubectl(["apply", "-f", "-"], JSON.stringify(modelObject("tiny", world.modelDirectory)));
    await kubectl("wait", "--for=condition=Ready", "--timeout=60s", "sm/tiny");
    await until("what agents say to be in the status of their nodes", async () => {
      const found = await Promise.all(MACHINES.map(({ machine }) => nodeOf(machine)));
      return found.every(({ status }) => status?.offer !== undefined && status.measured?.links?.length === 2);
    });
  });
  after(async () => {
    await operator?.stop();
    await agents?.close();
    await world?.stop();
  });

  it("writes nothing while they answer what they answered before", async () => {
    for (let count = -1; count !== operator.client.writes.length; await sleep(6_000))
      count = operator.client.writes.length; // counts of shards come last, five seconds after
    const [writesBefore, looksBefore] = [operator.client.writes.length, agents.lookCount];
    await until("two looks at each", () => agents.lookCount >= looksBefore + 2 * MACHINES.length, {
      timeoutMs: TWO_LOOKS_MS + 10_000,
    });
    expect(operator.client.writes.slice(writesBefore)).to.deep.equal([]);
  });

  it("says a minute later that one is silent, and takes nothing from its node, nor from the model", async () => {
    const before = await ranksOf(kubectl, "tiny");
    const held = before.map((rank) => rank.split(" ")[1]);
    victim = MACHINES.find(({ machine }) => held.includes(machine))?.machine ?? "no node with an agent holds a rank";
    expect(held).to.include(victim);
    agents.silent.add(victim);
    const startMs = performance.now();
    await until("the node to say so", async () => (await reasonOf(victim)) === "AgentSilent", {
      timeoutMs: SILENT_MS + 30_000,
    });
    // Silence counts from the last answer, which was at most one look ago; a look, a tick and a write come on top.
    expect(performance.now() - startMs).to.be.within(SILENT_MS - 20_000, SILENT_MS + 20_000);
    expect(await ranksOf(kubectl, "tiny")).to.deep.equal(before);
    const ready = await kubectl("get", "sm/tiny", "-o", 'jsonpath={.status.conditions[?(@.type=="Ready")].status}');
    expect(ready).to.equal("True");
    for (const { machine } of MACHINES)
      if (machine !== victim) expect(await reasonOf(machine), machine).not.to.equal("AgentSilent");
  });

  it("counts the node again as soon as its agent answers, with every rank as it was", async () => {
    const before = await ranksOf(kubectl, "tiny");
    agents.silent.delete(victim);
    await until("the node to be as it was", async () => (await reasonOf(victim)) !== "AgentSilent");
    expect(await ranksOf(kubectl, "tiny")).to.deep.equal(before);
  });
});
