/** The operator against a real API server, scheduler and garbage collector; pods run nothing, and are reported at will. */
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { openAuthority } from "../../operator/apply/authority.ts";
import { secretOf } from "../../operator/apply/rank-secrets.ts";
import { systemClock } from "../../operator/clock.ts";
import { clusterAccess } from "../../operator/kube/access.ts";
import { KubeClient } from "../../operator/kube/client.ts";
import { untilFound } from "../until.ts";
import { type ControlPlane, startControlPlane } from "./control-plane.ts";
import { type FakeHouse, startFakeHouse } from "./fake-house.ts";
import { FakeMachines } from "./fake-machines.ts";
import { createNamespaceIn, installKinds, makeModelDirectory } from "./model-world.ts";
import {
  allRanksAreCounted,
  modelObject,
  newKey,
  nodeObject,
  providerObject,
  ranksOf,
  secretsUnmounted,
} from "./operator-case.ts";
import { startReadingRanks } from "./reading-ranks.ts";
import { type Operator, makeHousePods, manifestText, startOperator } from "./running-operator.ts";

const PROVIDERS = ["campus", "garage", "studio", "spare"];
const HOUSE = { gateway: "127.78.0.1", ledger: "127.78.0.2" };

describe("the operator on a real API server", function () {
  this.timeout(600_000);
  let cluster: ControlPlane;
  let machines: FakeMachines;
  let house: FakeHouse;
  let operator: Operator;
  let modelDirectory: string;
  const kubectl = (...args: string[]) => cluster.kubectl(["-n", "models", ...args]);
  const json = async (...args: string[]) => JSON.parse(await kubectl(...args, "-o", "json"));
  const create = (...objects: readonly object[]) =>
    cluster.kubectl(
      ["apply", "--validate=strict", "-f", "-"],
      objects.map((object) => JSON.stringify(object)).join("\n---\n"),
    );
  const modelOf = (name: string, spec: object = {}) => modelObject(name, modelDirectory, spec);
  const wait = (condition: string, object: string, timeoutSeconds = 60) =>
    kubectl("wait", `--for=${condition}`, `--timeout=${timeoutSeconds}s`, object);
  const ranks = (model: string) => ranksOf(kubectl, model);
  const condition = async (model: string, type: string) => {
    const { status } = await json("get", "sm", model);
    return status?.conditions?.find((each: { type: string }) => each.type === type);
  };
  /** Waits until a condition has that status or that reason. */
  const turned = (model: string, type: string, to: string) =>
    untilFound(
      `${type} of ${model} to be ${to}`,
      () => condition(model, type),
      (found) => found?.status === to || found?.reason === to,
    );

  before(async () => {
    // Nobody renews the leases of machines that do not exist.
    cluster = await startControlPlane({
      controllerManagerArgs: ["--controllers=*,-node-lifecycle-controller,-taint-eviction-controller"],
    });
    await installKinds(cluster);
    await createNamespaceIn(cluster, "tessellate");
    const restricted = { "pod-security.kubernetes.io/enforce": "restricted" };
    await create({ apiVersion: "v1", kind: "Namespace", metadata: { name: "models", labels: restricted } });
    await untilFound(
      "a service account",
      () => cluster.api.find("/api/v1/namespaces/models/serviceaccounts/default"),
      (found) => found !== undefined,
    );
    modelDirectory = await makeModelDirectory();
    machines = new FakeMachines(cluster.api, "models");
    machines.autoReady = false;
    for (const name of ["campus-a1", "garage-3", "studio-x1"]) await machines.add(name);
    const client = new KubeClient(clusterAccess(cluster.kubeconfig));
    house = await startFakeHouse(await openAuthority(client, "tessellate"), HOUSE);
    client.close();
    await makeHousePods(cluster, house);
    operator = await startOperator(cluster, "first");
  });
  after(async () => {
    await operator?.stop();
    machines?.stop();
    await house?.close();
    await cluster?.stop();
    if (modelDirectory !== undefined) await rm(modelDirectory, { recursive: true, force: true });
  });

  it("says why nothing is planned, as long as nothing is", async () => {
    await create(modelOf("tiny"));
    const planned = await turned("tiny", "Planned", "False");
    expect(planned).to.include({ reason: "NoNodes" });
    expect(await kubectl("get", "sm", "tiny", "-o", "wide")).to.match(/tiny +False +NoNodes +0\/1/);
  });

  it("admits providers with keys, and tells nodes what they lack", async () => {
    await create(...PROVIDERS.map((name) => providerObject(name)));
    await create(
      nodeObject("campus-a1", "campus"),
      nodeObject("garage-3", "garage", { memory: { freeBytes: "600Mi" } }),
      nodeObject("studio-x1", "studio"),
      nodeObject("spare-1", "spare"),
    );
    await wait("condition=Ready=false", "shardnode/campus-a1");
    expect(await kubectl("get", "shn", "campus-a1")).to.contain("ProviderNotAdmitted");
    for (const name of PROVIDERS) {
      const patch = JSON.stringify({ spec: { publicKey: newKey() } });
      await kubectl("patch", "provider", name, "--type=merge", "-p", patch);
    }
    for (const name of ["campus-a1", "garage-3", "studio-x1"]) await wait("condition=Ready", `shardnode/${name}`);
    await wait("condition=Admitted", "provider/campus");
    expect(await kubectl("get", "shn", "spare-1")).to.contain("NodeMissing");
  });

  it("writes the plan down and makes pods that are pinned, restricted, and told what they hold", async () => {
    const made = await untilFound(
      "three pods with nodes",
      () => ranks("tiny"),
      (found) => found.length === 3 && found.every((rank) => rank.split(" ")[1] !== ""),
    );
    expect(made.map((rank) => rank.split(" ")[1]).sort()).to.deep.equal(["campus-a1", "garage-3", "studio-x1"]);
    const plan = await json("get", "sp", "tiny");
    const layers = plan.spec.chains[0].segments.map((segment: { layers: { start: number; end: number } }) => [
      segment.layers.start,
      segment.layers.end,
    ]);
    expect(layers[0][0]).to.equal(0);
    expect(layers.at(-1)[1]).to.equal(12);
    const pod = await json("get", "pod", "tiny-0-0-0");
    expect(pod.spec.automountServiceAccountToken).to.equal(false);
    expect(pod.metadata.ownerReferences[0]).to.include({ kind: "ShardedModel", name: "tiny", controller: true });
    const secret = await json("get", "secret", secretOf(pod) ?? "");
    const told = JSON.parse(Buffer.from(secret.data["tiny-0-0-0.json"], "base64").toString());
    expect(told).to.deep.include({
      name: "models/tiny-0-0-0",
      layers: { start: layers[0][0], end: layers[0][1] },
    });
    expect(told.neighbours.filter((name: string) => !name.includes("-256"))).to.contain("models/tiny-0-1-0");
    expect(Object.keys(secret.data).filter((key) => !key.startsWith("tiny-0-0-0."))).to.deep.equal(["ca.crt"]);
    expect((await json("get", "service", "tiny")).spec.clusterIP).to.equal("None");
    const loading = await turned("tiny", "WeightsReady", "Loading");
    expect(loading.message).to.contain("0 of 3 ranks");
  });

  it("says how far the ranks have read, together, and no more of it once none reads", async () => {
    const statusOf = async (kind: string, name: string) => (await json("get", kind, name)).status;
    const close = await startReadingRanks([
      [(await statusOf("pod", "tiny-0-0-0")).podIP, { doneBytes: 600, totalBytes: 1000, secondsLeft: 3 }],
      [(await statusOf("pod", "tiny-0-1-0")).podIP, { doneBytes: 20, totalBytes: 500, secondsLeft: 40 }],
    ]);
    const tiny = () => statusOf("sm", "tiny");
    const { progress } = await untilFound("progress of two", tiny, (status) => status?.progress?.totalBytes === 1500);
    expect(progress).to.deep.equal({ doneBytes: 620, totalBytes: 1500, secondsLeft: 40, percent: "41%" });
    expect(await kubectl("get", "sm", "tiny", "-o", "wide")).to.match(/FETCHED.*\n.* 41%\s/);
    const before = operator.client.writes.length;
    await systemClock().sleep(4_000); // it looks every three seconds
    await close();
    // How many shards nodes and providers hold is written some seconds after they were made.
    const written = operator.client.writes.slice(before).filter((each) => !/(shardnodes|providers)\//.test(each));
    expect(written).to.deep.equal([]);
    await untilFound("no progress", tiny, (status) => status.progress === undefined);
  });

  it("is Ready only after a probe has gone through the whole chain", async () => {
    house.probeFailure = "rank models/tiny-0-1-0 is lost";
    for (const rank of await ranks("tiny")) await machines.report(rank.split(" ")[0] ?? "", { ready: true });
    const failed = await turned("tiny", "Ready", "ProbeFailed");
    expect(failed.message).to.contain("rank models/tiny-0-1-0 is lost");
    house.probeFailure = undefined;
    await wait("condition=Ready", "sm/tiny");
    expect(await kubectl("get", "sm", "tiny", "-o", "wide")).to.match(/tiny +True +Serving +1\/1 +3 /);
    expect(await kubectl("get", "sp", "tiny")).to.contain("3/3");
    await untilFound(
      "events of all that happened, which are written once there is nothing else to do",
      () => kubectl("events", "--for", "shardedmodel/tiny"),
      (events) => ["ProbeFailed", "RankCreated", "Serving"].every((reason) => events.includes(reason)),
    );
  });

  it("tells gateway and ledger who holds what, and the ledger whom to believe", async () => {
    const told = await untilFound(
      "a ready chain at the ledger",
      async () => house.told.ledger,
      (state) => state?.models[0]?.chains[0]?.ready === true && state.gateways.length === 1,
    );
    const chain = house.told.gateway?.models[0]?.chains[0];
    expect(
      chain?.segments
        .flatMap(({ ranks: group }) => group.map(({ address }) => address))
        .every((address) => /^127\.77\.0\.\d+:7400$/.test(address)),
    ).to.equal(true);
    expect(told?.gateways[0]?.publicKey).to.equal(house.gatewayKey.publicKey.spki);
    expect(told?.providers.map(({ name }) => name).sort()).to.deep.equal([...PROVIDERS].sort());
    expect(house.told.gateway?.ledgerAddress).to.equal(house.ledger.address);
    expect(told?.fence).to.be.greaterThan(0);
  });

  it("rests: looked at again, nothing is written", async () => {
    await allRanksAreCounted(cluster);
    const before = operator.client.writes.length;
    await kubectl("annotate", "sm", "tiny", "seen=1");
    await kubectl("annotate", "shardnode", "campus-a1", "seen=1");
    await kubectl("label", "shardnode", "campus-a1", "seen=1"); // labels are planned with: every model is looked at
    await systemClock().sleep(1_000);
    expect(operator.client.writes.slice(before)).to.deep.equal([]);
  });

  it("makes one rank anew when one is deleted, and leaves the others alone", async () => {
    machines.autoReady = true;
    const before = await ranks("tiny");
    await kubectl("delete", "pod", "tiny-0-1-0", "--wait=false");
    const after = await untilFound(
      "another pod",
      () => ranks("tiny"),
      (found) => found.length === 3 && found[1] !== before[1] && found[1]?.split(" ")[1] !== "",
    );
    expect([after[0], after[2]]).to.deep.equal([before[0], before[2]]);
    expect(after[1]?.split(" ").slice(0, 2)).to.deep.equal(before[1]?.split(" ").slice(0, 2));
    await turned("tiny", "Ready", "True");
    expect(await secretsUnmounted(kubectl), "the lost rank's").to.deep.equal([]);
  });

  it("asks again whether a chain serves when one of its processes was restarted", async () => {
    const probeCount = house.probes.length;
    await machines.report("tiny-0-0-0", { ready: false, restartCount: 1 });
    await wait("condition=Ready=false", "sm/tiny");
    await machines.report("tiny-0-0-0", { ready: true, restartCount: 1 });
    await wait("condition=Ready", "sm/tiny");
    expect(house.probes.length).to.be.greaterThan(probeCount);
  });

  it("makes a rank's certificate anew in time, without touching the rank", async () => {
    const name = secretOf(await json("get", "pod", "tiny-0-0-0")) ?? "";
    const certificate = async () => (await json("get", "secret", name)).data["tiny-0-0-0.crt"];
    const [before, pods] = [await certificate(), await ranks("tiny")];
    const due = "tessellate.dev/renew-certificate-after=2026-01-01T00:00:00Z";
    await kubectl("annotate", "pod", "tiny-0-0-0", "--overwrite", due);
    await untilFound("another certificate", certificate, (now) => now !== before);
    expect(await ranks("tiny")).to.deep.equal(pods);
    const { annotations } = (await json("get", "pod", "tiny-0-0-0")).metadata;
    expect(Date.parse(annotations["tessellate.dev/renew-certificate-after"])).to.be.greaterThan(Date.now());
  });

  it("moves only the shard whose machine is gone", async () => {
    await machines.add("spare-1");
    await wait("condition=Ready", "shardnode/spare-1");
    const before = await ranks("tiny");
    const lost = before.find((rank) => rank.includes(" studio-x1 "))?.split(" ")[0] ?? "";
    await machines.remove("studio-x1");
    const after = await untilFound(
      "the shard on the spare node",
      () => ranks("tiny"),
      (found) => found.some((rank) => rank.startsWith(`${lost} spare-1 `)),
    );
    expect(after.filter((rank) => !rank.startsWith(lost))).to.deep.equal(
      before.filter((rank) => !rank.startsWith(lost)),
    );
    await wait("condition=Ready", "sm/tiny");
    expect(await secretsUnmounted(kubectl), "of the provider that holds nothing now").to.deep.equal([]);
    await untilFound(
      "every rank to be counted as ready",
      async () => (await json("get", "sp", "tiny")).status.ranks,
      (ready) => ready === "3/3",
    );
  });

  it("changes nothing when another operator takes over, which bears a higher fence", async () => {
    const before = await ranks("tiny");
    const generation = (await json("get", "sp", "tiny")).metadata.generation;
    const fence = house.told.gateway?.fence ?? 0;
    await operator.stop();
    await rm(join(modelDirectory, "tessellate-manifest.json")); // the source is away, too
    operator = await startOperator(cluster, "second");
    await untilFound(
      "the second operator's fence",
      async () => house.told.gateway?.fence,
      (now) => now === fence + 1,
    );
    await turned("tiny", "Ready", "True");
    expect(await ranks("tiny")).to.deep.equal(before);
    expect((await json("get", "sp", "tiny")).metadata.generation).to.equal(generation);
    expect(house.told.gateway?.models.map(({ name }) => name)).to.deep.equal(["tiny"]);
    await writeFile(join(modelDirectory, "tessellate-manifest.json"), manifestText());
  });

  it("rolls a changed spec out beside what serves, and ends at one revision", async () => {
    machines.autoReady = true;
    const before = await ranks("tiny");
    const seen = new Set<string>();
    house.probeFailure = "no answer before somebody has seen the rollout";
    await kubectl("patch", "sm", "tiny", "--type=merge", "-p", JSON.stringify({ spec: { contextLength: 256 } }));
    const { metadata } = await json("get", "sm", "tiny");
    await untilFound(
      "UpToDate",
      async () => {
        const { status } = await json("get", "sm", "tiny");
        const upToDate = status.conditions.find((each: { type: string }) => each.type === "UpToDate");
        seen.add(`${status.readyReplicas} ${upToDate?.reason}`);
        if (seen.has("1 RollingOut")) house.probeFailure = undefined;
        return { upToDate, seen: [...seen] };
      },
      ({ upToDate }) => upToDate?.status === "True" && upToDate.observedGeneration === metadata.generation,
    );
    expect(
      [...seen].every((each) => each.startsWith("1 ")),
      [...seen].join(", "),
    ).to.equal(true);
    expect(seen).to.include("1 RollingOut");
    const after = await ranks("tiny");
    expect(after).to.have.length(before.length);
    expect(after.filter((rank) => before.includes(rank))).to.deep.equal([]);
    const { spec } = await json("get", "sp", "tiny");
    expect([spec.outgoing, spec.rollout, spec.model.contextLength]).to.deep.equal([undefined, undefined, 256]);
    await untilFound(
      "gateways to be told of the new chain alone",
      () =>
        house.told.gateway?.models[0]?.chains.map(({ ready, draining, unproven }) => [ready, draining, unproven]) ?? [],
      (chains) => JSON.stringify(chains) === "[[true,false,false]]",
    );
  });

  it("says which memory is missing where a model does not fit, and what would help", async () => {
    await create(modelOf("big", { contextLength: 2048, slots: 256, quantization: "f32" }));
    const planned = await turned("big", "Planned", "False");
    expect(planned.reason).to.equal("NotEnoughRoom");
    expect(planned.message)
      .to.match(/short/)
      .and.match(/int4|contextLength|fewer/);
    await kubectl("delete", "sm", "big");
  });

  it("scales down to nothing and up again", async () => {
    await kubectl("scale", "sm/tiny", "--replicas=0");
    await untilFound(
      "no pods",
      () => ranks("tiny"),
      (found) => found.length === 0,
    );
    await turned("tiny", "Ready", "ScaledToZero");
    await kubectl("scale", "sm/tiny", "--replicas=1");
    await wait("condition=Ready", "sm/tiny");
  });

  it("settles what a Settlement asks for, once", async () => {
    const settlement = (name: string, epoch: number) => ({
      apiVersion: "tessellate.dev/v1alpha1",
      kind: "Settlement",
      metadata: { name },
      spec: { epoch },
    });
    await create(settlement("epoch-411", 411), settlement("epoch-0", 0));
    await wait("condition=Settled", "settlement/epoch-411");
    const { status } = await json("get", "settlement", "epoch-411");
    expect(status.totals).to.deep.equal({
      collected: "1.500000",
      paid: "1.499999",
      withheld: "0.000000",
      dust: "0.000001",
    });
    expect(
      status.entries.map(({ credit, amount }: { credit: string; amount: string }) => `${credit} ${amount}`),
    ).to.include("provider/campus 1.499999");
    expect(status.digest).to.match(/^sha256:[0-9a-f]{64}$/);
    await wait("condition=Settled=false", "settlement/epoch-0");
    expect(await kubectl("get", "stl", "epoch-0")).to.contain("NothingToSettle");
  });

  it("leaves nothing behind when the model is deleted", async () => {
    await kubectl("delete", "sm", "tiny");
    const left = () =>
      kubectl("get", "pods,secrets,services,shardplans", "-l", "tessellate.dev/model=tiny", "-o", "name");
    await untilFound("nothing left", left, (found) => found.trim() === "");
    await untilFound(
      "no model at the gateway",
      async () => house.told.gateway?.models.length,
      (count) => count === 0,
    );
  });

  it("had no trouble on the way", () => {
    const troubles = operator.events.filter(({ event }) => /trouble|crashed|failed/.test(event));
    expect(troubles).to.deep.equal([]);
  });

  it("gives up when somebody else holds its lease", async () => {
    const lease = { spec: { holderIdentity: "somebody" } };
    await cluster.kubectl([
      "-n",
      "tessellate",
      "patch",
      "lease",
      "tessellate-operator",
      "--type=merge",
      "-p",
      JSON.stringify(lease),
    ]);
    const why = await operator.ended.then(
      () => "nothing",
      (error: Error) => error.message,
    );
    expect(why).to.contain("lost the lease").and.to.contain("somebody");
  });
});
