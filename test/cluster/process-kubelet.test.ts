import { expect } from "chai";
import { requireOrSkip, whyNoProcessKubelet } from "../requirement.ts";
import { commandLinesWith } from "./command-lines.ts";
import { type ControlPlane, startControlPlane } from "./control-plane.ts";
import type { Container, Pod, PodSpec, Probe } from "./kube-types.ts";
import { type ProcessKubelet, startProcessKubelet } from "./process-kubelet.ts";

/** Answers on the pod's own address with `answer`, a JavaScript expression, and ends at SIGTERM. */
const serve = (answer: string) => `
  const http = require("node:http"), fs = require("node:fs"), os = require("node:os");
  const answer = async (request) => (${answer});
  http.createServer(async (request, response) => {
    try { response.end(JSON.stringify(await answer(request))); } catch (error) { response.writeHead(500).end(String(error)); }
  }).listen(8080, process.env.POD_IP);
  process.once("SIGTERM", () => { console.log("ended in peace"); process.exit(0); });
`;

const POD_IP = { name: "POD_IP", valueFrom: { fieldRef: { fieldPath: "status.podIP" } } };

function aContainer(script: string, overrides: Partial<Container> = {}): Container {
  return {
    name: "main",
    image: "none",
    command: ["node", "-e", script],
    ...overrides,
    env: [POD_IP, ...(overrides.env ?? [])],
  };
}

describe("the process-kubelet", function () {
  this.timeout(120_000);
  let controlPlane: ControlPlane;
  let kubelet: ProcessKubelet;

  before(async function () {
    const why = whyNoProcessKubelet();
    requireOrSkip(this, why);
    this.timeout(1_200_000);
    controlPlane = await startControlPlane();
    kubelet = await startProcessKubelet(controlPlane, {
      nodes: [
        { name: "north", labels: { zone: "n" }, capacity: { "tessellate.dev/gpu": 1 } },
        { name: "south", labels: { zone: "s" }, capacity: { "tessellate.dev/gpu": 1 } },
      ],
      images: { "registry.test/answer": ["node", "-e"] },
      probeScale: 0.02,
      backOffScale: 0.01,
    });
  });

  after(() => controlPlane?.stop());

  afterEach(async () => {
    // What a failed test left would be in the way of the next.
    await controlPlane.kubectl(["delete", "deployments,pods,persistentvolumeclaims", "--all", "--grace-period=1"]);
  });

  const apply = (object: object) => controlPlane.kubectl(["apply", "-f", "-"], JSON.stringify(object));
  const applyPod = (name: string, spec: PodSpec) => apply({ apiVersion: "v1", kind: "Pod", metadata: { name }, spec });
  const wait = (what: string, condition: string) =>
    controlPlane.kubectl(["wait", what, `--for=${condition}`, "--timeout=60s"]);
  const waitReady = (name: string) => wait(`pod/${name}`, "condition=Ready");
  const get = (name: string) => controlPlane.api.get<Pod>(`/api/v1/namespaces/default/pods/${name}`);
  const restartsOf = async (name: string) => (await get(name)).status?.containerStatuses?.[0]?.restartCount ?? 0;
  const ask = async (name: string) => {
    const response = await fetch(`http://${(await get(name)).status?.podIP}:8080/`);
    expect(response.status, await response.clone().text()).to.equal(200);
    return JSON.parse(await response.text());
  };

  it("runs a pod on its own address, restarts it when it is killed, and ends it in peace", async () => {
    await applyPod("first", {
      containers: [aContainer(serve("process.pid"), { readinessProbe: { httpGet: { port: 8080 } } })],
    });
    await waitReady("first");
    const { status } = await get("first");
    expect(status?.podIP).to.match(/^127\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7])\./);
    expect(status?.phase).to.equal("Running");
    expect(await ask("first"), "its process number").to.equal(1);

    kubelet.kill({ name: "first" });
    await wait("pod/first", "jsonpath={.status.containerStatuses[0].restartCount}=1");
    await waitReady("first");
    const [container] = (await get("first")).status?.containerStatuses ?? [];
    expect(container?.lastState.terminated).to.include({ exitCode: 137, reason: "Error" });
    expect(await ask("first")).to.equal(1);

    await controlPlane.kubectl(["delete", "pod", "first"]);
    expect(kubelet.logs({ name: "first" })).to.equal("ended in peace\n");
  });

  it("kills what does not heed SIGTERM when its grace is over", async () => {
    await applyPod("deaf", {
      terminationGracePeriodSeconds: 1,
      containers: [
        aContainer("process.on('SIGTERM', () => console.log('heard')); setInterval(() => {}, 1000); console.log('up')"),
      ],
    });
    await waitReady("deaf");
    await eventually(async () => kubelet.logs({ name: "deaf" }).includes("up"));
    await controlPlane.kubectl(["delete", "pod", "deaf"]);
    expect(kubelet.logs({ name: "deaf" })).to.equal("up\nheard\n");
  });

  it("gives it Secrets, ConfigMaps, fields and a token, as its own user, and nothing of the test's", async () => {
    process.env["TEST_ONLY"] = "must not leak";
    await controlPlane.kubectl(["create", "secret", "generic", "identity", "--from-literal=key=s3cret"]);
    await controlPlane.kubectl(["create", "configmap", "settings", "--from-literal=colour=green"]);
    const script = serve(`{
      secret: fs.readFileSync("/etc/tessellate/key", "utf8"), config: fs.readFileSync("/settings/colour", "utf8"),
      labels: fs.readFileSync("/downward/labels", "utf8"), environment: process.env, host: os.hostname(),
      user: [process.getuid(), process.getgid(), process.getgroups().sort()], scratch: fs.writeFileSync("/scratch/file", "x") ?? "written",
      refused: ["/etc/tessellate/new", "/new", "/tmp/new"].map((path) => { try { fs.writeFileSync(path, ""); } catch (error) { return error.code; } }),
      whoAmI: await whoAmI(),
    }`);
    const whoAmI = `
      async function whoAmI() {
        const folder = "/var/run/secrets/kubernetes.io/serviceaccount";
        const { request } = require("node:https");
        return new Promise((resolve, reject) => request({
          host: process.env.KUBERNETES_SERVICE_HOST, port: process.env.KUBERNETES_SERVICE_PORT, path: "/api/v1/pods",
          ca: fs.readFileSync(folder + "/ca.crt"), headers: { authorization: "Bearer " + fs.readFileSync(folder + "/token", "utf8") },
        }, async (response) => resolve((await response.toArray()).join(""))).on("error", reject).end());
      }`;
    await apply({
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "second", labels: { part: "rank" } },
      spec: {
        securityContext: { runAsNonRoot: true, runAsUser: 4242, fsGroup: 77 },
        containers: [
          aContainer(script + whoAmI, {
            env: [
              { name: "COLOUR", valueFrom: { configMapKeyRef: { name: "settings", key: "colour" } } },
              { name: "NODE", valueFrom: { fieldRef: { fieldPath: "spec.nodeName" } } },
              { name: "LINE", value: "$(COLOUR) on $(NODE), $(UNKNOWN) $$(COLOUR)" },
              { name: "MEMORY_MIB", valueFrom: { resourceFieldRef: { resource: "limits.memory", divisor: "1Mi" } } },
            ],
            resources: { limits: { memory: "64Mi" } },
            readinessProbe: { tcpSocket: { port: 8080 } },
            securityContext: {
              readOnlyRootFilesystem: true,
              allowPrivilegeEscalation: false,
              capabilities: { drop: ["ALL"] },
            },
            volumeMounts: [
              { name: "identity", mountPath: "/etc/tessellate" },
              { name: "settings", mountPath: "/settings" },
              { name: "downward", mountPath: "/downward" },
              { name: "scratch", mountPath: "/scratch" },
            ],
          }),
        ],
        volumes: [
          { name: "identity", secret: { secretName: "identity", defaultMode: 0o400 } },
          { name: "settings", configMap: { name: "settings" } },
          {
            name: "downward",
            downwardAPI: { items: [{ path: "labels", fieldRef: { fieldPath: "metadata.labels" } }] },
          },
          { name: "scratch", emptyDir: {} },
        ],
      },
    });
    await waitReady("second");
    const pod = await get("second");
    const { environment, whoAmI: answer, ...seen } = await ask("second");
    expect(seen).to.deep.equal({
      secret: "s3cret",
      config: "green",
      labels: 'part="rank"',
      host: "second",
      user: [4242, 0, [0, 77]],
      scratch: "written",
      refused: ["EROFS", "EROFS", "EROFS"],
    });
    expect(environment).to.include({ COLOUR: "green", HOME: "/tmp", HOSTNAME: "second", MEMORY_MIB: "64" });
    expect(environment.LINE).to.equal(`green on ${pod.spec.nodeName}, $(UNKNOWN) $(COLOUR)`);
    expect(environment).not.to.have.property("TEST_ONLY");
    expect(answer).to.contain('User \\"system:serviceaccount:default:default\\" cannot list');

    const changed = {
      apiVersion: "v1",
      kind: "Secret",
      metadata: { name: "identity" },
      stringData: { key: "changed" },
    };
    await apply(changed);
    await eventually(async () => (await ask("second")).secret === "changed");
    await controlPlane.kubectl(["delete", "pod/second", "secret/identity", "configmap/settings"]);
  });

  it("waits, and says why, while what a pod needs is missing", async () => {
    const volumes = [{ name: "late", secret: { secretName: "late" } }];
    await applyPod("third", {
      containers: [aContainer(serve("0"), { volumeMounts: [{ name: "late", mountPath: "/late" }] })],
      volumes,
    });
    await eventually(async () => {
      const events = await controlPlane.kubectl(["get", "events", "--field-selector=involvedObject.name=third"]);
      return events.includes('secret "late" not found');
    });
    expect((await get("third")).status?.phase).to.equal("Pending");
    await controlPlane.kubectl(["create", "secret", "generic", "late"]);
    await waitReady("third");
    await applyPod("fourth", { containers: [{ name: "main", image: "registry.test/unknown:1" }] });
    await wait("pod/fourth", "jsonpath={.status.containerStatuses[0].state.waiting.reason}=ErrImageNeverPull");
    await controlPlane.kubectl(["delete", "pod", "third", "fourth"]);
  });

  it("runs an image's command by the table, init containers first, and ends as they end", async () => {
    const args = ["require('fs').appendFileSync('/shared/log', process.argv[1] + ';')"];
    const volumeMounts = [{ name: "shared", mountPath: "/shared" }];
    const step = (name: string): Container => ({
      ...{ name, image: "registry.test/answer:v1", args: [...args, name], volumeMounts },
    });
    const print = aContainer("process.stdout.write(require('fs').readFileSync('/shared/log'))", { volumeMounts });
    await applyPod("steps", {
      restartPolicy: "Never",
      initContainers: [step("one"), step("two")],
      containers: [print],
      volumes: [{ name: "shared", emptyDir: {} }],
    });
    await wait("pod/steps", "jsonpath={.status.phase}=Succeeded");
    expect(kubelet.logs({ name: "steps" })).to.equal("one;two;");
    expect(await controlPlane.kubectl(["logs", "steps"])).to.equal("one;two;");

    const failing = aContainer("console.error('no luck'); process.exit(3)", {
      terminationMessagePolicy: "FallbackToLogsOnError",
    });
    await applyPod("failing", { restartPolicy: "Never", containers: [failing] });
    await wait("pod/failing", "jsonpath={.status.phase}=Failed");
    const ended = (await get("failing")).status?.containerStatuses?.[0]?.state.terminated;
    expect(ended).to.include({ exitCode: 3, message: "no luck\n" });
    await applyPod("looping", { containers: [failing] });
    await wait("pod/looping", "jsonpath={.status.containerStatuses[0].state.waiting.reason}=CrashLoopBackOff");
    await eventually(async () => (await restartsOf("looping")) >= 3);
    await controlPlane.kubectl(["delete", "pod", "steps", "failing", "looping"]);
  });

  const grpc = `
    const { Server, ServerCredentials } = require("@grpc/grpc-js"), { HealthImplementation } = require("grpc-health-check");
    const server = new Server();
    new HealthImplementation({ "": "SERVING", broken: "NOT_SERVING" }).addToServer(server);
    server.bindAsync(process.env.POD_IP + ":8080", ServerCredentials.createInsecure(), () => {});
    process.once("SIGTERM", () => process.exit(0));
  `;
  const http = serve("request.url === '/sick' ? Promise.reject('sick') : 0");
  const probes: readonly { name: string; script: string; good: Probe; bad: Probe }[] = [
    {
      name: "http",
      script: http,
      good: { httpGet: { port: "web", path: "/" } },
      bad: { httpGet: { port: "web", path: "/sick" } },
    },
    { name: "tcp", script: http, good: { tcpSocket: { port: "web" } }, bad: { tcpSocket: { port: 8081 } } },
    { name: "grpc", script: grpc, good: { grpc: { port: 8080 } }, bad: { grpc: { port: 8080, service: "broken" } } },
    { name: "exec", script: http, good: { exec: { command: ["true"] } }, bad: { exec: { command: ["false"] } } },
  ];
  for (const { name, script, good, bad } of probes) {
    it(`believes ${name} probes: ready by a good one, restarted by a bad one`, async () => {
      const ports = [{ name: "web", containerPort: 8080 }];
      await applyPod(`${name}-good`, {
        containers: [
          aContainer(script, {
            ports,
            startupProbe: { ...good, failureThreshold: 60 },
            readinessProbe: good,
            livenessProbe: good,
          }),
        ],
      });
      await applyPod(`${name}-unready`, {
        containers: [
          aContainer(script, { ports, startupProbe: { ...good, failureThreshold: 60 }, readinessProbe: bad }),
        ],
      });
      await applyPod(`${name}-bad`, {
        containers: [
          aContainer(script, { ports, startupProbe: { ...good, failureThreshold: 60 }, livenessProbe: bad }),
        ],
      });
      await waitReady(`${name}-good`);
      await eventually(async () => (await restartsOf(`${name}-bad`)) >= 1);
      await wait(`pod/${name}-unready`, "jsonpath={.status.containerStatuses[0].started}=true");
      const conditions = (await get(`${name}-unready`)).status?.conditions;
      expect(conditions?.find(({ type }) => type === "Ready")).to.include({
        status: "False",
        reason: "ContainersNotReady",
      });
      expect((await get(`${name}-good`)).status?.containerStatuses?.[0]?.restartCount).to.equal(0);
      await controlPlane.kubectl(["delete", "pod", `${name}-good`, `${name}-unready`, `${name}-bad`]);
    });
  }

  it("spreads a Deployment by what its nodes have, and leaves no process when it is deleted", async () => {
    const labels = { app: "spread" };
    const container = aContainer(
      `${serve("process.env.HOSTNAME")}; require("child_process").spawn("sleep", ["1000007"])`,
      {
        resources: { limits: { "tessellate.dev/gpu": "1" } },
        readinessProbe: { httpGet: { port: 8080 } },
      },
    );
    const template = { metadata: { labels }, spec: { containers: [container] } };
    const spec = { replicas: 2, selector: { matchLabels: labels }, template };
    await apply({ apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "spread" }, spec });
    await wait("deployment/spread", "condition=Available");
    const columns = "jsonpath={.items[*].spec.nodeName}";
    expect(
      (await controlPlane.kubectl(["get", "pods", "-l", "app=spread", "-o", columns])).split(" ").sort(),
    ).to.deep.equal(["north", "south"]);
    expect(commandLinesWith("sleep 1000007")).to.have.length(2);

    await controlPlane.kubectl(["delete", "deployment", "spread", "--cascade=foreground"]);
    await eventually(async () => kubelet.podNames().length === 0);
    expect(commandLinesWith("sleep 1000007")).to.deep.equal([]);
  });

  it("keeps what a claim holds from one pod to the next, and no longer than the claim", async () => {
    const claim = { accessModes: ["ReadWriteOnce"], resources: { requests: { storage: "1Gi" } } };
    await apply({ apiVersion: "v1", kind: "PersistentVolumeClaim", metadata: { name: "kept" }, spec: claim });
    const volumes = [{ name: "kept", persistentVolumeClaim: { claimName: "kept" } }];
    const volumeMounts = [{ name: "kept", mountPath: "/kept" }];
    for (const name of ["writer", "reader"]) {
      const script =
        "fs.appendFileSync('/kept/log', os.hostname() + ';'); console.log(String(fs.readFileSync('/kept/log')))";
      await applyPod(name, { restartPolicy: "Never", containers: [aContainer(script, { volumeMounts })], volumes });
      await wait(`pod/${name}`, "jsonpath={.status.phase}=Succeeded");
    }
    expect(kubelet.logs({ name: "reader" })).to.equal("writer;reader;\n");
    await controlPlane.kubectl(["delete", "pod/writer", "pod/reader", "pvc/kept"]);
    await eventually(async () => (await controlPlane.kubectl(["get", "pv", "-o", "name"])) === "");
  });
});

async function eventually(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 100));
}
