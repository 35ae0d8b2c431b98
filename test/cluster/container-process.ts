/**
 * One run of one container: the command as a local process in namespaces of its own (mounts, processes, host name), on
 * an overlay of this machine's files. No image is pulled: the programs are this machine's.
 *
 * What a container sees as Kubernetes would have it: its volumes at their mount paths, its own writable root or a
 * read-only one, an empty /tmp, its user and groups, its capabilities, itself as process 1. What it does not see: a
 * network of its own (only an address), limits of CPU and memory.
 */
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Child, type Exit, startChild } from "./child.ts";
import type { Container, PodSpec, SecurityContext } from "./kube-types.ts";

const SCRIPT = fileURLToPath(new URL("enter-container.sh", import.meta.url));
export const REPOSITORY = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");

/**
 * The first child of this shell is process 1 of the new namespaces, and the shell's own exit code says how that one
 * ended (`unshare --fork` of Debian 12 loses the signal). What the shell itself has to say is kept out of the log.
 */
const WAIT = 'exec 4>&2 2>/dev/null; (exec "$@" 2>&4 4>&-); exit $?';

/** Who a container is that must not be root and does not say who it is; container images of ours say the same. */
const NON_ROOT_USER = 65532;

/** Emptied in every container: the machine's own are no business of a pod's. */
const HIDDEN = ["/tmp", "/run"];

export interface ContainerMount {
  /** On this machine. */
  readonly source: string;
  readonly mountPath: string;
  readonly readOnly: boolean;
}

export interface ContainerCommand {
  readonly container: Container;
  readonly podSpec: PodSpec;
  readonly hostname: string;
  /** The whole line, references already replaced. */
  readonly line: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  readonly mounts: readonly ContainerMount[];
  /** Where this run's own things go; made here, left for the caller to remove. */
  readonly folder: string;
  /** A folder of child.ts's, for the sweep. */
  readonly runFolder: string;
  readonly logFile: string;
}

export interface ContainerProcess {
  readonly exited: Promise<Exit>;
  /** Resolves when the command has been started, or has ended without. */
  readonly started: Promise<void>;
  signal(name: NodeJS.Signals): void;
  /** Runs a command inside the container, with its environment and as its user. */
  exec(command: readonly string[], timeoutMs: number): Promise<{ readonly exitCode: number; readonly output: string }>;
}

/** Throws where the security context contradicts itself. */
export function startContainerProcess(command: ContainerCommand): ContainerProcess {
  const { container, podSpec, folder, environment } = command;
  const layer = join(folder, "layer");
  mkdirSync(layer, { recursive: true });
  const mountsFile = join(folder, "mounts");
  // The repository last: a checkout that lies in /tmp must show through a volume that a pod mounts there.
  const lines = [...keptLines(), ...volumeLines(command.mounts), ...ownLines()];
  writeFileSync(mountsFile, lines.map((line) => `${line}\n`).join(""));
  const privileges = privilegeArgs(podSpec, container);
  const readOnly = container.securityContext?.readOnlyRootFilesystem ? "yes" : "no";
  const inFolder = [
    "/bin/sh",
    "-c",
    'cd "$0" && unset OLDPWD && exec "$@"',
    container.workingDir || REPOSITORY,
    ...command.line,
  ];
  let onStarted = () => {};
  const commandReached = new Promise<void>((resolve) => {
    onStarted = resolve;
  });
  const child = startChild({
    path: "/usr/bin/unshare",
    args: [
      ...["--mount", "--pid", "--uts", "--ipc", "/bin/sh", "-c", WAIT, "wait"],
      ...["/usr/bin/setpriv", "--pdeathsig", "KILL", "--", "/bin/sh", SCRIPT],
      ...[layer, command.hostname, readOnly, mountsFile, ...privileges, "--", ...inFolder],
    ],
    environment: { HOSTNAME: command.hostname, ...environment },
    logFile: command.logFile,
    folder: command.runFolder,
    onPipeWritten: () => onStarted(),
  });
  return {
    exited: child.exited,
    started: Promise.race([commandReached, child.exited.then(() => undefined)]),
    signal(name) {
      const pid = processOne(child);
      if (pid !== undefined) process.kill(pid, name);
      else if (name === "SIGKILL") child.signal(name);
    },
    exec: (line, timeoutMs) => execInside(child, [...privileges, "--", ...line], environment, timeoutMs),
  };
}

/** The container's process 1 as this machine numbers it; undefined once it is gone. */
function processOne(child: Child): number | undefined {
  if (!child.running) return undefined;
  try {
    const children = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, "utf8").trim();
    return children === "" ? undefined : Number(children.split(" ")[0]);
  } catch {
    return undefined;
  }
}

function execInside(
  child: Child,
  setprivArgs: readonly string[],
  environment: Readonly<Record<string, string>>,
  timeoutMs: number,
): Promise<{ readonly exitCode: number; readonly output: string }> {
  const pid = processOne(child);
  if (pid === undefined) return Promise.resolve({ exitCode: 1, output: "the container does not run" });
  const args = ["--target", String(pid), "--mount", "--pid", "--uts", "--ipc", "--root", "--wd"];
  return new Promise((resolve) => {
    execFile(
      "/usr/bin/nsenter",
      [...args, "--", "/usr/bin/setpriv", ...setprivArgs],
      { env: environment, timeout: timeoutMs, killSignal: "SIGKILL" },
      (error, stdout, stderr) => {
        const exitCode = error === null ? 0 : typeof error.code === "number" ? error.code : 1;
        resolve({ exitCode, output: error?.killed ? `timed out after ${timeoutMs} ms` : stdout + stderr });
      },
    );
  });
}

/** What setpriv must do to make a process the user that the security contexts ask for; the container's goes first. */
function privilegeArgs(podSpec: PodSpec, container: Container): readonly string[] {
  const podContext = podSpec.securityContext ?? {};
  const context: SecurityContext = container.securityContext ?? {};
  const nonRoot = context.runAsNonRoot ?? podContext.runAsNonRoot ?? false;
  const user = context.runAsUser ?? podContext.runAsUser ?? (nonRoot ? NON_ROOT_USER : 0);
  if (nonRoot && user === 0) throw new Error("container has runAsNonRoot and its runAsUser is 0");
  // Without a group to go with it a user named by number gets root's, as it does in a cluster.
  const userIsGiven = (context.runAsUser ?? podContext.runAsUser) !== undefined;
  const group = context.runAsGroup ?? podContext.runAsGroup ?? (userIsGiven ? 0 : user);
  const extraGroups = [podContext.fsGroup ?? [], podContext.supplementalGroups ?? []].flat();
  const { drop = [], add = [] } = context.capabilities ?? {};
  const capabilities = [
    ...drop.map((name) => `-${name.toLowerCase()}`),
    ...add.map((name) => `+${name.toLowerCase()}`),
  ];
  return [
    ...["--reuid", String(user), "--regid", String(group)],
    ...(extraGroups.length === 0 ? ["--clear-groups"] : ["--groups", extraGroups.join(",")]),
    ...(capabilities.length === 0 ? [] : [`--bounding-set=${capabilities.join(",")}`, "--inh-caps=-all"]),
    ...(context.allowPrivilegeEscalation === false ? ["--no-new-privs"] : []),
    // Changing the user clears the signal that was asked for before.
    ...["--pdeathsig", "KILL"],
  ];
}

function volumeLines(mounts: readonly ContainerMount[]): readonly string[] {
  // Outer paths first, so that a mount does not hide one below it.
  return mounts
    .toSorted((one, other) => one.mountPath.length - other.mountPath.length)
    .map(({ source, mountPath, readOnly }) => `${readOnly ? "ro" : "rw"}\t${source}\t${mountPath}`);
}

/** How the machine's own mounts appear in every container. */
const keptLines = (): readonly string[] => machineMounts().map((path) => `keep\t${path}\t${path}`);

/** How the repository and Node appear in every container, wherever on the machine they lie. */
function ownLines(): readonly string[] {
  const kept = machineMounts();
  const needed = [REPOSITORY, dirname(process.execPath)];
  const hidden = needed.filter((path) => HIDDEN.some((folder) => isWithin(path, folder)));
  const passable = new Set(needed.flatMap(ancestors).filter((path) => !kept.some((mount) => isWithin(path, mount))));
  return [
    ...hidden.filter((path) => existsSync(path)).map((path) => `over\t${path}\t${path}`),
    ...[...passable].map((path) => `open\t${path}\t${path}`),
  ];
}

/** Mount points that an overlay of `/` does not include, outermost only. */
function machineMounts(): readonly string[] {
  const paths = readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .map((line) => line.split(" ")[4] ?? "")
    .map((path) => path.replace(/\\(\d{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8))))
    .filter((path) => path.startsWith("/") && path !== "/")
    .filter((path) => ![...HIDDEN, "/proc"].some((folder) => isWithin(path, folder)));
  return [...new Set(paths)].filter((path) => !paths.some((other) => other !== path && isWithin(path, other)));
}

function isWithin(path: string, folder: string): boolean {
  return path === folder || path.startsWith(`${folder}/`);
}

/** The folder itself and those above it, without `/`. */
function ancestors(path: string): readonly string[] {
  return path === "/" ? [] : [...ancestors(dirname(path)), path];
}
