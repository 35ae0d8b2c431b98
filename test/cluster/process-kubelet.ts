/**
 * Nodes whose pods are local processes. Registers nodes, runs what the scheduler binds to them, and reports as a kubelet
 * would, so that everything above the container runtime is tested as it is.
 *
 * Each pod has its own loopback address as its IP; parts find each other by it. What is not here: images, Services'
 * addresses and names, network policies, limits. See container-process.ts for what a container sees.
 */
import { mkdirSync, mkdtempSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { REPOSITORY } from "./container-process.ts";
import type { ContainerRun, KubeletSettings } from "./container-run.ts";
import type { ControlPlane } from "./control-plane.ts";
import type { ChangeEvent } from "./api-client.ts";
import type { Pod } from "./kube-types.ts";
import { startKubeletServer } from "./kubelet-server.ts";
import { keepLeases, type NodeOptions, registerNode } from "./nodes.ts";
import { PodRun } from "./pod-run.ts";
import { provideStorage } from "./storage.ts";

/** Where `npm test` has compiled the engine's operators: every pod would compile them for itself. */
const { TESSELLATE_NATIVE } = process.env;
const NATIVE = TESSELLATE_NATIVE === undefined ? {} : { TESSELLATE_NATIVE };

export interface ProcessKubeletOptions {
  readonly nodes: readonly NodeOptions[];
  /**
   * What to run for containers that give no command, by image with or without its tag or digest; a container's `args`
   * follow it. Commands run with the repository as their folder and its Node first in PATH.
   */
  readonly images?: Readonly<Record<string, readonly string[]>>;
  /** Multiplies the delays and periods of probes (never below 50 ms), and how often Secret volumes are refreshed. Default 1. */
  readonly probeScale?: number;
  /** Multiplies the pauses between restarts (10 s, 20 s, … after the first). Default 1. */
  readonly backOffScale?: number;
}

export interface PodName {
  readonly name: string;
  /** Default: `default`. */
  readonly namespace?: string;
  /** Default: the pod's first container. */
  readonly container?: string;
}

export interface ProcessKubelet {
  /** The pods that have not been cleaned away yet, as `namespace/name`. */
  podNames(): readonly string[];
  /** What a container has written to standard output and error in its current run, or in the one before. */
  logs(pod: PodName, previous?: boolean): string;
  /** Sends SIGKILL (or another signal) to a container's process, as a crash would; returns at once. Throws for a stranger. */
  kill(pod: PodName, signal?: NodeJS.Signals): void;
  /** Adds a node, and resolves when pods can be scheduled to it. */
  addNode(node: NodeOptions): Promise<void>;
  /** Kills every process and removes every file; the objects stay as they are. The control plane's stop does it too. */
  stop(): Promise<void>;
}

/** Resolves when every node is Ready and free of the not-ready taint. */
export async function startProcessKubelet(
  controlPlane: ControlPlane,
  options: ProcessKubeletOptions,
): Promise<ProcessKubelet> {
  const kubelet = new Kubelet(controlPlane, options);
  controlPlane.onStop(() => kubelet.stop());
  try {
    await kubelet.start(options.nodes);
    return kubelet;
  } catch (error) {
    await kubelet.stop();
    throw error;
  }
}

class Kubelet implements ProcessKubelet {
  readonly #controlPlane: ControlPlane;
  readonly #settings: KubeletSettings;
  readonly #stopped = new AbortController();
  /** By node name: the node's own address. */
  readonly #nodes = new Map<string, string>();
  /** By uid. */
  readonly #pods = new Map<string, { readonly run: PodRun; readonly pod: Pod }>();
  /** Log files of pods that are over, by `namespace/name/container`: tests ask for them most when it is too late. */
  readonly #oldLogs = new Map<string, string>();
  readonly #folder: string;
  readonly #nextAddress = addresses();
  #server: Awaited<ReturnType<typeof startKubeletServer>> | undefined;
  #following: readonly Promise<void>[] = [];

  constructor(controlPlane: ControlPlane, options: ProcessKubeletOptions) {
    this.#controlPlane = controlPlane;
    this.#folder = mkdtempSync(join(controlPlane.directory, "kubelet-"));
    const logsFolder = join(this.#folder, "logs");
    mkdirSync(logsFolder);
    this.#settings = {
      api: controlPlane.api,
      baseEnvironment: {
        PATH: `${REPOSITORY}/node_modules/.bin:${dirname(process.execPath)}:/usr/local/bin:/usr/bin:/bin`,
        HOME: "/tmp",
        ...NATIVE,
        KUBERNETES_SERVICE_HOST: "127.0.0.1",
        KUBERNETES_SERVICE_PORT: String(controlPlane.port),
        KUBERNETES_SERVICE_PORT_HTTPS: String(controlPlane.port),
      },
      images: options.images ?? {},
      probeScale: options.probeScale ?? 1,
      backOffScale: options.backOffScale ?? 1,
      runFolder: controlPlane.directory,
      logsFolder,
    };
  }

  async start(nodes: readonly NodeOptions[]): Promise<void> {
    const { api, authority } = this.#controlPlane;
    const pair = await authority.issue({ commonName: "process-kubelet", addresses: ["127.0.0.1"] });
    this.#server = await startKubeletServer(authority.certificate, pair, (query) =>
      this.#logFile({ ...query, name: query.pod }, query.previous),
    );
    await Promise.all(nodes.map((node) => this.addNode(node)));
    const { signal } = this.#stopped;
    this.#following = [
      keepLeases(api, () => [...this.#nodes.keys()], signal),
      api.follow<Pod>("/api/v1/pods", (event) => this.#onPod(event), signal),
      provideStorage(api, join(this.#folder, "storage"), signal),
    ];
  }

  async addNode(node: NodeOptions): Promise<void> {
    this.#nodes.set(node.name, "127.0.0.1");
    const at = { address: "127.0.0.1", kubeletPort: this.#server?.port ?? 0 };
    await registerNode(this.#controlPlane.api, node, at);
  }

  podNames(): readonly string[] {
    return [...this.#pods.values()].map(({ pod }) => `${pod.metadata.namespace}/${pod.metadata.name}`);
  }

  logs(pod: PodName, previous = false): string {
    const file = this.#logFile(pod, previous);
    if (file === undefined) throw new Error(`no container ${nameOf(pod)} has run on this kubelet`);
    return readFileSync(file, "utf8");
  }

  kill(pod: PodName, signal: NodeJS.Signals = "SIGKILL"): void {
    const run = this.#find(pod);
    if (run === undefined) throw new Error(`no container ${nameOf(pod)} runs on this kubelet`);
    run.signal(signal);
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    this.#server?.close();
    await Promise.all(this.#following);
    await Promise.all([...this.#pods.values()].map(({ run }) => run.kill()));
  }

  #onPod({ type, object: pod }: ChangeEvent<Pod>): void {
    const uid = pod.metadata.uid ?? "";
    const known = this.#pods.get(uid);
    if (type === "DELETED") {
      if (known !== undefined) void known.run.kill().then(() => this.#forget(uid));
      return;
    }
    if (known !== undefined) {
      known.run.update(pod);
      return;
    }
    const hostIP = this.#nodes.get(pod.spec.nodeName ?? "");
    const over = pod.status?.phase === "Succeeded" || pod.status?.phase === "Failed";
    if (hostIP === undefined || (over && pod.metadata.deletionTimestamp === undefined)) return;
    const podIP = pod.spec.hostNetwork ? hostIP : this.#nextAddress();
    const folder = join(this.#folder, uid);
    const run = new PodRun({ settings: this.#settings, pod, place: { podIP, hostIP }, folder });
    this.#pods.set(uid, { run, pod });
    run.update(pod);
  }

  #forget(uid: string): void {
    const gone = this.#pods.get(uid);
    if (gone === undefined) return;
    const { namespace, name } = gone.pod.metadata;
    for (const container of gone.run.containers) {
      this.#oldLogs.set(`${namespace}/${name}/${container.name}`, container.logFile);
    }
    this.#pods.delete(uid);
  }

  #find({ name, namespace = "default", container }: PodName): ContainerRun | undefined {
    const found = [...this.#pods.values()].find(
      ({ pod }) => pod.metadata.name === name && (pod.metadata.namespace ?? "default") === namespace,
    );
    const wanted = container ?? found?.pod.spec.containers[0]?.name;
    return found?.run.containers.find((run) => run.name === wanted);
  }

  #logFile(pod: PodName, previous: boolean): string | undefined {
    const run = this.#find(pod);
    if (run !== undefined) return previous ? run.logFileOf(run.restartCount - 1) : run.logFile;
    const prefix = `${pod.namespace ?? "default"}/${pod.name}/${pod.container ?? ""}`;
    return [...this.#oldLogs].find(
      ([key]) => key === prefix || (pod.container === undefined && key.startsWith(prefix)),
    )?.[1];
  }
}

function nameOf({ name, namespace = "default", container = "" }: PodName): string {
  return `${namespace}/${name}${container && `/${container}`}`;
}

/**
 * Loopback addresses from 127.64.0.0/10, from a random place on, so that two runs on one machine hardly ever meet.
 * Addresses that end in 0 or 255 are left out.
 */
function addresses(): () => string {
  let next = Math.floor(Math.random() * 2 ** 22);
  return () => {
    do next = (next + 1) % 2 ** 22;
    while (next % 256 === 0 || next % 256 === 255);
    return `127.${64 + (next >> 16)}.${(next >> 8) & 255}.${next & 255}`;
  };
}
