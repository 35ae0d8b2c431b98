/** That the test cluster is a cluster: nodes, pods with images, Services, names; and that it leaves nothing behind. */
import { expect } from "chai";
import type { KubeList, Pod } from "../cluster/kube-types.ts";
import { Timeline } from "../e2e/timeline.ts";
import { inSteps } from "../in-steps.ts";
import { requireOrSkip } from "../requirement.ts";
import { until } from "../until.ts";
import { ECHO_IMAGE } from "./images.ts";
import { type RealCluster, startRealCluster, whyNoRealCluster } from "./real-cluster.ts";
import { namespacesOf, processesIn, type Traces, traces } from "./traces.ts";

const NODES = ["campus-a1", "garage-3", "studio-x1"];

describe("three real nodes on one machine", function () {
  this.timeout(120_000);
  inSteps(this);
  const timeline = new Timeline();
  let clean: Traces;
  let cluster: RealCluster | undefined;
  const running = () => {
    if (cluster === undefined) throw new Error("the cluster is not up");
    return cluster;
  };
  const echoPods = async () => {
    const path = "/api/v1/namespaces/default/pods?labelSelector=app=echo";
    return (await running().controlPlane.api.get<KubeList<Pod>>(path)).items;
  };
  const kubectl = (...args: string[]) => running().controlPlane.kubectl(args);

  before(async function () {
    const why = whyNoRealCluster();
    requireOrSkip(this, why);
    this.timeout(2_400_000); // the first time the binaries are built
    clean = await traces([]);
    cluster = await timeline.phase("control plane, three nodes Ready", () => startRealCluster(NODES));
  });
  after(async () => {
    await cluster?.stop();
    console.log(`\n${timeline.text()}\n`);
  });

  it("are Ready, each with a container runtime of its own", async () => {
    const nodes = await kubectl("get", "nodes", "--no-headers", "-o", "wide");
    expect(nodes.trim().split("\n")).to.have.length(NODES.length);
    for (const name of NODES) expect(nodes).to.match(new RegExp(`^${name}\\s+Ready\\s.*containerd://`, "m"));
  });

  it("run pods, one on each, that find a Service by its name from every node", async () => {
    await timeline.phase("cluster DNS Ready, a pod on each node, names and Services from all of them", async () => {
      await kubectl("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=60s");
      await running().controlPlane.kubectl(["apply", "-f", "-"], JSON.stringify(ECHOES));
      await kubectl("rollout", "status", "daemonset/echo", "--timeout=60s");
      const pods = await echoPods();
      expect(pods.map(({ spec }) => spec.nodeName).sort()).to.deep.equal([...NODES].sort());
      const names = pods.map(({ metadata }) => metadata.name);
      for (const name of names) {
        // Often enough to come by itself, too: a pod that is sent back to itself is what a firewall gets wrong.
        for (const host of [...Array<string>(5).fill("echo"), "echo.default.svc.cluster.local"])
          expect(names).to.include((await kubectl("exec", name, "--", "/program", `http://${host}`)).trim());
      }
    });
    const [pod] = await echoPods();
    expect(await kubectl("logs", pod?.metadata.name ?? "")).to.contain("listening");
  });

  it("let pods speak with the API server by the Service that every cluster has", async () => {
    const [pod] = await echoPods();
    const command = ["exec", pod?.metadata.name ?? "", "--", "/program", "https://kubernetes.default.svc/version"];
    // The program does not know the cluster's authority; that it got as far as to mind is the answer.
    expect(await kubectl(...command).catch(String)).to.contain("certificate signed by unknown authority");
  });

  it("let the tests in: a Service is reached from outside through a door of its own", async () => {
    const address = await kubectl("get", "service", "echo", "-o", "jsonpath={.spec.clusterIP}");
    const port = await running().sandbox.forward(address, 80);
    const names = (await echoPods()).map(({ metadata }) => metadata.name);
    for (let count = 0; count < 5; count++)
      expect(names).to.include((await (await fetch(`http://127.0.0.1:${port}`)).text()).trim());
  });

  it("start a container again that is killed", async () => {
    const [pod] = await echoPods();
    const node = running().nodes.find(({ name }) => name === pod?.spec.nodeName);
    await node?.kill(pod?.metadata.name ?? "", "echo");
    await until("the container to have been started again", async () => {
      const pods = await echoPods();
      const found = pods.find(({ metadata }) => metadata.uid === pod?.metadata.uid);
      return found?.status?.containerStatuses?.[0]?.restartCount === 1;
    });
  });

  it("leave nothing behind", async () => {
    const { sandbox } = running();
    const namespaces = namespacesOf(sandbox.process1);
    expect(processesIn(namespaces).length).to.be.greaterThan(10);
    await timeline.phase("all of it gone", () => running().stop());
    const marks = [sandbox.folder, sandbox.controlGroup];
    // Its children are dead; the process that led them into the namespaces may take a moment to end after them.
    await until("the last process to end", async () => (await traces(marks)).processes.length === 0);
    expect(await traces(marks)).to.deep.equal(clean);
    expect(processesIn(namespaces)).to.deep.equal([]);
  });
});

const LABELS = { app: "echo" };

/** A pod on every node, and a Service in front of them. */
const ECHOES = {
  apiVersion: "v1",
  kind: "List",
  items: [
    {
      apiVersion: "apps/v1",
      kind: "DaemonSet",
      metadata: { name: "echo", namespace: "default" },
      spec: {
        selector: { matchLabels: LABELS },
        template: {
          metadata: { labels: LABELS },
          spec: {
            terminationGracePeriodSeconds: 1,
            containers: [
              {
                name: "echo",
                image: ECHO_IMAGE,
                imagePullPolicy: "Never",
                ports: [{ name: "http", containerPort: 8080 }],
                readinessProbe: { httpGet: { path: "/", port: "http" }, periodSeconds: 1 },
                resources: { limits: { memory: "64Mi" }, requests: { cpu: "10m" } },
              },
            ],
          },
        },
      },
    },
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "echo", namespace: "default" },
      spec: { selector: LABELS, ports: [{ port: 80, targetPort: "http" }] },
    },
  ],
};
