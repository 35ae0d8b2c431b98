/**
 * The whole of it on real nodes with the real images, as its users meet it: helm install, kubectl apply, a question
 * through the Service, a rank's container killed under load, helm upgrade under load, helm test, and the way out.
 */
import { expect } from "chai";
import { join } from "node:path";
import { verifyAnswer } from "../../core/answer-verification.ts";
import type { ShardNode } from "../../core/gen/crds/shardnode.ts";
import { buildImages, whyNoImages } from "../../tools/images/build.ts";
import type { KubeList, Pod } from "../cluster/kube-types.ts";
import { CHART, HOUSE_NAMESPACE } from "../e2e/house.ts";
import { ModelWatch } from "../e2e/model-watch.ts";
import { ask } from "../e2e/questions.ts";
import { Timeline } from "../e2e/timeline.ts";
import { chatGoldens, type Golden } from "../golden/demo-goldens.ts";
import { inSteps } from "../in-steps.ts";
import { requireOrSkip } from "../requirement.ts";
import { until } from "../until.ts";
import { AGENT_VALUES, MACHINES, admitProviders } from "./agents.ts";
import { EARLIER_WORDS, writeEarlierChart } from "./earlier-chart.ts";
import { Questioners } from "./questioners.ts";
import { type RealCluster, startRealCluster, whyNoRealCluster } from "./real-cluster.ts";
import { type Traces, traces } from "./traces.ts";

const NODES = [...new Set(MACHINES.map(({ node }) => node))];
/** Images are in every node's store already: there is no registry. Proxies here hear within a second that a pod goes. */
const VALUES = [
  '--set-json=gateway.extraArgs=["--linger=2"]',
  "--set=image.registry=localhost",
  "--set=image.pullPolicy=Never",
  ...AGENT_VALUES,
];
const RELEASE = ["tessellate", "-n", HOUSE_NAMESPACE];
const ASKING_COUNT = 2;

describe("the demo on three real nodes", function () {
  this.timeout(240_000);
  inSteps(this);
  const timeline = new Timeline();
  const goldens = chatGoldens();
  let clean: Traces;
  let cluster: RealCluster;
  let publicKeys: ReadonlyMap<string, string>;
  let watch: ModelWatch;
  let gatewayUrl: string;
  let earlierChart: string;

  const kubectl = (...args: string[]) => cluster.controlPlane.kubectl(args);
  const helm = (...args: string[]) => cluster.controlPlane.helm(args);
  const patch = (what: string, spec: object) => kubectl("patch", what, "--type=merge", "-p", JSON.stringify({ spec }));
  const nodes = async () =>
    cluster.controlPlane.api.get<KubeList<ShardNode>>("/apis/tessellate.dev/v1alpha1/shardnodes");
  const pods = async () => (await cluster.controlPlane.api.get<KubeList<Pod>>("/api/v1/pods")).items;
  const gateways = async () =>
    (await pods())
      .filter(({ metadata }) => metadata.labels?.["app.kubernetes.io/component"] === "gateway")
      .map(({ metadata }) => metadata.uid);
  /** Of the house and the ranks alike: which pod each name is, and how often its containers were started again. */
  const identities = async () =>
    (await pods())
      .filter(({ metadata }) => metadata.namespace !== "kube-system")
      .map(({ metadata, status }) => {
        const restarts = (status?.containerStatuses ?? []).map(({ restartCount }) => restartCount);
        return `${metadata.namespace}/${metadata.name} ${metadata.uid} ${restarts.join()}`;
      })
      .sort();

  before(async function () {
    const why = whyNoRealCluster() ?? (await whyNoImages());
    requireOrSkip(this, why);
    this.timeout(2_400_000); // the first time binaries and images are built
    clean = await traces([]);
    const images = await timeline.phase("images built, or found as built before", () => buildImages());
    cluster = await timeline.phase("control plane, three nodes Ready", () => startRealCluster(NODES));
    await timeline.phase("images loaded into every node", () => cluster.load([images.archive]));
    // Nothing that the chart or the operator makes needs more than the restricted standard, ranks included.
    await kubectl("create", "namespace", HOUSE_NAMESPACE);
    for (const namespace of [HOUSE_NAMESPACE, "default"])
      await kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted");
    publicKeys = await admitProviders(cluster);
    earlierChart = join(cluster.sandbox.folder, "earlier-chart");
    writeEarlierChart(CHART, earlierChart);
  });
  after(async function () {
    await watch?.stop();
    if (cluster !== undefined && this.test?.parent?.tests.some(({ state }) => state === "failed")) await tellAll();
    await cluster?.stop();
    console.log(`\n${timeline.text()}\n`);
  });

  it("comes up with helm install", async () => {
    await timeline.phase("helm install of an earlier chart, everything Ready", () =>
      helm("install", ...RELEASE, earlierChart, ...VALUES, "--wait", "--timeout=150s"),
    );
    const service = ["service", "tessellate-gateway", "-n", HOUSE_NAMESPACE];
    const address = await kubectl("get", ...service, "-o", "jsonpath={.spec.clusterIP}");
    gatewayUrl = `http://127.0.0.1:${await cluster.sandbox.forward(address, 80)}`;
  });

  it("has its nodes signed for and measured by the node agents", async () => {
    await timeline.phase("kubectl apply -f nodes.yaml, keys known: signed for, measured, links included", async () => {
      await kubectl("apply", "-f", "examples/demo/nodes.yaml");
      for (const { shardNode, node } of MACHINES)
        if (shardNode !== node) await patch(`shardnode/${shardNode}`, { nodeName: node });
      expect(await kubectl("get", "shardnodes", "--no-headers")).not.to.contain("Offered");
      for (const [provider, publicKey] of publicKeys) await patch(`provider/${provider}`, { publicKey });
      await kubectl("wait", "--for=condition=Ready", "shardnodes", "--all", "--timeout=60s");
      await until("every link to be measured", async () => {
        const { items } = await nodes();
        return items.every(({ status }) => status?.measured?.links?.length === MACHINES.length - 1);
      });
    });
    for (const { metadata, status } of (await nodes()).items) {
      const { memoryBytesPerSecond = 0, links = [] } = status?.measured ?? {};
      const far = links.map(({ to, roundTripMicros }) => `${to} ${(roundTripMicros / 1000).toFixed(1)} ms`).join(", ");
      timeline.note(`${metadata.name}: ${(memoryBytesPerSecond / 1e9).toFixed(1)} GB/s, to ${far}`);
    }
  });

  it("is Ready after kubectl apply, its ranks spread over the nodes of their providers", async () => {
    watch = new ModelWatch(cluster.controlPlane, "demo");
    await timeline.phase("kubectl apply -f model.yaml: Ready", async () => {
      await kubectl("apply", "-f", "examples/demo/model.yaml");
      await kubectl("wait", "--for=condition=Ready", "shardedmodel/demo", "--timeout=120s");
    });
    const machines = (await watch.ranks()).map(({ node }) => node).sort();
    expect(machines).to.deep.equal(MACHINES.map(({ node }) => node).sort());
  });

  it("answers through the Service as transformers does, with receipts by the providers' own keys", async () => {
    await timeline.phase(`${goldens.length} questions through the Service, their receipts verified`, async () => {
      for (const golden of goldens) await expectAnswer(golden);
    });
  });

  it("is repaired under load when a rank's container is killed: started again, and nothing else touched", async () => {
    const before = await watch.ranks();
    const victim = before.find(({ node }) => node === "garage-3");
    const node = cluster.nodes.find(({ name }) => name === victim?.node);
    const mark = watch.mark;
    const load = startLoad();
    await timeline.phase("a rank's container killed under load: Ready again", async () => {
      await until("questions to be answered", () => load.answeredCount >= ASKING_COUNT);
      await node?.kill(victim?.name ?? "", "rank");
      await watch.readyAgainSince(mark);
      const answeredCount = load.answeredCount;
      await until("questions to be answered again", () => load.answeredCount >= answeredCount + 2 * ASKING_COUNT);
    });
    await load.stop();
    timeline.note(`${load.answeredCount} answered, ${load.failures.length} not`);
    const changed = before.map((rank) => ({ ...rank, restartCount: rank.name === victim?.name ? 1 : 0 }));
    expect(await watch.ranks()).to.deep.equal(changed);
    expect(load.failures).to.deep.equal([]);
  });

  it("is upgraded under load: definitions are the new ones, every pod is the one it was, no question fails", async () => {
    const before = await identities();
    const definition = ["get", "crd", "shardedmodels.tessellate.dev", "-o", "json"];
    expect(await kubectl(...definition)).to.contain(EARLIER_WORDS);
    const load = startLoad();
    await timeline.phase("helm upgrade from the earlier chart under load", async () => {
      await until("questions to be answered", () => load.answeredCount >= ASKING_COUNT);
      await helm("upgrade", ...RELEASE, CHART, ...VALUES, "--wait", "--timeout=120s");
      const answeredCount = load.answeredCount;
      await until("questions to be answered after it", () => load.answeredCount >= answeredCount + 2 * ASKING_COUNT);
    });
    await load.stop();
    timeline.note(`${load.answeredCount} answered, ${load.failures.length} not`);
    expect(load.failures).to.deep.equal([]);
    expect(await identities()).to.deep.equal(before);
    expect(await kubectl(...definition)).not.to.contain(EARLIER_WORDS);
  });

  it("has its gateways replaced under load, and no question fails", async () => {
    const before = await gateways();
    const load = startLoad();
    await timeline.phase("helm upgrade that replaces both gateways under load", async () => {
      await until("questions to be answered", () => load.answeredCount >= ASKING_COUNT);
      await helm("upgrade", ...RELEASE, CHART, ...VALUES, "--set=gateway.podAnnotations.turn=two", "--timeout=120s");
      await kubectl("rollout", "status", "statefulset/tessellate-gateway", "-n", HOUSE_NAMESPACE, "--timeout=120s");
      const answeredCount = load.answeredCount;
      await until("questions to be answered after it", () => load.answeredCount >= answeredCount + 2 * ASKING_COUNT);
    });
    await load.stop();
    timeline.note(`${load.answeredCount} answered, ${load.failures.length} not`);
    expect(load.failures).to.deep.equal([]);
    const after = await gateways();
    expect(after).to.have.length(before.length);
    expect(after.filter((uid) => before.includes(uid))).to.deep.equal([]);
  });

  it("passes helm test", async () => {
    const said = await timeline.phase("helm test", () => helm("test", ...RELEASE, "--timeout=90s"));
    expect(said).to.match(/Phase:\s+Succeeded/);
  });

  it("goes with kubectl delete and helm uninstall, and nothing is stuck", async () => {
    await timeline.phase("kubectl delete, helm uninstall, namespace and definitions gone", async () => {
      await kubectl("delete", "-f", "examples/demo/", "--timeout=60s");
      await until("the ranks to go", async () => (await watch.ranks()).length === 0);
      await helm("uninstall", ...RELEASE, "--wait", "--timeout=90s");
      await kubectl("delete", "namespace", HOUSE_NAMESPACE, "--timeout=90s");
      await watch.stop();
      const definitions = (await kubectl("get", "crd", "-o", "name"))
        .split("\n")
        .filter((name) => /tessellate/.test(name));
      if (definitions.length > 0) await kubectl("delete", ...definitions, "--timeout=60s");
    });
    expect(await identities()).to.deep.equal([]);
    const left = await kubectl("get", "clusterroles,clusterrolebindings,namespaces,crd", "-o", "name");
    expect(left).not.to.contain("tessellate");
  });

  it("leaves nothing on the machine", async () => {
    const { folder, controlGroup } = cluster.sandbox;
    await timeline.phase("the cluster gone", () => cluster.stop());
    const marks = [folder, controlGroup];
    await until("the last process to end", async () => (await traces(marks)).processes.length === 0);
    expect(await traces(marks)).to.deep.equal(clean);
  });

  const startLoad = () =>
    new Questioners(ASKING_COUNT, async (turn) => {
      const golden = goldens[turn % goldens.length];
      if (golden !== undefined) await expectAnswer(golden);
    });

  /** The reference's tokens and words, and receipts that hold by the providers' keys. */
  async function expectAnswer(golden: Golden): Promise<void> {
    const asked = await ask(gatewayUrl, golden.messages);
    const reference = [...golden.tokenIds, ...golden.greedy];
    expect(asked.tokenIds).to.deep.equal(reference.slice(0, golden.tokenIds.length + asked.completionTokens));
    expect(asked.text).to.equal(golden.answer);
    const keys = Object.fromEntries([...publicKeys].map(([name, key]) => [`provider/${name}`, key]));
    const verdict = verifyAnswer(asked.savedAnswer, { keys });
    expect(verdict.problems).to.deep.equal([]);
    expect([...verdict.providers].sort()).to.deep.equal([...publicKeys.keys()].sort());
  }

  /** For whoever has to find out why a step failed. */
  async function tellAll(): Promise<void> {
    const told = async (...args: string[]) => console.log(await kubectl(...args).catch(String));
    await told("get", "nodes,pods,pvc,ds,sm,shn,prov", "-A", "-o", "wide");
    await told("get", "events", "-A", "--sort-by=.lastTimestamp");
    for (const { metadata } of await pods().catch(() => [])) {
      console.log(`── ${metadata.namespace}/${metadata.name}`);
      await told("logs", "-n", metadata.namespace ?? "default", metadata.name, "--all-containers", "--tail=30");
    }
  }
});
