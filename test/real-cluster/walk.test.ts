/**
 * The whole of it on real nodes with the real images, as its users meet it: helm install, kubectl apply, a question
 * through the Service, a rank's container killed under load, helm upgrade under load, another image of the ranks rolled
 * out under load, helm test, and the way out.
 */
import { expect } from "chai";
import { join } from "node:path";
import type { ShardNode } from "../../core/gen/crds/shardnode.ts";
import { buildImages, whyNoImages } from "../../tools/images/build.ts";
import type { KubeList } from "../cluster/kube-types.ts";
import { CHART, HOUSE_NAMESPACE } from "../e2e/house.ts";
import { ModelWatch } from "../e2e/model-watch.ts";
import { Timeline } from "../e2e/timeline.ts";
import { inSteps } from "../in-steps.ts";
import { requireOrSkip } from "../requirement.ts";
import { until } from "../until.ts";
import { DNS_PORT } from "./addons.ts";
import { AGENT_VALUES, MACHINES, admitProviders } from "./agents.ts";
import {
  DemoQuestions,
  NO_CORES,
  RELEASE,
  componentOf,
  gatewayUrlOf,
  identities,
  podsOf,
  tellAll,
} from "./demo-cluster.ts";
import { EARLIER_WORDS, writeEarlierChart } from "./earlier-chart.ts";
import { ECHO_IMAGE } from "./images.ts";
import { type PolicyEnforcer, enforcePolicies } from "./policy-enforcer.ts";
import { type RealCluster, startRealCluster, whyNoRealCluster } from "./real-cluster.ts";
import { type Traces, traces } from "./traces.ts";

/** Three machines that share two cores measure them at once. */
const MEASURED = { timeoutMs: 300_000 };
const NODES = [...new Set(MACHINES.map(({ node }) => node))];
/** The restricted standard holds for everybody there. */
const STRANGER = JSON.stringify({
  apiVersion: "v1",
  spec: {
    securityContext: { runAsNonRoot: true, runAsUser: 65532, seccompProfile: { type: "RuntimeDefault" } },
    containers: [
      {
        name: "stranger",
        image: ECHO_IMAGE,
        imagePullPolicy: "Never",
        securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] } },
      },
    ],
  },
});
/** Images are in every node's store already: there is no registry. Proxies here hear within a second that a pod goes. */
const VALUES = [
  '--set-json=gateway.extraArgs=["--linger=2"]',
  "--set=image.registry=localhost",
  "--set=image.pullPolicy=Never",
  ...NO_CORES,
  ...AGENT_VALUES,
];

describe("the demo on three real nodes", function () {
  this.timeout(400_000);
  inSteps(this);
  const timeline = new Timeline();
  let clean: Traces;
  let enforcer: PolicyEnforcer | undefined;
  let cluster: RealCluster;
  let publicKeys: ReadonlyMap<string, string>;
  let watch: ModelWatch;
  let questions: DemoQuestions;
  let rankImage: string;
  let earlierChart: string;

  const kubectl = (...args: string[]) => cluster.controlPlane.kubectl(args);
  const helm = (...args: string[]) => cluster.controlPlane.helm(args);
  const patch = (what: string, spec: object) => kubectl("patch", what, "--type=merge", "-p", JSON.stringify({ spec }));
  const nodes = async () =>
    cluster.controlPlane.api.get<KubeList<ShardNode>>("/apis/tessellate.dev/v1alpha1/shardnodes");
  /** Policies look at pods' own ports, behind the Services of name server and API server. */
  const values = () => [
    ...VALUES,
    "--set=networkPolicies.modelNamespaces={default}",
    `--set=networkPolicies.dnsPorts={${DNS_PORT}}`,
    `--set=networkPolicies.apiServerPorts={${new URL(cluster.controlPlane.innerUrl).port}}`,
  ];
  const gateways = async () =>
    (await podsOf(cluster)).filter((pod) => componentOf(pod) === "gateway").map(({ metadata }) => metadata.uid);

  before(async function () {
    const why = whyNoRealCluster() ?? (await whyNoImages());
    requireOrSkip(this, why);
    this.timeout(2_400_000); // the first time binaries and images are built
    clean = await traces([]);
    const images = await timeline.phase("images built, or found as built before", () => buildImages());
    cluster = await timeline.phase("control plane, three nodes Ready", () => startRealCluster(NODES));
    enforcer = enforcePolicies(cluster);
    await timeline.phase("images loaded into every node", () => cluster.load([images.archive]));
    // Nothing that the chart or the operator makes needs more than the restricted standard, ranks included.
    await kubectl("create", "namespace", HOUSE_NAMESPACE);
    for (const namespace of [HOUSE_NAMESPACE, "default"])
      await kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted");
    publicKeys = await admitProviders(cluster);
    earlierChart = join(cluster.sandbox.folder, "earlier-chart");
    writeEarlierChart(CHART, earlierChart);
    rankImage = images.images.find(({ reference }) => reference.includes("shard-runtime"))?.reference ?? "";
  });
  after(async function () {
    await watch?.stop();
    if (cluster !== undefined && this.test?.parent?.tests.some(({ state }) => state === "failed"))
      await tellAll(cluster);
    await enforcer?.stop().catch((error: unknown) => console.log(`the enforcer of policies: ${error}`));
    await cluster?.stop();
    console.log(`\n${timeline.text()}\n`);
  });

  it("comes up with helm install", async () => {
    await timeline.phase("helm install of an earlier chart, everything Ready", () =>
      helm("install", ...RELEASE, earlierChart, ...values(), "--wait", "--timeout=150s"),
    );
    questions = new DemoQuestions(await gatewayUrlOf(cluster), publicKeys);
  });

  it("has its nodes signed for and measured by the node agents", async () => {
    await timeline.phase("kubectl apply -f nodes.yaml, keys known: signed for, layers and links measured", async () => {
      await kubectl("apply", "-f", "examples/demo/nodes.yaml");
      for (const { shardNode, node } of MACHINES)
        if (shardNode !== node) await patch(`shardnode/${shardNode}`, { nodeName: node });
      expect(await kubectl("get", "shardnodes", "--no-headers")).not.to.contain("Offered");
      for (const [provider, publicKey] of publicKeys) await patch(`provider/${provider}`, { publicKey });
      await kubectl("wait", "--for=condition=Ready", "shardnodes", "--all", "--timeout=60s");
      await until(
        "every layer and link to be measured",
        async () => {
          const measured = (await nodes()).items.map(({ status }) => status?.measured);
          return measured.every((each) => each?.layerTimes !== undefined && each.links?.length === MACHINES.length - 1);
        },
        MEASURED,
      );
    });
    for (const { metadata, status } of (await nodes()).items) {
      const { memoryBytesPerSecond = 0, layerTimes, links = [] } = status?.measured ?? {};
      const { oneMicros = 0, manyMicros = 0, manyRows = 0, bytes = 0 } = layerTimes ?? {};
      const far = links.map(({ to, roundTripMicros }) => `${to} ${(roundTripMicros / 1000).toFixed(1)} ms`).join(", ");
      const layer = `${(oneMicros / 1000).toFixed(1)} ms for 1 row, ${(manyMicros / 1000).toFixed(1)} for ${manyRows}`;
      timeline.note(
        `${metadata.name}: ${(memoryBytesPerSecond / 1e9).toFixed(1)} GB/s, a layer of ${(bytes / 1e6).toFixed(0)} MB ${layer}; to ${far}`,
      );
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
    const { goldens } = questions;
    await timeline.phase(`${goldens.length} questions through the Service, their receipts verified`, async () => {
      for (const golden of goldens) await questions.expectAnswer(golden);
    });
  });

  it("is closed to who has no business there, by the chart's policies", async () => {
    await kubectl("run", "stranger", `--image=${ECHO_IMAGE}`, "--image-pull-policy=Never", "--overrides", STRANGER);
    await kubectl("wait", "--for=condition=Ready", "pod/stranger", "--timeout=60s");
    const ask = (host: string | undefined, port: number) =>
      kubectl("exec", "stranger", "--", "/program", `http://${host}:${port}/`).then(
        () => "answered",
        (error: unknown) => String(error),
      );
    const pods = await podsOf(cluster);
    const of = (component: string) => pods.find((pod) => componentOf(pod) === component)?.status?.podIP;
    for (const [component, port] of [
      ["rank", 7400],
      ["agent", 7410],
      ["ledger", 8090],
      ["gateway", 8081],
    ] as const)
      expect(await ask(of(component), port), `${component}:${port}`).to.contain("connection refused");
    expect(await ask(of("gateway"), 8080)).not.to.contain("connection refused");
    expect(await ask(of("ledger"), 8091)).not.to.contain("connection refused"); // scrapers are not named: everybody
    await kubectl("delete", "pod", "stranger", "--grace-period=0", "--force");
  });

  it("is repaired under load when a rank's container is killed: started again, and nothing else touched", async () => {
    const before = await watch.ranks();
    const victim = before.find(({ node }) => node === "garage-3");
    const node = cluster.nodes.find(({ name }) => name === victim?.node);
    const mark = watch.mark;
    await questions.underLoad(timeline, "a rank's container killed under load: Ready again", async () => {
      await node?.kill(victim?.name ?? "", "rank");
      await watch.readyAgainSince(mark);
    });
    const changed = before.map((rank) => ({ ...rank, restartCount: rank.name === victim?.name ? 1 : 0 }));
    expect(await watch.ranks()).to.deep.equal(changed);
  });

  it("is upgraded under load: definitions are the new ones, every pod is the one it was, no question fails", async () => {
    const before = await identities(cluster);
    const definition = ["get", "crd", "shardedmodels.tessellate.dev", "-o", "json"];
    expect(await kubectl(...definition)).to.contain(EARLIER_WORDS);
    await questions.underLoad(timeline, "helm upgrade from the earlier chart under load", async () => {
      await helm("upgrade", ...RELEASE, CHART, ...values(), "--wait", "--timeout=120s");
    });
    expect(await identities(cluster)).to.deep.equal(before);
    expect(await kubectl(...definition)).not.to.contain(EARLIER_WORDS);
  });

  it("has its gateways replaced under load, and no question fails", async () => {
    const before = await gateways();
    await questions.underLoad(timeline, "helm upgrade that replaces both gateways under load", async () => {
      await helm("upgrade", ...RELEASE, CHART, ...values(), "--set=gateway.podAnnotations.turn=two", "--timeout=120s");
      await kubectl("rollout", "status", "statefulset/tessellate-gateway", "-n", HOUSE_NAMESPACE, "--timeout=120s");
    });
    const after = await gateways();
    expect(after).to.have.length(before.length);
    expect(after.filter((uid) => before.includes(uid))).to.deep.equal([]);
  });

  it("has another image of the ranks rolled out beside what serves under load, and no question fails", async () => {
    const before = await watch.ranks();
    // Three machines share two cores here: how soon a token comes is no word about the image.
    await kubectl("patch", "sm/demo", "--type=merge", "-p", '{"spec":{"update":{"maxSlowdown":"Any"}}}');
    const next = rankImage.replace(/:[^:]+$/, ":next"); // the same bytes: another name is another image to Kubernetes
    for (const node of cluster.nodes) await node.ctr("images", "tag", rankImage, next);
    const nextValues = [...values(), "--set=gateway.podAnnotations.turn=two", "--set=rank.image.tag=next"];
    await questions.underLoad(
      timeline,
      "helm upgrade to another image of the ranks, rolled out under load",
      async () => {
        await helm("upgrade", ...RELEASE, CHART, ...nextValues, "--wait", "--timeout=120s");
        await until(
          "every rank to be of that image",
          async () => (await rankImages()).every((image) => image === next),
          {
            timeoutMs: 120_000,
          },
        );
        await kubectl("wait", "--for=condition=UpToDate", "sm/demo", "--timeout=60s");
      },
    );
    const after = await watch.ranks();
    expect(after.map(({ node }) => node).sort()).to.deep.equal(before.map(({ node }) => node).sort());
    expect(after.filter(({ uid }) => before.some((old) => old.uid === uid))).to.deep.equal([]);
  });

  it("passes helm test", async () => {
    const said = await timeline.phase("helm test", () => helm("test", ...RELEASE, "--timeout=90s"));
    expect(said).to.match(/Phase:\s+Succeeded/);
    // Its answer is printed with Helm's own log; the pod that answered is gone, and would else outlive the release.
    expect((await podsOf(cluster)).filter((pod) => componentOf(pod) === "test")).to.deep.equal([]);
  });

  it("goes with kubectl delete and helm uninstall, and nothing is stuck", async () => {
    await timeline.phase("kubectl delete, helm uninstall, namespace and definitions gone", async () => {
      await kubectl("delete", "-f", "examples/demo/", "--timeout=60s");
      await until("the ranks to go", async () => (await watch.ranks()).length === 0);
      await helm("uninstall", ...RELEASE, "--wait", "--timeout=90s");
      await until(
        "the last pod to go, that of helm test included",
        async () => (await identities(cluster)).length === 0,
      );
      await kubectl("delete", "namespace", HOUSE_NAMESPACE, "--timeout=90s");
      await watch.stop();
      const definitions = (await kubectl("get", "crd", "-o", "name"))
        .split("\n")
        .filter((name) => /tessellate/.test(name));
      if (definitions.length > 0) await kubectl("delete", ...definitions, "--timeout=60s");
    });
    expect(await identities(cluster)).to.deep.equal([]);
    const left = await kubectl("get", "clusterroles,clusterrolebindings,namespaces,crd", "-o", "name");
    expect(left).not.to.contain("tessellate");
  });

  it("leaves nothing on the machine", async () => {
    const { folder, controlGroup } = cluster.sandbox;
    await enforcer?.stop();
    enforcer = undefined;
    await timeline.phase("the cluster gone", () => cluster.stop());
    const marks = [folder, controlGroup];
    await until("the last process to end", async () => (await traces(marks)).processes.length === 0);
    expect(await traces(marks)).to.deep.equal(clean);
  });

  const rankImages = async () =>
    (await podsOf(cluster)).filter((pod) => componentOf(pod) === "rank").map(({ spec }) => spec.containers[0]?.image);
});
