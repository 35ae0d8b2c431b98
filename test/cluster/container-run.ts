/** One container of a pod through all its runs: started, probed, restarted with back-off, and ended for good. */
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { ApiClient } from "./api-client.ts";
import { type ContainerMount, type ContainerProcess, startContainerProcess } from "./container-process.ts";
import { environmentOf, expand, type PodPlace } from "./environment.ts";
import type { Container, ContainerState, ContainerStatus, Pod, Probe, Terminated } from "./kube-types.ts";
import { type Outcome, type ProbeTarget, perform, probeLoop } from "./probes.ts";

const CONFIGURATION_RETRY_MS = 500;
/** A kubelet's: no delay before the first restart, then 10 s, doubling up to 5 minutes. */
const FIRST_BACK_OFF_MS = 10_000;
const LONGEST_BACK_OFF_MS = 300_000;
/** A container that ran this long starts over with the back-off. */
const FORGIVEN_AFTER_MS = 600_000;
/** Of the log's end, in `terminated.message` where the pod asks for it. */
const MESSAGE_BYTES = 2048;

export interface KubeletSettings {
  readonly api: ApiClient;
  /** Every container's environment starts from these. */
  readonly baseEnvironment: Readonly<Record<string, string>>;
  /** What to run for a container without a command, by its image. */
  readonly images: Readonly<Record<string, readonly string[]>>;
  readonly probeScale: number;
  readonly backOffScale: number;
  /** A folder of child.ts's. */
  readonly runFolder: string;
  readonly logsFolder: string;
}

export interface ContainerOptions {
  readonly settings: KubeletSettings;
  readonly pod: Pod;
  readonly container: Container;
  readonly place: PodPlace;
  readonly mounts: readonly ContainerMount[];
  readonly restartPolicy: "Always" | "OnFailure" | "Never";
  /** For this container's runs; removed by the pod. */
  readonly folder: string;
  readonly onChange: () => void;
  readonly onEvent: (type: "Normal" | "Warning", reason: string, message: string) => void;
}

export class ContainerRun {
  readonly #options: ContainerOptions;
  readonly #stopped = new AbortController();
  #process: ContainerProcess | undefined;
  #state: ContainerState = { waiting: { reason: "ContainerCreating" } };
  #lastState: ContainerState = {};
  #restartCount = 0;
  #backOffMs = 0;
  #graceMs = 0;
  #started = false;
  #ready = false;
  #onStarted = () => {};
  /** Resolves when the container has started (its start-up probe included) for the first time. */
  readonly firstStarted = new Promise<void>((resolve) => {
    this.#onStarted = resolve;
  });

  constructor(options: ContainerOptions) {
    this.#options = options;
  }

  get name(): string {
    return this.#options.container.name;
  }

  /** The exit code of the last run, once one has ended. */
  get exitCode(): number | undefined {
    return (this.#state.terminated ?? this.#lastState.terminated)?.exitCode;
  }

  get logFile(): string {
    return this.logFileOf(this.#restartCount);
  }

  get restartCount(): number {
    return this.#restartCount;
  }

  logFileOf(restart: number): string {
    const { pod, settings } = this.#options;
    const { namespace, name, uid } = pod.metadata;
    return join(settings.logsFolder, `${namespace}_${name}_${uid}_${this.name}_${restart}.log`);
  }

  /** Runs until the container will not be started again. */
  async run(): Promise<void> {
    while (!this.#stopped.signal.aborted) {
      const process = await this.#start();
      if (process === undefined) {
        await this.#pause(CONFIGURATION_RETRY_MS);
        continue;
      }
      const ended = await this.#watch(process);
      this.#change({ terminated: ended });
      if (this.#stopped.signal.aborted || !this.#restarts(ended.exitCode)) return;
      await this.#backOff(ended);
    }
    // Deleted while it waited for its next start: what counts is how it ended.
    if (this.#lastState.terminated) this.#change({ terminated: this.#lastState.terminated });
  }

  /** SIGTERM (after the preStop hook), SIGKILL when the grace period is over; {@link run} then resolves. */
  async stop(graceMs: number): Promise<void> {
    this.#graceMs = graceMs;
    this.#stopped.abort();
    await this.#end(graceMs);
  }

  /** Kills the current run, as a crash would; the restart policy decides what comes next. */
  signal(name: NodeJS.Signals): void {
    this.#process?.signal(name);
  }

  status(): ContainerStatus {
    const { container } = this.#options;
    return {
      name: container.name,
      image: container.image,
      imageID: `process://${container.image}`,
      ...(this.#process === undefined && this.#lastState.terminated === undefined
        ? {}
        : { containerID: this.#containerID() }),
      ready: this.#ready,
      started: this.#started,
      restartCount: this.#restartCount,
      state: this.#state,
      lastState: this.#lastState,
    };
  }

  #containerID(): string {
    return `process://${this.#options.pod.metadata.uid}/${this.name}/${this.#restartCount}`;
  }

  /** Undefined where the container cannot be started as things are; its state says why. */
  async #start(): Promise<ContainerProcess | undefined> {
    const { settings, pod, container, place } = this.#options;
    const entry = container.command ?? entryFor(settings.images, container.image);
    if (entry === undefined) {
      const message = `no image is pulled here: give the container a command, or the process-kubelet's "images" an entry`;
      this.#change({ waiting: { reason: "ErrImageNeverPull", message: `${container.image}: ${message}` } });
      return undefined;
    }
    try {
      const environment = await environmentOf(settings.api, pod, container, place, settings.baseEnvironment);
      if (this.#stopped.signal.aborted) return undefined;
      const folder = join(this.#options.folder, String(this.#restartCount));
      mkdirSync(folder, { recursive: true });
      return startContainerProcess({
        container,
        podSpec: pod.spec,
        hostname: pod.metadata.name.slice(0, 63),
        line: [...entry, ...(container.args ?? [])].map((word) => expand(word, environment)),
        environment,
        mounts: this.#options.mounts,
        folder,
        runFolder: settings.runFolder,
        logFile: this.logFile,
      });
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      this.#change({ waiting: { reason: "CreateContainerConfigError", message } });
      return undefined;
    }
  }

  /** From the start of a run to its end. */
  async #watch(process: ContainerProcess): Promise<Terminated> {
    this.#process = process;
    // A stop that came while this run was being prepared has found no process to end.
    if (this.#stopped.signal.aborted) void this.#end(this.#graceMs);
    const startedAt = timestamp();
    await process.started;
    const probes = new AbortController();
    this.#change({ running: { startedAt } });
    this.#options.onEvent("Normal", "Started", `Started container ${this.name}`);
    this.#probe(probes.signal);
    const { exitCode } = await process.exited;
    probes.abort();
    this.#process = undefined;
    this.#started = false;
    this.#ready = false;
    rmSync(join(this.#options.folder, String(this.#restartCount)), { recursive: true, force: true });
    return {
      exitCode,
      reason: exitCode === 0 ? "Completed" : "Error",
      ...this.#message(exitCode),
      startedAt,
      finishedAt: timestamp(),
      containerID: this.#containerID(),
    };
  }

  #message(exitCode: number): { readonly message?: string } {
    if (exitCode === 0 || this.#options.container.terminationMessagePolicy !== "FallbackToLogsOnError") return {};
    return { message: readFileSync(this.logFile).subarray(-MESSAGE_BYTES).toString("utf8") };
  }

  #probe(signal: AbortSignal): void {
    const { container, place, settings, onEvent } = this.#options;
    const target: ProbeTarget = {
      podIP: place.podIP,
      container,
      exec: (command, timeoutMs) =>
        this.#process?.exec(command, timeoutMs) ?? Promise.resolve({ exitCode: 1, output: "not running" }),
    };
    const loop = (kind: string, probe: Probe, limit: AbortSignal, onVerdict: (outcome: Outcome) => void) =>
      void probeLoop({
        probe,
        target,
        scale: settings.probeScale,
        signal: limit,
        onVerdict: (outcome) => {
          if (!outcome.passed) onEvent("Warning", "Unhealthy", `${kind} probe failed: ${outcome.message}`);
          onVerdict(outcome);
        },
      });
    let ending = false;
    const restart = (kind: string, probe: Probe) => {
      if (ending) return;
      ending = true;
      onEvent("Normal", "Killing", `Container ${this.name} failed ${kind} probe, will be restarted`);
      const grace = probe.terminationGracePeriodSeconds ?? this.#options.pod.spec.terminationGracePeriodSeconds ?? 30;
      void this.#end(grace * 1000);
    };
    const afterStart = () => {
      this.#started = true;
      this.#ready = container.readinessProbe === undefined;
      this.#onStarted();
      this.#options.onChange();
      const { readinessProbe, livenessProbe } = container;
      if (readinessProbe) {
        loop("Readiness", readinessProbe, signal, ({ passed }) => {
          if (passed === this.#ready) return;
          this.#ready = passed;
          this.#options.onChange();
        });
      }
      if (livenessProbe) {
        loop("Liveness", livenessProbe, signal, ({ passed }) => !passed && restart("liveness", livenessProbe));
      }
    };
    const { startupProbe } = container;
    if (startupProbe === undefined) {
      afterStart();
      return;
    }
    const startup = new AbortController();
    loop("Startup", startupProbe, AbortSignal.any([signal, startup.signal]), ({ passed }) => {
      startup.abort();
      if (passed) afterStart();
      else restart("startup", startupProbe);
    });
  }

  async #end(graceMs: number): Promise<void> {
    const process = this.#process;
    if (process === undefined) return;
    const { container, place } = this.#options;
    const timer = setTimeout(() => process.signal("SIGKILL"), graceMs);
    try {
      // Before its command runs, process 1 is a shell that heeds no signal.
      await process.started;
      const hook = container.lifecycle?.preStop;
      const target: ProbeTarget = { podIP: place.podIP, container, exec: (...args) => process.exec(...args) };
      if (hook) await Promise.race([perform(hook, target, graceMs), process.exited]);
      process.signal("SIGTERM");
      await process.exited;
    } finally {
      clearTimeout(timer);
    }
  }

  #restarts(exitCode: number): boolean {
    const { restartPolicy } = this.#options;
    return restartPolicy === "Always" || (restartPolicy === "OnFailure" && exitCode !== 0);
  }

  async #backOff(ended: Terminated): Promise<void> {
    if (Date.parse(ended.finishedAt) - Date.parse(ended.startedAt) > FORGIVEN_AFTER_MS) this.#backOffMs = 0;
    const pauseMs = this.#backOffMs * this.#options.settings.backOffScale;
    this.#backOffMs = Math.min(this.#backOffMs === 0 ? FIRST_BACK_OFF_MS : this.#backOffMs * 2, LONGEST_BACK_OFF_MS);
    this.#lastState = { terminated: ended };
    if (pauseMs > 0) {
      const message = `back-off ${pauseMs / 1000}s restarting failed container ${this.name}`;
      this.#change({ waiting: { reason: "CrashLoopBackOff", message } });
      this.#options.onEvent("Warning", "BackOff", message);
      await this.#pause(pauseMs);
    }
    if (!this.#stopped.signal.aborted) this.#restartCount += 1;
  }

  #pause(ms: number): Promise<void> {
    return sleep(ms, undefined, { signal: this.#stopped.signal }).catch(() => undefined);
  }

  #change(state: ContainerState): void {
    this.#state = state;
    this.#options.onChange();
  }
}

function entryFor(images: KubeletSettings["images"], image: string): readonly string[] | undefined {
  return images[image] ?? images[image.replace(/(@sha256:.*|:[^/:]*)$/, "")];
}

/** To the second, as Kubernetes writes times. */
export function timestamp(): string {
  return new Date().toISOString().replace(/\.\d+Z$/, "Z");
}
