/**
 * From chart 0.1.0, as it was released, to this one, with real containers under load: one image for all, one operator, one
 * gateway and no node agents become what there is today; ranks stay the pods that they were, and no question fails. Then
 * agents sign for the nodes, and ranks of today's image take the place of those that stayed. The programs are today's, and
 * have today's definitions and rights from the start; how 0.1.0's definitions are taken over, test/e2e/chart.test.ts shows.
 * With TESSELLATE_PREVIOUS_TREE, a checkout of 0.1.0 with its packages, all of it is as it was.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { buildImages, whyNoImages } from "../../tools/images/build.ts";
import { CHART, HOUSE_NAMESPACE } from "../e2e/house.ts";
import { ModelWatch } from "../e2e/model-watch.ts";
import { Timeline } from "../e2e/timeline.ts";
import { inSteps } from "../in-steps.ts";
import { requireOrSkip } from "../requirement.ts";
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
import { type RealCluster, startRealCluster, whyNoRealCluster } from "./real-cluster.ts";
import { type Signers, keyFile, signerTarget, startSigners } from "./signers.ts";
import { wholeImage } from "./whole-image.ts";
import { until, untilFound } from "../until.ts";

const PREVIOUS = "test/chart/previous/tessellate-0.1.0.tgz";
const NODES = [...new Set(MACHINES.map(({ node }) => node))];
const PREVIOUS_TREE = process.env["TESSELLATE_PREVIOUS_TREE"];
const WHOLE = "localhost/tessellate:0.1.0";
const OLD_VALUES = ["--set=image.repository=localhost/tessellate", "--set=image.pullPolicy=Never"];
const NEW_VALUES = [
  "--set=image.registry=localhost",
  "--set=image.pullPolicy=Never",
  "--set=agent.measureLayers=false", // three machines that share two cores, under load
  '--set-json=gateway.extraArgs=["--linger=2"]',
  ...NO_CORES,
  ...AGENT_VALUES,
];
/** So that nothing is rolled: the image's name is part of what ranks are made with. */
const SAME_RANKS = "--set=rank.image.repository=tessellate";

const RIGHTS_OF_TODAY = "rights-of-today";
const skipDefinitions = PREVIOUS_TREE === undefined ? ["--skip-crds"] : [];
const OPERATOR = `--serviceaccount=${HOUSE_NAMESPACE}:tessellate-operator`;

describe("chart 0.1.0 on real nodes, upgraded", function () {
  this.timeout(400_000);
  inSteps(this);
  const timeline = new Timeline();
  let cluster: RealCluster;
  let watch: ModelWatch;
  let questions: DemoQuestions;
  let signers: Signers;

  const kubectl = (...args: string[]) => cluster.controlPlane.kubectl(args);
  const helm = (...args: string[]) => cluster.controlPlane.helm(args);
  const patch = (what: string, spec: object) => kubectl("patch", what, "--type=merge", "-p", JSON.stringify({ spec }));
  const ranks = () => identities(cluster, (pod) => componentOf(pod) === "rank");

  const rankImages = async () =>
    (await podsOf(cluster)).filter((pod) => componentOf(pod) === "rank").map(({ spec }) => spec.containers[0]?.image);

  before(async function () {
    const why = whyNoRealCluster() ?? (await whyNoImages());
    requireOrSkip(this, why);
    this.timeout(2_400_000); // the first time binaries and images are built
    const images = await buildImages();
    cluster = await timeline.phase("control plane, three nodes Ready", () => startRealCluster(NODES));
    await timeline.phase("images of today, and the one of all, in every node", async () => {
      const whole = await wholeImage(join(cluster.sandbox.folder, "whole"), images, WHOLE, PREVIOUS_TREE);
      await cluster.load([images.archive, whole]);
    });
    await kubectl("create", "namespace", HOUSE_NAMESPACE);
    signers = await startSigners(cluster, MACHINES);
  });
  after(async function () {
    await watch?.stop();
    if (cluster !== undefined && this.test?.parent?.tests.some(({ state }) => state === "failed"))
      await tellAll(cluster);
    await cluster?.stop();
    console.log(`\n${timeline.text()}\n`);
  });

  it("serves by chart 0.1.0, its providers' signers outside of the cluster", async () => {
    await timeline.phase("helm install of chart 0.1.0, the demo Ready", async () => {
      if (PREVIOUS_TREE === undefined) {
        await kubectl("apply", "-f", "crds/");
        await kubectl("create", "clusterrolebinding", RIGHTS_OF_TODAY, "--clusterrole=cluster-admin", OPERATOR);
      }
      await helm("install", ...RELEASE, PREVIOUS, ...OLD_VALUES, ...skipDefinitions, "--wait", "--timeout=150s");
      await kubectl("apply", "-f", "examples/demo/");
      // Agents measure for the first time: see docs/install.md. And three machines share two cores: no pace is to be judged.
      await patch("shardedmodel/demo", { update: { minGain: "9999%", maxSlowdown: "Any" } });
      for (const { shardNode, node } of MACHINES)
        await patch(`shardnode/${shardNode}`, { nodeName: node, signer: { target: signerTarget(shardNode) } });
      for (const [provider, publicKey] of signers.publicKeys) await patch(`provider/${provider}`, { publicKey });
      watch = new ModelWatch(cluster.controlPlane, "demo");
      await kubectl("wait", "--for=condition=Ready", "shardedmodel/demo", "--timeout=180s");
    });
    questions = new DemoQuestions(await gatewayUrlOf(cluster), signers.publicKeys);
    for (const golden of questions.goldens) await questions.expectAnswer(golden);
    expect(await kubectl("get", "pods", "-n", HOUSE_NAMESPACE, "--no-headers")).not.to.contain("agent");
  });

  it("is upgraded under load: every rank is the pod that it was, and no question fails", async () => {
    const before = await ranks();
    expect(before).to.have.length(MACHINES.length);
    // The key that signed so far is the one that agents sign with.
    await admitProviders(cluster, (provider) => readFileSync(keyFile(cluster, provider), "utf8"));
    await kubectl("delete", "clusterrolebinding", RIGHTS_OF_TODAY, "--ignore-not-found");
    await questions.underLoad(timeline, "helm upgrade from chart 0.1.0 to this one under load", async () => {
      const values = [...NEW_VALUES, SAME_RANKS, "--take-ownership"];
      await helm("upgrade", ...RELEASE, CHART, ...values, "--wait", "--timeout=300s");
    });
    expect(await ranks()).to.deep.equal(before);
    const images = (await podsOf(cluster))
      .filter(({ metadata }) => metadata.namespace === HOUSE_NAMESPACE)
      .map(({ spec }) => spec.containers[0]?.image);
    expect(images).not.to.contain(WHOLE);
    const definition = ["get", "crd", "shardnodes.tessellate.dev", "-o", "jsonpath={.metadata.annotations}"];
    expect(await kubectl(...definition)).to.contain('"meta.helm.sh/release-name":"tessellate"');
  });

  it("has its nodes signed for by agents, with the key that signed so far", async () => {
    // They were Ready before, too: for the operator of 0.1.0 nobody had to sign.
    const offers = 'jsonpath={range .items[*]}{.metadata.name} {.status.offer}{"\\n"}{end}';
    await timeline.phase("nodes signed for", () =>
      untilFound(
        "an offer of each node",
        async () => (await kubectl("get", "shardnodes", "-o", offers)).trim().split("\n"),
        (lines) => lines.every((line) => line.includes("payload")),
        { timeoutMs: 120_000 },
      ),
    );
    await kubectl("wait", "--for=condition=Ready", "shardnodes", "--all", "--timeout=120s");
  });

  it("has its ranks rolled onto today's image under load; then nobody misses the signers beside the cluster", async () => {
    const before = await ranks();
    for (const { shardNode } of MACHINES) await patch(`shardnode/${shardNode}`, { signer: { target: null } });
    await questions.underLoad(timeline, "ranks rolled onto today's image under load", async () => {
      await helm("upgrade", ...RELEASE, CHART, ...NEW_VALUES, "--wait", "--timeout=300s");
      await until("no rank of the old image", async () => !(await rankImages()).includes(WHOLE), {
        timeoutMs: 180_000,
      });
      await kubectl("wait", "--for=condition=UpToDate", "shardedmodel/demo", "--timeout=120s");
    });
    const after = await ranks();
    expect(after).to.have.length(MACHINES.length);
    expect(after.filter((rank) => before.includes(rank))).to.deep.equal([]);
    await signers.stop();
    for (const golden of questions.goldens) await questions.expectAnswer(golden);
  });
});
