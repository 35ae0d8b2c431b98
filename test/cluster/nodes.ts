/** Node objects and their leases: what makes the scheduler and the controller manager believe that nodes are there. */
import { setTimeout as sleep } from "node:timers/promises";
import { type ApiClient, ApiError } from "./api-client.ts";
import type { KubeObject } from "./kube-types.ts";

/** A kubelet renews its lease every ten seconds; a node whose lease is older than forty counts as lost. */
const LEASE_SECONDS = 40;
const RENEW_MS = 10_000;
const READY_TIMEOUT_MS = 30_000;

export interface NodeOptions {
  readonly name: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  /** Laid over 4 cpu, 8Gi memory, 20Gi ephemeral-storage, 110 pods; extended resources such as `nvidia.com/gpu` too. */
  readonly capacity?: Readonly<Record<string, string | number>>;
  readonly taints?: readonly { readonly key: string; readonly value?: string; readonly effect: string }[];
}

interface NodeObject extends KubeObject {
  readonly spec: { readonly taints?: readonly { readonly key: string }[] };
}

export interface NodeAddress {
  /** The node's own loopback address. */
  readonly address: string;
  /** Where this kubelet answers, on every node's address. */
  readonly kubeletPort: number;
}

/** Registers a node (or takes it over), and resolves when pods can be scheduled to it. */
export async function registerNode(api: ApiClient, node: NodeOptions, at: NodeAddress): Promise<void> {
  const capacity = {
    cpu: "4",
    memory: "8Gi",
    "ephemeral-storage": "20Gi",
    pods: "110",
    ...Object.fromEntries(Object.entries(node.capacity ?? {}).map(([name, amount]) => [name, String(amount)])),
  };
  const labels = {
    "kubernetes.io/hostname": node.name,
    "kubernetes.io/os": "linux",
    "kubernetes.io/arch": process.arch === "arm64" ? "arm64" : "amd64",
    ...node.labels,
  };
  const now = new Date().toISOString().replace(/\.\d+Z$/, "Z");
  const condition = (type: string, status: string, reason: string, message: string) => ({
    ...{ type, status, reason, message },
    lastHeartbeatTime: now,
    lastTransitionTime: now,
  });
  const status = {
    capacity,
    allocatable: capacity,
    addresses: [
      { type: "InternalIP", address: at.address },
      { type: "Hostname", address: node.name },
    ],
    daemonEndpoints: { kubeletEndpoint: { Port: at.kubeletPort } },
    conditions: [
      condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
      condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
      condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
      condition("Ready", "True", "KubeletReady", "process-kubelet is posting ready status"),
    ],
  };
  const path = `/api/v1/nodes/${node.name}`;
  const metadata = { name: node.name, labels, annotations: node.annotations ?? {} };
  await renewLease(api, node.name);
  await api
    .request("POST", "/api/v1/nodes", { metadata, spec: { taints: node.taints ?? [] }, status })
    .catch(async (error: unknown) => {
      if (!(error instanceof ApiError) || error.status !== 409) throw error;
      await api.request("PATCH", path, { metadata: { labels } }, "application/merge-patch+json");
    });
  await api.request("PATCH", `${path}/status`, { status }, "application/strategic-merge-patch+json");
  await untainted(api, path, node.name);
}

/** The node-lifecycle controller takes the taint away that every new node gets. */
async function untainted(api: ApiClient, path: string, name: string): Promise<void> {
  const startedMs = performance.now();
  while (performance.now() - startedMs < READY_TIMEOUT_MS) {
    const { spec } = await api.get<NodeObject>(path);
    if (!spec.taints?.some(({ key }) => key === "node.kubernetes.io/not-ready")) return;
    await sleep(100);
  }
  throw new Error(`node ${name} is still tainted not-ready: does the controller manager run?`);
}

/** Renews the leases of `names()` until `signal` is aborted. */
export async function keepLeases(api: ApiClient, names: () => readonly string[], signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await sleep(RENEW_MS, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) return;
    // Weather: an API server that is away for a while is not the nodes' end.
    await Promise.all(names().map((name) => renewLease(api, name).catch(() => undefined)));
  }
}

async function renewLease(api: ApiClient, name: string): Promise<void> {
  const path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
  // Micro-time: exactly six digits.
  const renewTime = new Date().toISOString().replace("Z", "000Z");
  const spec = { holderIdentity: name, leaseDurationSeconds: LEASE_SECONDS, renewTime };
  await api
    .request("PATCH", `${path}/${name}`, { spec }, "application/merge-patch+json")
    .catch(async (error: unknown) => {
      if (!(error instanceof ApiError) || error.status !== 404) throw error;
      await api.request("POST", path, { metadata: { name }, spec });
    });
}
