/** One node of the test cluster: a containerd and a kubelet with folders, addresses and control groups of their own. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type ControlPlane, kubeconfigText } from "../cluster/control-plane.ts";
import { until } from "../until.ts";
import { makeControlGroup } from "./control-groups.ts";
import { PAUSE_IMAGE } from "./images.ts";
import type { Sandbox, SandboxNode } from "./sandbox.ts";

const CNI_PLUGINS = "/usr/lib/cni";
const KUBELET_PORT = 10_250;
const HEALTH_PORT = 10_248;

export interface RealNodeOptions extends SandboxNode {
  readonly name: string;
  /** 1 and up; names its folder. */
  readonly number: number;
  readonly dnsAddress: string;
  readonly kubelet: string;
  readonly labels?: Readonly<Record<string, string>>;
}

export interface RealNode {
  readonly name: string;
  readonly address: string;
  /** Of its network and mounts; see Sandbox.start. */
  readonly namespace: string;
  /** Loads docker archives into its containerd. */
  load(archives: readonly string[]): Promise<void>;
  /** Runs ctr against its containerd, in the namespace of Kubernetes' containers. */
  ctr(...args: readonly string[]): Promise<string>;
  /** Kills a container's first process, as the kernel does when memory is short. */
  kill(podName: string, containerName: string): Promise<void>;
}

/** Resolves when its containerd answers; the kubelet is started by {@link startKubelet}, once pause is loaded. */
export async function startRealNode(sandbox: Sandbox, options: RealNodeOptions): Promise<RealNode> {
  const { name, address } = options;
  const folder = join(sandbox.folder, `n${options.number}`);
  mkdirSync(join(folder, "cni"), { recursive: true });
  const socket = socketOf(folder);
  writeFileSync(join(folder, "cni", "10-pods.conflist"), JSON.stringify(podNetwork(folder, options.subnet)));
  writeFileSync(
    join(folder, "containerd.toml"),
    containerdConfig(folder, join(sandbox.folder, "stores", `n${options.number}`)),
  );
  const log = `${name}-containerd`;
  const containerd = sandbox.start(
    log,
    ["/usr/bin/containerd", "--config", join(folder, "containerd.toml")],
    options.namespace,
  );
  const ctr = (...args: readonly string[]) =>
    sandbox.run(["/usr/bin/ctr", "--address", socket, "--namespace", "k8s.io", ...args]);
  await until(
    `containerd of ${name}`,
    async () => {
      if (containerd.running) return (await ctr("version")) !== "";
      throw new Error(`containerd of ${name} ended: ${sandbox.logOf(log).slice(-2000)}`);
    },
    { timeoutMs: 30_000 },
  );
  return {
    name,
    address,
    namespace: options.namespace,
    ctr,
    load: async (archives) => {
      for (const archive of archives) await ctr("images", "import", archive);
    },
    kill: async (podName, containerName) => {
      const labels = { "pod.name": podName, "container.name": containerName };
      const filter = Object.entries(labels).map(([label, value]) => `labels."io.kubernetes.${label}"==${value}`);
      const found = words(await ctr("containers", "list", "--quiet", filter.join()));
      const tasks = (await ctr("tasks", "list")).split("\n").filter((line) => line.includes("RUNNING"));
      const victim = found.find((id) => tasks.some((line) => line.startsWith(id)));
      if (victim === undefined) throw new Error(`no running container ${containerName} of pod ${podName} on ${name}`);
      await ctr("tasks", "kill", "--signal", "SIGKILL", victim);
    },
  };
}

const words = (text: string): readonly string[] => text.split(/\s+/).filter(Boolean);

/** Resolves when the node is Ready. */
export async function startKubelet(
  sandbox: Sandbox,
  controlPlane: ControlPlane,
  options: RealNodeOptions,
): Promise<void> {
  const { name, address } = options;
  const folder = join(sandbox.folder, `n${options.number}`);
  await writeKubeletFiles(folder, sandbox, controlPlane, options);
  const labels = Object.entries({ "kubernetes.io/hostname": name, ...options.labels });
  const log = `${name}-kubelet`;
  const kubelet = sandbox.start(
    log,
    [
      options.kubelet,
      `--config=${join(folder, "kubelet.json")}`,
      `--kubeconfig=${join(folder, "kubelet.kubeconfig")}`,
      `--root-dir=${join(folder, "kubelet")}`,
      `--cert-dir=${join(folder, "pki")}`,
      `--hostname-override=${name}`,
      `--node-ip=${address}`,
      `--node-labels=${labels.map(([key, value]) => `${key}=${value}`).join()}`,
    ],
    options.namespace,
  );
  await until(`node ${name} to be Ready`, async () => {
    if (!kubelet.running) throw new Error(`kubelet of ${name} ended: ${sandbox.logOf(log).slice(-3000)}`);
    const path = `/api/v1/nodes/${name}`;
    const { status, spec } = await controlPlane.api.get<NodeObject>(path);
    const ready = status.conditions.some((condition) => condition.type === "Ready" && condition.status === "True");
    return ready && !(spec.taints ?? []).some(({ key }) => key === "node.kubernetes.io/not-ready");
  });
}

type NodeObject = {
  readonly spec: { readonly taints?: readonly { readonly key: string }[] };
  readonly status: { readonly conditions: readonly { readonly type: string; readonly status: string }[] };
};

const socketOf = (folder: string): string => join(folder, "containerd.sock");

/** A pair of virtual cables per pod and a route to it: no bridge, so that Services need nothing of bridges' firewalls. */
const podNetwork = (folder: string, subnet: string): object => ({
  cniVersion: "1.0.0",
  name: "pods",
  plugins: [
    {
      type: "ptp",
      ipam: {
        type: "host-local",
        dataDir: join(folder, "addresses"),
        ranges: [[{ subnet }]],
        routes: [{ dst: "0.0.0.0/0" }],
      },
    },
    { type: "portmap", capabilities: { portMappings: true } },
  ],
});

function containerdConfig(folder: string, store: string): string {
  const cri = 'plugins."io.containerd.grpc.v1.cri"';
  const off = ["snapshotter.v1.btrfs", "snapshotter.v1.zfs", "snapshotter.v1.aufs", "snapshotter.v1.devmapper"];
  return `version = 2
root = "${store}"
state = "${folder}/state"
disabled_plugins = [${off.map((name) => `"io.containerd.${name}"`).join(", ")}]

[grpc]
address = "${socketOf(folder)}"

[ttrpc]
address = "${socketOf(folder)}.ttrpc"

[plugins."io.containerd.internal.v1.opt"]
path = "${folder}/opt"

[${cri}]
sandbox_image = "${PAUSE_IMAGE}"
# Nobody may make a process safer from the kernel than it is without a right that containers of tests often lack.
restrict_oom_score_adj = true
stream_server_address = "127.0.0.1"
stream_server_port = "0"

[${cri}.cni]
bin_dir = "${CNI_PLUGINS}"
conf_dir = "${folder}/cni"

[${cri}.containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"

[${cri}.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[${cri}.containerd.runtimes.runc.options]
Root = "${folder}/runc"
`;
}

async function writeKubeletFiles(
  folder: string,
  { controlGroup }: Sandbox,
  { authority, innerUrl, directory }: ControlPlane,
  { name, number, address, dnsAddress }: RealNodeOptions,
): Promise<void> {
  const file = (fileName: string) => join(folder, fileName);
  const write = (fileName: string, text: string) => writeFileSync(file(fileName), text, { mode: 0o600 });
  const [client, server] = await Promise.all([
    authority.issue({ commonName: `system:node:${name}`, organizations: ["system:nodes"] }),
    authority.issue({ commonName: name, addresses: [address] }),
  ]);
  write("kubelet.kubeconfig", kubeconfigText(innerUrl, authority.certificate, client));
  write("kubelet.crt", server.certificate);
  write("kubelet.key", server.key);
  write("resolv.conf", ""); // names of the world beyond are nobody's business here
  makeControlGroup(`${controlGroup}/n${number}`);
  const config = {
    apiVersion: "kubelet.config.k8s.io/v1beta1",
    kind: "KubeletConfiguration",
    address,
    port: KUBELET_PORT,
    healthzBindAddress: address,
    healthzPort: HEALTH_PORT,
    tlsCertFile: file("kubelet.crt"),
    tlsPrivateKeyFile: file("kubelet.key"),
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: true },
      x509: { clientCAFile: join(directory, "ca.crt") },
    },
    authorization: { mode: "Webhook" },
    clusterDomain: "cluster.local",
    clusterDNS: [dnsAddress],
    resolvConf: file("resolv.conf"),
    containerRuntimeEndpoint: `unix://${socketOf(folder)}`,
    podLogsDir: file("pods"),
    volumePluginDir: file("plugins"),
    cgroupDriver: "cgroupfs",
    cgroupRoot: `/${controlGroup}/n${number}`,
    failCgroupV1: false,
    failSwapOn: false,
    enforceNodeAllocatable: [],
    // The disk is this machine's: how full it is must not decide about pods or images.
    evictionHard: {},
    imageGCHighThresholdPercent: 100,
    serializeImagePulls: false,
    shutdownGracePeriod: "0s",
  };
  write("kubelet.json", JSON.stringify(config));
}
