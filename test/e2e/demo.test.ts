/**
 * The whole of it, as its users meet it: helm install, kubectl apply, kubectl wait, a question, trouble, pay, and the
 * way out. Everything is real but the machines, whose pods are processes.
 */
import { expect } from "chai";
import { verifyAnswer } from "../../core/answer-verification.ts";
import type { Condition, KubeList, KubeObject, Pod } from "../cluster/kube-types.ts";
import { allRanksAreCounted } from "../cluster/operator-case.ts";
import { startPrometheus, whyNoPrometheus } from "../prometheus.ts";
import { inSteps } from "../in-steps.ts";
import { requireOrSkip } from "../requirement.ts";
import { until } from "../until.ts";
import { HOUSE_NAMESPACE, housePod, installHouse } from "./house.ts";
import { balances } from "./ledger.ts";
import { ModelWatch, type RankPod } from "./model-watch.ts";
import { expectOnlyReplaced, expectUnharmed, first, holdsToken, longest } from "./expected.ts";
import { onStage } from "./on-stage.ts";
import { scrapeTargets } from "./pod-monitors.ts";
import { type Golden, chatGoldens } from "../golden/demo-goldens.ts";
import { ask } from "./questions.ts";
import { expectAgreement } from "./rewards.ts";
import { type Loaded, Rollouts } from "./rollouts.ts";
import { makeStrictNamespace, rightsOf, whyNotRestricted } from "./rights.ts";
import { MACHINES, podProcesses, type Stage } from "./stage.ts";
import { happened, metricAt, versionsIn } from "./telling.ts";
import { Timeline } from "./timeline.ts";
import { verifyCommand } from "./verify-command.ts";

describe("the demo in a cluster", function () {
  this.timeout(600_000); // against what hangs: the longest of them takes a minute on a machine of two cores
  inSteps(this);
  const timeline = new Timeline();
  const goldens = chatGoldens();
  let stage: Stage;
  let watch: ModelWatch;
  let gatewayUrl: string;

  const kubectl = (...args: string[]) => stage.controlPlane.kubectl(args);
  const apply = (object: object) => stage.controlPlane.kubectl(["apply", "-f", "-"], JSON.stringify(object));
  const items = async <T extends KubeObject>(path: string) =>
    (await stage.controlPlane.api.get<KubeList<T>>(path)).items;
  const patch = (what: string, spec: object) => kubectl("patch", what, "--type=merge", "-p", JSON.stringify({ spec }));
  const housePods = () => items<Pod>(`/api/v1/namespaces/${HOUSE_NAMESPACE}/pods`);

  onStage(
    timeline,
    (made) => (stage = made),
    async () => watch?.stop(),
  );

  it("comes up with helm install", async () => {
    gatewayUrl = await timeline.phase("helm install, operator and gateway and ledger ready", () => installHouse(stage));
    const pods = await housePods();
    expect(pods.map(({ metadata }) => metadata.labels?.["app.kubernetes.io/component"]).sort()).to.deep.equal([
      "gateway",
      "ledger",
      "operator",
    ]);
    await makeStrictNamespace(stage.controlPlane);
  });

  it("says what is missing while the providers' keys are", async () => {
    watch = new ModelWatch(stage.controlPlane, "demo");
    await timeline.phase("kubectl apply -f examples/demo/", () => kubectl("apply", "-f", "examples/demo/"));
    await until("a condition that says why", async () => {
      const columns = await kubectl("get", "sm", "demo", "-o", "wide", "--no-headers");
      return (
        /^demo\s+False\s+NoNodes\s/.test(columns) && columns.includes("campus-a1: provider campus has no public key")
      );
    });
    expect(await kubectl("get", "providers", "campus", "--no-headers")).to.match(
      /^campus\s+False\s+NoPublicKey\s+1\s+0\s/,
    );
    expect(await kubectl("get", "shardnodes", "studio-x1", "--no-headers")).to.contain("ProviderNotAdmitted");
  });

  it("is Ready once a request has gone through the whole chain", async () => {
    await timeline.phase("keys known, ranks started, weights loaded, probe passed: Ready", async () => {
      for (const node of Object.values(MACHINES).flat()) {
        await patch(`shardnode/${node}`, { signer: { target: stage.providers.target(node) } });
      }
      for (const [provider, publicKey] of stage.providers.publicKeys)
        await patch(`provider/${provider}`, { publicKey });
      await kubectl("wait", "--for=condition=Ready", "shardedmodel/demo", "--timeout=120s");
    });
    expect(await kubectl("get", "sm", "--no-headers")).to.match(
      /^demo\s+True\s+Serving\s+1\/1\s+3\s+\d+(\.\d+)?\s+\d+m?\d*s\n$/,
    );
    expect(await kubectl("get", "shardplan", "demo", "--no-headers")).to.match(/^demo\s+demo\s+4\/4\s+[\d.]+\s+\S+\s/);
    await until("providers and nodes to know their shards", async () => {
      const providers = await kubectl("get", "providers", "--no-headers");
      const nodes = await kubectl("get", "shardnodes", "--no-headers");
      const offered =
        /^campus\s+True\s+KeyKnown\s+1\s+1\s.*\ngarage\s+True\s+KeyKnown\s+1\s+1\s.*\nstudio\s+True\s+KeyKnown\s+2\s+2\s/;
      return offered.test(providers) && (nodes.match(/\s1\s+True\s+Offered\s/g) ?? []).length === 4;
    });
    const conditions: readonly Condition[] = JSON.parse(
      await kubectl("get", "sm", "demo", "-o", "jsonpath={.status.conditions}"),
    );
    expect(conditions.map(({ type, status, reason }) => `${type}=${status} ${reason}`).sort()).to.deep.equal([
      "Planned=True Placed",
      "Ready=True Serving",
      "UpToDate=True AsAsked",
      "WeightsReady=True Loaded",
    ]);
    await happened(kubectl, "Planned", "RankCreated", "Serving");
  });

  it("answers as transformers does, with receipts by the providers' own keys", async () => {
    await allRanksAreCounted(stage.controlPlane);
    const before = await versionsIn(kubectl);
    await timeline.phase(
      `${goldens.length} questions one by one, then all at once, their receipts verified`,
      async () => {
        for (const golden of goldens) await expectAnswer(golden);
        await Promise.all(goldens.map((golden) => expectAnswer(golden)));
      },
    );
    expect(await versionsIn(kubectl), "at rest the operator writes nothing").to.deep.equal(before);
  });

  it("gives answers that tessellate verify takes, by what the cluster says of providers and model", async () => {
    const { savedAnswer } = await ask(gatewayUrl, first(goldens).messages);
    const said = await timeline.phase("tessellate verify", async () =>
      verifyCommand(
        savedAnswer,
        await kubectl("get", "providers", "-o", "yaml"),
        await kubectl("get", "sm", "demo", "-o", "jsonpath={.status.root}"),
      ),
    );
    expect(said).to.match(/^verified: 3 providers, 8 layers, \d+ tokens; chain intact; usage countersigned\n/);
  });

  it("replaces nothing when a rank's process is killed in the middle of an answer: it starts again", async () => {
    const [before, victim] = await ranksAnd("campus-a1");
    const mark = watch.mark;
    await timeline.phase("a rank's process killed in the middle of an answer: the answer complete, Ready", async () => {
      let killed = false;
      await expectAnswer(longest(goldens), () => {
        if (killed) return;
        killed = true;
        stage.kubelet.kill({ name: victim.name });
      });
      await watch.readyAgainSince(mark);
    });
    const changed = before.map((rank) => ({ ...rank, restartCount: rank === victim ? 1 : 0 }));
    expect(await watch.ranks()).to.deep.equal(changed);
    expect(
      await gatewayMetric("tessellate_session_recoveries_total"),
      "the answer went on after the loss",
    ).to.be.greaterThan(0);
    await expectAnswer(first(goldens));
  });

  it("makes anew the one rank that kubectl deletes", async () => {
    const [before, victim] = await ranksAnd("studio-x2");
    const mark = watch.mark;
    await timeline.phase("kubectl delete pod --force: made anew, Ready, the same answer", async () => {
      await kubectl("delete", "pod", victim.name, "--force", "--grace-period=0");
      await watch.readyAgainSince(mark);
      await expectAnswer(first(goldens));
    });
    expectOnlyReplaced(before, await watch.ranks(), victim, victim.node);
  });

  it("moves the shard of a node that goes, and nothing else", async () => {
    await timeline.phase("a spare machine joins", async () => {
      await stage.addMachine("garage", "garage-4");
      const spec = {
        provider: "garage",
        memory: { freeBytes: "512Mi" },
        memoryBytesPerSecond: "18G",
        signer: { target: stage.providers.target("garage-4") },
      };
      await apply({ apiVersion: "tessellate.dev/v1alpha1", kind: "ShardNode", metadata: { name: "garage-4" }, spec });
      await kubectl("wait", "--for=condition=Ready", "shardnode/garage-4", "--timeout=30s");
    });
    const [before, victim] = await ranksAnd("garage-3");
    const mark = watch.mark;
    await timeline.phase("kubectl delete node: its shard moved, Ready, the same answer", async () => {
      await kubectl("delete", "node", "garage-3");
      await watch.readyAgainSince(mark);
      await expectAnswer(first(goldens));
    });
    expectOnlyReplaced(before, await watch.ranks(), victim, "garage-4");
    expect(await kubectl("get", "shardnode", "garage-3", "--no-headers")).to.contain("NodeMissing");
    await happened(kubectl, "Replanned");
  });

  it("serves from as many chains as kubectl scale asks for", async () => {
    const columns = () => kubectl("get", "sm", "demo", "--no-headers");
    const before = await watch.ranks();
    const mark = watch.mark;
    await timeline.phase("kubectl scale to two chains: both serve", async () => {
      await kubectl("scale", "sm/demo", "--replicas=2");
      await until("both chains to serve", async () => /^demo\s+True\s+Serving\s+2\/2\s/.test(await columns()));
      await Promise.all(goldens.map((golden) => expectAnswer(golden)));
    });
    await timeline.phase("kubectl scale back to one", async () => {
      await kubectl("scale", "sm/demo", "--replicas=1");
      await until("one chain to be left", async () => {
        return /\s1\/1\s/.test(await columns()) && (await watch.ranks()).length === before.length;
      });
      await expectAnswer(first(goldens));
    });
    expect(await watch.ranks()).to.deep.equal(before);
    expect(watch.mark, "Ready stayed as it was").to.equal(mark);
  });

  it("sleeps when nobody asks, and wakes for the next requests, which wait and are answered", async () => {
    const places = async () => (await watch.ranks()).map(({ name, node }) => `${name} on ${node}`);
    const before = await places();
    await timeline.phase("nobody asks for five seconds: asleep, its ranks gone", async () => {
      await patch("sm/demo", { idle: { afterSeconds: 5 } });
      await until("its ranks to end", async () => (await watch.ranks()).length === 0);
    });
    expect(await kubectl("get", "sm", "demo", "--no-headers")).to.match(/^demo\s+True\s+Asleep\s+0\/1\s/);
    await timeline.phase("three questions to a model that sleeps: woken, waited for, answered token by token", () =>
      Promise.all(goldens.slice(0, 3).map((golden) => expectAnswer(golden))),
    );
    expect(await places(), "where the caches are").to.deep.equal(before);
    await patch("sm/demo", { idle: null });
    await until("it to serve", async () =>
      /\sServing\s+1\/1\s/.test(await kubectl("get", "sm", "demo", "--no-headers")),
    );
  });

  const underLoad = (what: string, stays: boolean, work: (rollouts: Rollouts) => Promise<Loaded>) =>
    expectUnharmed({ watch, timeline }, `${what}, under load`, stays, () => work(new Rollouts(stage, gatewayUrl)));

  it("rolls another quantisation out under load and back again: no question fails", async () => {
    for (const quantization of ["int8", "f32"])
      await underLoad(`quantization ${quantization} rolled out beside what serves`, false, (rollouts) =>
        rollouts.change({ quantization }),
      );
    await expectAnswer(first(goldens));
  });

  it("takes back under load what does not come up and what is too slow, and says why", async () => {
    await underLoad("weights that are not the manifest's: taken back", true, async (rollouts) => {
      const loaded = await rollouts.breakSource();
      expect(loaded.message).to.match(/was taken back: .*demo-\d+-\d+-\d+/);
      return loaded;
    });
    let said = "";
    await underLoad("ranks that are stopped most of the time: taken back", true, async (rollouts) => {
      const loaded = await rollouts.slowDown({ contextLength: 384 }, { contextLength: 512 });
      said = loaded.message;
      expect(loaded.message).to.match(/ms for a token, \d+ % more than .*spec.update.maxSlowdown is 50%/);
      return loaded;
    });
    timeline.note(`    ${said}`);
    await happened(kubectl, "RolledBack");
    expect(await operatorMetric("tessellate_rollout_rollbacks_total")).to.equal(2);
  });

  it("turns round where a spec is put back halfway", async () => {
    await underLoad("contextLength 320 and back before it serves", true, (rollouts) =>
      rollouts.revert({ contextLength: 320 }, { contextLength: 512 }),
    );
  });

  it("goes on serving while the API server, the operator and the ledger are away", async () => {
    const { controlPlane, kubelet } = stage;
    const before = await watch.ranks();
    const mark = watch.mark;
    await timeline.phase("an answer without API server", async () => {
      await controlPlane.apiServer.stop();
      await expectAnswer(first(goldens));
      await controlPlane.apiServer.start();
    });
    await timeline.phase("an answer after the operator and the ledger were killed, both back", async () => {
      for (const component of ["operator", "ledger"] as const) {
        const { pod } = await housePod(controlPlane, component);
        kubelet.kill({ name: pod.metadata.name, namespace: HOUSE_NAMESPACE });
      }
      await expectAnswer(first(goldens));
      await until("operator and ledger to be ready again", async () => {
        const statuses = (await housePods()).flatMap(({ status }) => status?.containerStatuses ?? []);
        return (
          statuses.every(({ ready }) => ready) && statuses.filter(({ restartCount }) => restartCount > 0).length >= 2
        );
      });
      await until("somebody to lead again", async () => (await operatorMetric("tessellate_leader")) === 1);
    });
    await expectAnswer(first(goldens));
    expect(await watch.ranks()).to.deep.equal(before);
    expect(watch.mark, "Ready stayed as it was").to.equal(mark);
  });

  it("settles, and Prometheus says of the rewards what the ledger says", async function () {
    await timeline.phase("kubectl apply settlement: settled", async () => {
      const spec = { latest: true };
      await apply({ apiVersion: "tessellate.dev/v1alpha1", kind: "Settlement", metadata: { name: "first" }, spec });
      await kubectl("wait", "--for=condition=Settled", "settlement/first", "--timeout=60s");
    });
    let rows = await balances(stage.controlPlane);
    await until("the ledger to have what the gateway kept for it", async () => {
      rows = await balances(stage.controlPlane);
      return (await gatewayMetric("tessellate_usage_waiting")) === 0;
    });
    const { epoch, totals } = JSON.parse(await kubectl("get", "settlement", "first", "-o", "jsonpath={.status}"));
    const settled = rows.filter((row) => row.epoch === epoch); // an hour may have ended meanwhile
    const paid = settled.reduce((sum, { paidMicroCredits }) => sum + BigInt(paidMicroCredits), 0n);
    expect(BigInt(totals.paid.replace(".", ""))).to.equal(paid);
    expect(settled.filter(({ paidMicroCredits }) => BigInt(paidMicroCredits) > 0n)).to.have.length(3);
    expect(rows.filter(({ rejectedCount }) => rejectedCount > 0)).to.deep.equal([]);
    expect(await kubectl("get", "settlement", "first", "--no-headers")).to.match(
      /^first\s+\d+\s+True\s+Signed\s+[\d.]+\s+[\d.]+\s/,
    );

    const missing = whyNoPrometheus();
    requireOrSkip(this, missing);
    await timeline.phase("Prometheus scrapes all and agrees with the ledger", async () => {
      const targets = await scrapeTargets(stage.controlPlane);
      const prometheus = await startPrometheus(targets);
      try {
        await expectAgreement(prometheus, Object.values(targets).flat().length, rows);
      } finally {
        await prometheus.stop();
      }
    });
  });

  it("gives nobody more than they need", async () => {
    const { controlPlane } = stage;
    await timeline.phase("rights and security contexts", async () => {
      const nobody = await rightsOf(controlPlane, "strict", "nobody");
      for (const pod of await housePods()) {
        expect(await whyNotRestricted(controlPlane, pod), pod.metadata.name).to.equal(undefined);
        if (pod.metadata.labels?.["app.kubernetes.io/component"] === "operator") continue;
        expect(holdsToken(pod), pod.metadata.name).to.equal(false);
        const account = pod.spec.serviceAccountName ?? "default";
        expect(await rightsOf(controlPlane, HOUSE_NAMESPACE, account)).to.deep.equal(nobody);
      }
      for (const pod of await rankPods()) {
        expect(holdsToken(pod), pod.metadata.name).to.equal(false);
        // The signer's socket is the one thing of the machine that a rank gets.
        const why = (await whyNotRestricted(controlPlane, pod)) ?? "";
        expect(why).to.match(/restricted volume types \(volume "signer" uses restricted volume type "hostPath"\)$/);
        const { volumes = [], containers } = pod.spec;
        const mounts = containers.map((container) => ({
          ...container,
          volumeMounts: container.volumeMounts?.filter(({ name }) => name !== "signer") ?? [],
        }));
        const without = { ...pod.spec, volumes: volumes.filter(({ name }) => name !== "signer"), containers: mounts };
        expect(await whyNotRestricted(controlPlane, { ...pod, spec: without }), pod.metadata.name).to.equal(undefined);
      }
    });
  });

  it("leaves nothing of the model after kubectl delete", async () => {
    await timeline.phase("kubectl delete -f examples/demo/: nothing left of it", async () => {
      await kubectl("delete", "-f", "examples/demo/", "--timeout=60s");
      await until("everything of the model to go", async () => {
        const kinds = "pods,secrets,services,shardplans,shardedmodels";
        return (await kubectl("get", kinds, "-A", "-l", "tessellate.dev/model", "-o", "name")).trim() === "";
      });
    });
    expect(stage.kubelet.podNames().filter((name) => !name.startsWith(`${HOUSE_NAMESPACE}/`))).to.deep.equal([]);
  });

  it("leaves nothing running after helm uninstall", async () => {
    const { controlPlane, kubelet, providers } = stage;
    await timeline.phase("helm uninstall: every pod gone", async () => {
      await controlPlane.helm(["uninstall", "tessellate", "-n", HOUSE_NAMESPACE, "--wait", "--timeout=60s"]);
      await until("the last pod to go", () => kubelet.podNames().length === 0);
    });
    await timeline.phase("kubectl delete namespace", () =>
      kubectl("delete", "namespace", HOUSE_NAMESPACE, "--timeout=60s"),
    );
    expect(podProcesses(controlPlane)).to.deep.equal([]);
    const pids = providers.pids();
    await providers.stop();
    for (const pid of pids) expect(() => process.kill(pid, 0), `node agent ${pid}`).to.throw();
    const cluster = await kubectl("get", "clusterroles,clusterrolebindings", "-o", "name");
    expect(cluster).not.to.contain("tessellate");
  });

  /** The reference's tokens and words, and receipts that hold by keys learned from the providers themselves. */
  async function expectAnswer(golden: Golden, onText?: (piece: string) => void): Promise<void> {
    const asked = await ask(gatewayUrl, golden.messages, onText);
    const reference = [...golden.tokenIds, ...golden.greedy];
    expect(asked.tokenIds).to.deep.equal(reference.slice(0, golden.tokenIds.length + asked.completionTokens));
    expect(asked.text).to.equal(golden.answer);
    expect(asked.finishReason).to.equal(golden.ended ? "stop" : "length");
    const providers = Object.fromEntries(
      [...stage.providers.publicKeys].map(([name, key]) => [`provider/${name}`, key]),
    );
    const verdict = verifyAnswer(asked.savedAnswer, { keys: providers });
    expect(verdict.problems).to.deep.equal([]);
    expect([...verdict.providers].sort()).to.deep.equal(["campus", "garage", "studio"]);
    expect(verdict.receipts).to.have.length(4);
  }

  async function ranksAnd(node: string): Promise<readonly [readonly RankPod[], RankPod]> {
    const ranks = await watch.ranks();
    const victim = ranks.find((rank) => rank.node === node);
    if (victim === undefined) throw new Error(`no rank is on ${node}: ${JSON.stringify(ranks)}`);
    return [ranks, victim];
  }

  const metric = async (component: "gateway" | "operator", name: string) =>
    metricAt((await housePod(stage.controlPlane, component)).address("metrics"), name);
  const gatewayMetric = (name: string) => metric("gateway", name);
  const operatorMetric = (name: string) => metric("operator", name);

  function rankPods(): Promise<readonly Pod[]> {
    return items<Pod>("/api/v1/namespaces/default/pods?labelSelector=app.kubernetes.io/component=rank");
  }
});
