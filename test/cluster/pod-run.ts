/** One pod on this kubelet: volumes, init containers, containers, status, and its end. */
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { ApiError } from "./api-client.ts";
import { ContainerRun, type KubeletSettings, timestamp } from "./container-run.ts";
import type { ContainerMount } from "./container-process.ts";
import type { PodPlace } from "./environment.ts";
import type { Container, Pod, PodStatus } from "./kube-types.ts";
import { podStatus } from "./pod-status.ts";
import { type MountedVolume, mountVolume, type VolumeHost } from "./volumes.ts";

const RETRY_MS = 500;
const DEFAULT_GRACE_SECONDS = 30;
/** How often a kubelet looks whether a Secret or ConfigMap has changed; scaled like the probes. */
const REFRESH_MS = 60_000;

export interface PodRunOptions {
  readonly settings: KubeletSettings;
  readonly pod: Pod;
  readonly place: PodPlace;
  /** The pod's own folder; made here and removed when the pod is over. */
  readonly folder: string;
}

export class PodRun {
  readonly #options: PodRunOptions;
  readonly #startTime = timestamp();
  readonly #gone = new AbortController();
  readonly #volumes = new Map<string, MountedVolume>();
  #pod: Pod;
  #initRuns: readonly ContainerRun[] = [];
  #runs: readonly ContainerRun[] = [];
  #prepared = false;
  #initialized: boolean;
  #outcome: "Succeeded" | "Failed" | undefined;
  #reported: PodStatus | undefined;
  #reporting: Promise<void> | undefined;
  #dirty = false;
  readonly #life: Promise<void>;
  #ending: Promise<void> | undefined;

  constructor(options: PodRunOptions) {
    this.#options = options;
    this.#pod = options.pod;
    this.#initialized = (options.pod.spec.initContainers ?? []).length === 0;
    mkdirSync(this.#volumeFolder, { recursive: true });
    this.#life = this.#live();
  }

  get place(): PodPlace {
    return this.#options.place;
  }

  /** Every container that this pod has or had, init containers first. */
  get containers(): readonly ContainerRun[] {
    return [...this.#initRuns, ...this.#runs];
  }

  /** A new look at the object: all that can change for us is that somebody wants it deleted, or a readiness gate. */
  update(pod: Pod): void {
    this.#pod = pod;
    if (pod.metadata.deletionTimestamp !== undefined) {
      void this.end(pod.metadata.deletionGracePeriodSeconds ?? DEFAULT_GRACE_SECONDS);
    } else if (pod.spec.readinessGates) this.#report();
  }

  /** Ends the containers, reports how they ended, and deletes the object. */
  end(graceSeconds: number): Promise<void> {
    this.#ending ??= this.#end(graceSeconds).then(() => this.#deleteObject());
    return this.#ending;
  }

  /** The object is gone already, or this kubelet stops: no grace, no report. */
  async kill(): Promise<void> {
    this.#gone.abort();
    await this.#end(0);
  }

  get #volumeFolder(): string {
    return join(this.#options.folder, "volumes");
  }

  async #live(): Promise<void> {
    const { spec } = this.#pod;
    this.#initRuns = (spec.initContainers ?? []).map((container) =>
      this.#containerRun(
        container,
        container.restartPolicy ?? (spec.restartPolicy === "Never" ? "Never" : "OnFailure"),
      ),
    );
    this.#runs = spec.containers.map((container) => this.#containerRun(container, spec.restartPolicy ?? "Always"));
    this.#report();
    await this.#mountVolumes();
    this.#prepared = true;
    this.#report();
    const sidecars: Promise<void>[] = [];
    for (const [index, run] of this.#initRuns.entries()) {
      if (this.#isOver) break;
      if (spec.initContainers?.[index]?.restartPolicy === "Always") {
        const sidecar = run.run();
        sidecars.push(sidecar);
        await Promise.race([run.firstStarted, sidecar]);
      } else {
        await run.run();
        if (run.exitCode !== 0 && !this.#isOver) return this.#finish("Failed");
      }
    }
    if (!this.#isOver) {
      this.#initialized = true;
      await Promise.all(this.#runs.map((run) => run.run()));
      // Sidecars live as long as the containers that they serve.
      for (const run of this.#initRuns) void run.stop(this.#graceMs);
    }
    await Promise.all(sidecars);
    this.#finish(this.#runs.every(({ exitCode }) => exitCode === 0) ? "Succeeded" : "Failed");
  }

  get #isOver(): boolean {
    return this.#ending !== undefined || this.#gone.signal.aborted;
  }

  get #graceMs(): number {
    return (this.#pod.spec.terminationGracePeriodSeconds ?? DEFAULT_GRACE_SECONDS) * 1000;
  }

  #finish(outcome: "Succeeded" | "Failed"): void {
    this.#outcome = outcome;
    this.#report();
  }

  #containerRun(container: Container, restartPolicy: "Always" | "OnFailure" | "Never"): ContainerRun {
    const { settings, place, folder } = this.#options;
    const mountsNow = () => this.#mountsOf(container);
    return new ContainerRun({
      settings,
      pod: this.#pod,
      container,
      place,
      restartPolicy,
      folder: join(folder, "containers", container.name),
      // Read at each start: the volumes come after the runs are made.
      get mounts() {
        return mountsNow();
      },
      onChange: () => this.#report(),
      onEvent: (type, reason, message) => this.#event(type, reason, message),
    });
  }

  #mountsOf(container: Container): readonly ContainerMount[] {
    return (container.volumeMounts ?? []).flatMap(({ name, mountPath, readOnly, subPath }) => {
      const volume = this.#volumes.get(name);
      if (volume === undefined) return [];
      const source = subPath ? join(volume.path, subPath) : volume.path;
      if (subPath && !volume.readOnly) mkdirSync(source, { recursive: true });
      return [{ source, mountPath, readOnly: volume.readOnly || (readOnly ?? false) }];
    });
  }

  async #mountVolumes(): Promise<void> {
    const host: VolumeHost = {
      api: this.#options.settings.api,
      pod: this.#pod,
      place: this.place,
      folder: this.#volumeFolder,
    };
    let lastMessage = "";
    while (!this.#isOver) {
      try {
        for (const volume of this.#pod.spec.volumes ?? []) {
          this.#volumes.set(volume.name, await mountVolume(host, volume));
        }
        void this.#refreshVolumes(host);
        return;
      } catch (error) {
        const message = error instanceof Error ? error.message : String(error);
        if (message !== lastMessage) this.#event("Warning", "FailedMount", message);
        lastMessage = message;
        await this.#pause(RETRY_MS);
      }
    }
  }

  /** Files from Secrets and ConfigMaps follow their objects; tokens outlive any test, so they are left alone. */
  async #refreshVolumes(host: VolumeHost): Promise<void> {
    const volumes = (this.#pod.spec.volumes ?? []).filter(
      ({ secret, configMap, projected }) =>
        secret || configMap || projected?.sources?.every((source) => source.serviceAccountToken === undefined),
    );
    if (volumes.length === 0) return;
    for (;;) {
      await this.#pause(REFRESH_MS * this.#options.settings.probeScale);
      if (this.#isOver || this.#outcome !== undefined) return;
      // A kubelet too keeps what it has while an object is missing or the API server is away.
      for (const volume of volumes) await mountVolume(host, volume).catch(() => undefined);
    }
  }

  #pause(ms: number): Promise<void> {
    return sleep(ms, undefined, { signal: this.#gone.signal }).catch(() => undefined);
  }

  async #end(graceSeconds: number): Promise<void> {
    const graceMs = graceSeconds * 1000;
    await Promise.all(this.#runs.map((run) => run.stop(graceMs)));
    await Promise.all(this.#initRuns.map((run) => run.stop(graceMs)));
    await this.#life;
    rmSync(this.#options.folder, { recursive: true, force: true });
  }

  async #deleteObject(): Promise<void> {
    while (!this.#gone.signal.aborted) {
      await this.#reporting;
      try {
        await this.#options.settings.api.request("DELETE", this.#path, {
          gracePeriodSeconds: 0,
          preconditions: { uid: this.#pod.metadata.uid },
        });
        return;
      } catch (error) {
        if (error instanceof ApiError && (error.status === 404 || error.status === 409)) return;
        await this.#pause(RETRY_MS);
      }
    }
  }

  get #path(): string {
    const { namespace, name } = this.#pod.metadata;
    return `/api/v1/namespaces/${namespace}/pods/${name}`;
  }

  #report(): void {
    this.#dirty = true;
    this.#reporting ??= this.#reportAll().finally(() => {
      this.#reporting = undefined;
    });
  }

  /** One write at a time, and none that says what the last one said. */
  async #reportAll(): Promise<void> {
    while (this.#dirty && !this.#gone.signal.aborted) {
      this.#dirty = false;
      const status = podStatus(
        {
          pod: this.#pod,
          ...this.place,
          startTime: this.#startTime,
          prepared: this.#prepared,
          initialized: this.#initialized,
          initContainers: this.#initRuns.map((run) => run.status()),
          containers: this.#runs.map((run) => run.status()),
          outcome: this.#outcome,
        },
        this.#reported,
        timestamp(),
      );
      if (JSON.stringify(status) === JSON.stringify(this.#reported)) continue;
      const patch = { metadata: { uid: this.#pod.metadata.uid }, status };
      try {
        const type = "application/strategic-merge-patch+json";
        await this.#options.settings.api.request("PATCH", `${this.#path}/status`, patch, type);
        this.#reported = status;
      } catch (error) {
        // Deleted, or replaced by another pod of the same name: there is nobody left to report about.
        if (error instanceof ApiError && (error.status === 404 || error.status === 409)) return;
        this.#dirty = true;
        await this.#pause(RETRY_MS);
      }
    }
  }

  #event(type: "Normal" | "Warning", reason: string, message: string): void {
    const { namespace, name, uid } = this.#pod.metadata;
    const now = timestamp();
    void this.#options.settings.api
      .request("POST", `/api/v1/namespaces/${namespace}/events`, {
        metadata: { generateName: `${name.slice(0, 200)}.` },
        involvedObject: { apiVersion: "v1", kind: "Pod", namespace, name, uid },
        type,
        reason,
        message: message.slice(0, 1000),
        source: { component: "process-kubelet", host: this.#pod.spec.nodeName },
        firstTimestamp: now,
        lastTimestamp: now,
        count: 1,
      })
      // Events are for people; a namespace that is being deleted takes none.
      .catch(() => undefined);
  }
}
