/**
 * The real Kubernetes for tests, control plane and nodes: built once from the pinned go.mod files beside this file.
 *
 * Why from source: the project reaches npm and the Go module proxy and nothing else, and a fake API server has fooled
 * others. On two cores a cold build takes about nine minutes, so the results are kept outside the tree, in a folder
 * named by a digest of everything that decides their bytes; a bump of one module leaves the others' results alone.
 *
 * `node tools/kube/build.ts` builds what is missing of the control plane, with `--nodes` what nodes need as well, and
 * prints the paths as JSON.
 */
import { execFile, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { access, constants as fsConstants, mkdir, readFile, readdir, rename, rm } from "node:fs/promises";
import { homedir, constants as osConstants } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { type GoToolchain, goToolchain } from "./go-toolchain.ts";
import { withLock } from "./lock.ts";

/** Absolute paths of executables. */
export interface KubeBinaries {
  readonly etcd: string;
  readonly apiserver: string;
  readonly controllerManager: string;
  readonly scheduler: string;
  readonly kubectl: string;
  readonly helm: string;
}

/** What runs on nodes, besides what comes from Debian. */
export interface NodeBinaries {
  readonly kubelet: string;
  readonly kubeProxy: string;
  /** Static, like all of them: an image of it needs nothing else. */
  readonly coredns: string;
  readonly pause: string;
  readonly echo: string;
}

type Name = keyof KubeBinaries | keyof NodeBinaries;
type Report = (line: string) => void;

interface Source {
  /** The folder beside this file that holds go.mod and go.sum. */
  readonly module: string;
  readonly fileName: string;
  readonly goPackage: string;
  /** Go variables set by the linker. */
  readonly variables: Readonly<Record<string, string>>;
}

const KUBERNETES = {
  module: "kubernetes",
  variables: {
    "k8s.io/component-base/version.gitVersion": "v1.36.3",
    "k8s.io/component-base/version.gitMajor": "1",
    "k8s.io/component-base/version.gitMinor": "36",
  },
};

/** In the order in which they are built: what is needed first comes first. */
const SOURCES: Readonly<Record<Name, Source>> = {
  etcd: { module: "etcd", fileName: "etcd", goPackage: "go.etcd.io/etcd/server/v3", variables: {} },
  apiserver: { ...KUBERNETES, fileName: "kube-apiserver", goPackage: "k8s.io/kubernetes/cmd/kube-apiserver" },
  controllerManager: {
    ...KUBERNETES,
    fileName: "kube-controller-manager",
    goPackage: "k8s.io/kubernetes/cmd/kube-controller-manager",
  },
  scheduler: { ...KUBERNETES, fileName: "kube-scheduler", goPackage: "k8s.io/kubernetes/cmd/kube-scheduler" },
  kubectl: { ...KUBERNETES, fileName: "kubectl", goPackage: "k8s.io/kubernetes/cmd/kubectl" },
  helm: {
    module: "helm",
    fileName: "helm",
    goPackage: "helm.sh/helm/v3/cmd/helm",
    variables: { "helm.sh/helm/v3/internal/version.version": "v3.22.0" },
  },
  kubelet: { ...KUBERNETES, fileName: "kubelet", goPackage: "k8s.io/kubernetes/cmd/kubelet" },
  kubeProxy: { ...KUBERNETES, fileName: "kube-proxy", goPackage: "k8s.io/kubernetes/cmd/kube-proxy" },
  coredns: { module: "coredns", fileName: "coredns", goPackage: ".", variables: {} },
  pause: { module: "pause", fileName: "pause", goPackage: ".", variables: {} },
  echo: { module: "echo", fileName: "echo", goPackage: ".", variables: {} },
};

const CONTROL_PLANE = ["etcd", "apiserver", "controllerManager", "scheduler", "kubectl", "helm"] as const;
const ON_NODES = ["kubelet", "kubeProxy", "coredns", "pause", "echo"] as const;
const HERE = dirname(fileURLToPath(import.meta.url));
const HEARTBEAT_MS = 15_000;

/**
 * Paths of the control plane's executables; those that are missing are built first, which `report` hears about line by line.
 * A binary of the right name in `KUBEBUILDER_ASSETS` is used as it is; the rest come from `TESSELLATE_CACHE`
 * (default `~/.cache/tessellate`). Throws, naming the binary and the end of Go's output, when a build fails.
 */
export function kubeBinaries(report: Report = reportToStderr): Promise<KubeBinaries> {
  return binaries(CONTROL_PLANE, report);
}

/** The same for what runs on real nodes. */
export function nodeBinaries(report: Report = reportToStderr): Promise<NodeBinaries> {
  return binaries(ON_NODES, report);
}

async function binaries<N extends Name>(names: readonly N[], report: Report): Promise<Record<N, string>> {
  const paths = await locate(names);
  if ((await missing(names, paths)).length > 0) {
    await mkdir(cacheFolder(), { recursive: true });
    await withLock(join(cacheFolder(), "lock"), report, async () => {
      const toBuild = await missing(names, paths);
      if (toBuild.length === 0) return;
      report(`building ${toBuild.length} of ${names.length} Kubernetes binaries, once (minutes when cold)`);
      const go = await goToolchain(report);
      for (const [index, name] of toBuild.entries()) {
        const label = `${SOURCES[name].fileName} (${index + 1} of ${toBuild.length})`;
        await build(go, SOURCES[name], paths[name], (line) => report(`${label}: ${line}`));
      }
    });
  }
  return paths;
}

async function locate<N extends Name>(names: readonly N[]): Promise<Record<N, string>> {
  const entries = names.map(async (name) => [name, await locateOne(SOURCES[name])] as const);
  return Object.fromEntries(await Promise.all(entries)) as Record<N, string>;
}

async function locateOne(source: Source): Promise<string> {
  const assets = process.env["KUBEBUILDER_ASSETS"];
  const given = assets ? join(assets, source.fileName) : undefined;
  if (given !== undefined && (await isExecutable(given))) return given;
  const digest = createHash("sha256").update(JSON.stringify([source.variables, process.platform, process.arch]));
  for (const file of await inputsOf(source.module)) digest.update(await readFile(join(HERE, source.module, file)));
  return join(cacheFolder(), `${source.module}-${digest.digest("hex").slice(0, 16)}`, source.fileName);
}

/** What decides the bytes that come of a module: its pins, and its own program where it has one. */
async function inputsOf(module: string): Promise<readonly string[]> {
  const program = (await readdir(join(HERE, module))).filter((name) => name.endsWith(".go") && name !== "tools.go");
  return ["go.mod", "go.sum", ...program.sort()];
}

function cacheFolder(): string {
  return join(process.env["TESSELLATE_CACHE"] || join(homedir(), ".cache", "tessellate"), "kube");
}

async function missing<N extends Name>(names: readonly N[], paths: Record<N, string>): Promise<readonly N[]> {
  const present = await Promise.all(names.map((name) => isExecutable(paths[name])));
  return names.filter((_, index) => !present[index]);
}

async function isExecutable(path: string): Promise<boolean> {
  return access(path, fsConstants.X_OK).then(
    () => true,
    () => false,
  );
}

/** Builds under a temporary name and renames, so that an interrupted build never leaves half a binary behind. */
async function build(go: GoToolchain, source: Source, target: string, report: Report): Promise<void> {
  const startedMs = performance.now();
  const seconds = () => `${Math.round((performance.now() - startedMs) / 1000)} s`;
  const unfinished = `${target}.${process.pid}.unfinished`;
  const linkerFlags = Object.entries(source.variables).map(([name, value]) => `-X ${name}=${value}`);
  const flags = ["-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags", ["-s -w", ...linkerFlags].join(" ")];
  report("building");
  const heartbeat = setInterval(() => report(`still building, ${seconds()}`), HEARTBEAT_MS);
  try {
    await mkdir(dirname(target), { recursive: true });
    await runGo(go, ["build", ...flags, "-o", unfinished, source.goPackage], join(HERE, source.module));
    await promisify(execFile)(unfinished, ["--help"], { maxBuffer: 2 ** 24 });
    await rename(unfinished, target);
  } catch (cause) {
    throw new Error(`${source.fileName} could not be built: ${cause instanceof Error ? cause.message : cause}`, {
      cause,
    });
  } finally {
    clearInterval(heartbeat);
    await rm(unfinished, { force: true });
  }
  report(`built in ${seconds()}`);
}

/** Ends with this process: a build that nobody waits for would keep both cores busy for minutes. */
async function runGo(go: GoToolchain, args: readonly string[], folder: string): Promise<void> {
  const child = spawn(go.path, args, {
    cwd: folder,
    env: { ...process.env, ...go.environment },
    stdio: ["ignore", "ignore", "pipe"],
    detached: true,
  });
  const endGroup = () => {
    if (child.pid !== undefined && child.exitCode === null) process.kill(-child.pid, "SIGKILL");
  };
  const onInterrupt = (signal: NodeJS.Signals) => {
    endGroup();
    process.exit(128 + osConstants.signals[signal]);
  };
  process.on("exit", endGroup).on("SIGINT", onInterrupt).on("SIGTERM", onInterrupt);
  let lastLines = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    lastLines = (lastLines + text).slice(-4000);
  });
  try {
    const exitCode = await new Promise((resolve, reject) => child.once("error", reject).once("close", resolve));
    if (exitCode !== 0)
      throw new Error(`${go.path} ${args.join(" ")} (in ${folder}) ended with ${exitCode}:\n${lastLines}`);
  } finally {
    process.off("exit", endGroup).off("SIGINT", onInterrupt).off("SIGTERM", onInterrupt);
  }
}

function reportToStderr(line: string): void {
  process.stderr.write(`kube: ${line}\n`);
}

if (import.meta.main) {
  const all = { ...(await kubeBinaries()), ...(process.argv.includes("--nodes") ? await nodeBinaries() : {}) };
  console.log(JSON.stringify(all, undefined, 2));
}
