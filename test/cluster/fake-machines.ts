/**
 * Machines without a kubelet: nodes that are Ready because the test says so, whose pods run nothing and are reported as
 * the test wishes. For tests of what the operator makes of reports; pods that run are process-kubelet.ts's.
 */
import type { ApiClient } from "./api-client.ts";
import type { Pod } from "./kube-types.ts";

const MERGE = "application/merge-patch+json";
const now = () => new Date().toISOString().replace(/\.\d+Z/, "Z");

export class FakeMachines {
  readonly #api: ApiClient;
  readonly #stop = new AbortController();
  readonly #pods = new Map<string, Pod>();
  #addressCount = 0;
  /** Whether pods become ready as soon as they run. */
  autoReady = true;

  /** Reports on the pods of `namespace`, or of all, until {@link stop}. */
  constructor(api: ApiClient, namespace?: string) {
    this.#api = api;
    const place = namespace === undefined ? "" : `/namespaces/${namespace}`;
    const path = `/api/v1${place}/pods?labelSelector=app.kubernetes.io%2Fcomponent%3Drank`;
    void api.follow<Pod>(path, ({ type, object }) => this.#seen(type, object), this.#stop.signal);
  }

  stop(): void {
    this.#stop.abort();
  }

  /** A Ready node with plenty of room. */
  async add(name: string): Promise<void> {
    const capacity = { cpu: "16", memory: "64Gi", pods: "110" };
    const condition = {
      type: "Ready",
      status: "True",
      reason: "Test",
      lastHeartbeatTime: now(),
      lastTransitionTime: now(),
    };
    await this.#api.request("POST", "/api/v1/nodes", { metadata: { name } });
    await this.#api.request(
      "PATCH",
      `/api/v1/nodes/${name}/status`,
      { status: { capacity, allocatable: capacity, conditions: [condition] } },
      MERGE,
    );
    await this.#api.request("PATCH", `/api/v1/nodes/${name}`, { spec: { taints: null } }, MERGE);
  }

  async remove(name: string): Promise<void> {
    await this.#api.request("DELETE", `/api/v1/nodes/${name}`);
  }

  /** Reports a pod that runs as ready, or not; with a restart, as a new process. */
  async report(
    name: string,
    { ready, restartCount = 0 }: { readonly ready: boolean; readonly restartCount?: number },
  ): Promise<void> {
    const pod = this.#pods.get(name);
    if (pod === undefined) throw new Error(`no pod ${name} was seen`);
    await this.#report(pod, ready, restartCount);
  }

  #seen(type: "ADDED" | "MODIFIED" | "DELETED", pod: Pod): void {
    const { name, namespace } = pod.metadata;
    if (type === "DELETED") {
      this.#pods.delete(name);
      return;
    }
    this.#pods.set(name, pod);
    if (pod.metadata.deletionTimestamp !== undefined) {
      // The processes have ended in good order.
      const gone = this.#api.request("DELETE", `/api/v1/namespaces/${namespace}/pods/${name}`, {
        gracePeriodSeconds: 0,
      });
      gone.catch(() => undefined);
    } else if (pod.spec.nodeName !== undefined && !pod.status?.podIP) {
      this.#report(pod, this.autoReady, 0).catch(() => undefined);
    }
  }

  #nextAddress(): string {
    this.#addressCount += 1;
    return `127.77.${Math.floor(this.#addressCount / 250) % 250}.${1 + (this.#addressCount % 250)}`;
  }

  async #report({ metadata, status: before }: Pod, ready: boolean, restartCount: number): Promise<void> {
    const value = ready ? "True" : "False";
    const podIP = before?.podIP || this.#nextAddress();
    const state = { running: { startedAt: now() } };
    const status = {
      phase: "Running",
      podIP,
      podIPs: [{ ip: podIP }],
      conditions: [
        { type: "PodScheduled", status: "True" },
        { type: "ContainersReady", status: value },
        { type: "Ready", status: value },
      ],
      containerStatuses: [{ name: "rank", image: "none", imageID: "", ready, restartCount, state, lastState: {} }],
    };
    await this.#api.request(
      "PATCH",
      `/api/v1/namespaces/${metadata.namespace}/pods/${metadata.name}/status`,
      { status },
      MERGE,
    );
  }
}
