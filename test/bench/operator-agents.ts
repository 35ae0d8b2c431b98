/**
 * A thousand node agents, each behind an address of its own, looked at over mTLS by the operator as it is deployed: what
 * that costs while nothing is new, what is written then, and how soon it says of a tenth of them that they are silent.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { ShardNode } from "../../core/gen/crds/shardnode.ts";
import { type SigningKey, signingKeyOf } from "../../core/keys.ts";
import { valueOrThrow } from "../../core/result.ts";
import { generateKeyPairSync } from "node:crypto";
import { openAuthority } from "../../operator/apply/authority.ts";
import { clusterAccess } from "../../operator/kube/access.ts";
import { KubeClient } from "../../operator/kube/client.ts";
import { type ControlPlane, startControlPlane } from "../cluster/control-plane.ts";
import { type FakeAgent, type FakeAgents, startFakeAgents } from "../cluster/fake-agents.ts";
import { type OperatorProcess, startOperatorProcess } from "../cluster/operator-process.ts";
import { createNamespaceIn, installKinds } from "../cluster/model-world.ts";
import { writesBetween, writesOf } from "../cluster/scale-world.ts";
import { type BenchResult, atMost, rounded } from "./figures.ts";
import { memoryOf } from "./machine.ts";

const AGENT_COUNT = 1_000;
const MACHINES_EACH = 50; // of a provider
const REST_MS = 30_000;
const QUIET_MS = 6_000;
const PATIENCE_MS = 180_000;
const AT_ONCE = 16;
const MIB = 2 ** 20;
const say = (line: string) => console.error(line);

type Found = Pick<BenchResult, "requirements" | "table" | "notes">;

export async function askedAgents(): Promise<Found> {
  const cluster = await startControlPlane({
    withoutScheduler: true,
    controllerManagerArgs: ["--controllers=serviceaccount-controller,root-ca-certificate-publisher-controller"],
  });
  const client = new KubeClient(clusterAccess(cluster.kubeconfig));
  let agents: FakeAgents | undefined;
  let operator: OperatorProcess | undefined;
  try {
    await installKinds(cluster);
    await createNamespaceIn(cluster, "tessellate");
    const machines = await makeMachines(cluster);
    const authority = await openAuthority(client, "tessellate");
    agents = await startFakeAgents(cluster, authority, machines);
    say(`${machines.length} agents`);
    const startMs = performance.now();
    operator = await startOperatorProcess(cluster, "agents", { args: ["--require-offers"] });
    await untilCounted(cluster, "Ready", machines.length);
    const readySeconds = (performance.now() - startMs) / 1000;
    say(`all signed for after ${readySeconds.toFixed(1)} s`);
    await atRest(cluster);
    const rested = await rest(cluster, operator, agents);
    say(JSON.stringify(rested));
    const silenced = await silence(cluster, agents, machines);
    say(JSON.stringify(silenced));
    return foundOf({ ...rested, ...silenced, readySeconds, rssMib: memoryOf(operator.pid, "VmRSS") / MIB });
  } finally {
    await operator?.stop();
    await agents?.close();
    client.close();
    await cluster.stop();
  }
}

/** Machines, ShardNodes of the same names, and their providers, whose keys are known. */
async function makeMachines(cluster: ControlPlane): Promise<readonly FakeAgent[]> {
  const keys = Array.from({ length: AGENT_COUNT / MACHINES_EACH }, () => newKey());
  const now = new Date().toISOString().replace(/\.\d+Z/, "Z");
  const ready = { type: "Ready", status: "True", reason: "Test", lastHeartbeatTime: now, lastTransitionTime: now };
  const merge = "application/merge-patch+json";
  const kinds = "/apis/tessellate.dev/v1alpha1";
  const { api } = cluster;
  for (const [index, key] of keys.entries())
    await api.request("POST", `${kinds}/providers`, {
      apiVersion: "tessellate.dev/v1alpha1",
      kind: "Provider",
      metadata: { name: `owner-${index}` },
      spec: { publicKey: key.publicKey.spki },
    });
  const machines = keys.flatMap((key, owner) =>
    Array.from({ length: MACHINES_EACH }, (_, index) => ({
      machine: `node-${owner * MACHINES_EACH + index}`,
      provider: `owner-${owner}`,
      key,
    })),
  );
  const left = machines.values();
  const make = async () => {
    for (const { machine, provider } of left) {
      await api.request("POST", "/api/v1/nodes", { metadata: { name: machine } });
      await api.request("PATCH", `/api/v1/nodes/${machine}/status`, { status: { conditions: [ready] } }, merge);
      await api.request("PATCH", `/api/v1/nodes/${machine}`, { spec: { taints: null } }, merge);
      await api.request("POST", `${kinds}/shardnodes`, {
        apiVersion: "tessellate.dev/v1alpha1",
        kind: "ShardNode",
        metadata: { name: machine },
        spec: { provider, memory: { freeBytes: "200Gi" } },
      });
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, make));
  return machines;
}

const newKey = (): SigningKey => valueOrThrow(signingKeyOf(generateKeyPairSync("ed25519").privateKey, "a bench"));

type Listed = { readonly items: readonly ShardNode[] };

async function countOf({ api }: ControlPlane, what: "Ready" | "AgentSilent"): Promise<number> {
  const { items } = await api.get<Listed>("/apis/tessellate.dev/v1alpha1/shardnodes");
  const readies = items.map(({ status }) => status?.conditions?.find(({ type }) => type === "Ready"));
  return readies.filter((ready) => (what === "Ready" ? ready?.status === "True" : ready?.reason === what)).length;
}

async function untilCounted(cluster: ControlPlane, what: "Ready" | "AgentSilent", count: number): Promise<void> {
  const startMs = performance.now();
  while ((await countOf(cluster, what)) < count) {
    if (performance.now() - startMs > PATIENCE_MS) throw new Error(`in vain waited for ${count} nodes to be ${what}`);
    await sleep(500);
  }
}

/** Nothing has been written for a while. */
async function atRest(cluster: ControlPlane): Promise<void> {
  const startMs = performance.now();
  for (let before = await writesOf(cluster); ; ) {
    await sleep(QUIET_MS);
    const now = await writesOf(cluster);
    if (sum(writesBetween(before, now)) === 0) return;
    before = now;
    if (performance.now() - startMs > PATIENCE_MS) throw new Error("the operator does not stop writing");
  }
}

const sum = (counts: ReadonlyMap<string, number>): number => [...counts.values()].reduce((all, each) => all + each, 0);

async function rest(cluster: ControlPlane, operator: OperatorProcess, agents: FakeAgents) {
  const [before, looks] = [await writesOf(cluster), agents.lookCount];
  await operator.scrape(); // its loop's delays are counted from one scrape to the next
  const [cpu, startMs] = [operator.cpuSeconds(), performance.now()];
  await sleep(REST_MS);
  const seconds = (performance.now() - startMs) / 1000;
  const cpuPercent = (100 * (operator.cpuSeconds() - cpu)) / seconds;
  const lag = /^nodejs_eventloop_lag_p99_seconds (\S+)$/m.exec(await operator.scrape())?.[1];
  const written = writesBetween(before, await writesOf(cluster));
  if (sum(written) > 0) say(`WRITTEN at rest: ${JSON.stringify([...written])}`);
  return {
    cpuPercent,
    lagMs: 1000 * Number(lag),
    writeCount: sum(written),
    looksASecond: (agents.lookCount - looks) / seconds,
  };
}

/** A tenth of them stop to answer at one moment. */
async function silence(cluster: ControlPlane, agents: FakeAgents, machines: readonly FakeAgent[]) {
  const before = await writesOf(cluster);
  const victims = machines.filter((_, index) => index % 10 === 0);
  for (const { machine } of victims) agents.silent.add(machine);
  const startMs = performance.now();
  await untilCounted(cluster, "AgentSilent", 1);
  const firstSeconds = (performance.now() - startMs) / 1000;
  await untilCounted(cluster, "AgentSilent", victims.length);
  const lastSeconds = (performance.now() - startMs) / 1000;
  const wrongCount = (await countOf(cluster, "AgentSilent")) - victims.length;
  const writesEach = sum(writesBetween(before, await writesOf(cluster))) / victims.length;
  return { firstSeconds, lastSeconds, wrongCount, writesEach };
}

type Figures = Awaited<ReturnType<typeof rest>> &
  Awaited<ReturnType<typeof silence>> & { readonly readySeconds: number; readonly rssMib: number };

function foundOf(figures: Figures): Found {
  const { cpuPercent, lagMs, writeCount, looksASecond, firstSeconds, lastSeconds, wrongCount } = figures;
  return {
    requirements: [
      atMost(`writes in ${REST_MS / 1000} s of ${AGENT_COUNT} agents that say nothing new`, writeCount, 0, ""),
      atMost("event loop late meanwhile, p99", lagMs, 50, "ms"),
      atMost("until a tenth of them, silent at once, are said to be", lastSeconds, 90, "s"),
      atMost("others said to be silent", wrongCount, 0, ""),
    ],
    table: [
      [`${AGENT_COUNT} nodes signed for, from the operator's start`, `${rounded(figures.readySeconds)} s`],
      ["agents looked at", `${rounded(looksASecond)} a second`],
      ["CPU of the operator", `${rounded(cpuPercent)} % of a core`],
      ["memory of the operator", `${rounded(figures.rssMib)} MiB`],
      ["the first of the silent said to be", `after ${rounded(firstSeconds)} s`],
      ["writes for each that fell silent", String(rounded(figures.writesEach))],
    ],
    notes: ["Each agent says of its node an offer, a layer, the memory, and the way to 64 others."],
  };
}
