/**
 * Processes and folders of the cluster tests, none of which may outlive them.
 *
 * Three nets: `stop()` in the ordinary case; hooks on exit and on signals when a test run ends early; and for a run
 * that was killed outright, on Linux the kernel's parent-death signal, elsewhere a list of process ids in the folder
 * that the next run sweeps.
 */
import { execFileSync, spawn } from "node:child_process";
import { appendFileSync, closeSync, existsSync, openSync, readFileSync, rmSync } from "node:fs";
import { mkdtemp, readdir } from "node:fs/promises";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { present } from "../../core/assert.ts";

const FOLDER_PREFIX = "tessellate-cluster-";
const PID_LIST = "pids";
const SETPRIV = ["/usr/bin/setpriv", "/bin/setpriv"].find((path) => existsSync(path));

export interface Exit {
  /** As a shell would say it: 128 + the signal's number when a signal ended it. */
  readonly exitCode: number;
}

export interface Child {
  readonly pid: number;
  /** Never rejects: a command that cannot be started exits with 127. */
  readonly exited: Promise<Exit>;
  readonly running: boolean;
  /** Does nothing once the process has ended. */
  signal(name: NodeJS.Signals): void;
  /** SIGTERM, then SIGKILL after `graceMs`; resolves when the process is gone. */
  stop(graceMs: number): Promise<Exit>;
}

export interface Command {
  readonly path: string;
  readonly args: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  /** Receives standard output and standard error, appended. */
  readonly logFile: string;
  /** One of {@link temporaryFolder}'s: where the process id is noted for the sweep. */
  readonly folder: string;
  /** Gives the command a pipe as descriptor 3; called when it writes to it. */
  readonly onPipeWritten?: () => void;
}

const live = new Set<number>();
const folders = new Set<string>();
let hooked = false;

/** Starts a command that ends when this process does, however that comes about. */
export function startChild(command: Command): Child {
  hookExit();
  const log = openSync(command.logFile, "a");
  const line = [command.path, ...command.args];
  const [path, ...args] = SETPRIV === undefined ? line : [SETPRIV, "--pdeathsig", "KILL", "--", ...line];
  const child = spawn(present(path, "a command has a path"), args, {
    env: command.environment,
    cwd: "/",
    stdio: ["ignore", log, log, command.onPipeWritten === undefined ? "ignore" : "pipe"],
  });
  closeSync(log);
  if (command.onPipeWritten !== undefined) child.stdio[3]?.once("data", command.onPipeWritten);
  const pid = child.pid ?? 0;
  let running = pid !== 0;
  if (running) {
    live.add(pid);
    appendFileSync(join(command.folder, PID_LIST), `${pid}\n`);
  }
  const exited = new Promise<Exit>((resolve) => {
    const end = (exitCode: number) => {
      running = false;
      live.delete(pid);
      resolve({ exitCode });
    };
    child.once("error", () => end(127));
    child.once("exit", (code, signal) => end(code ?? 128 + (signal === null ? 0 : constants.signals[signal])));
  });
  const signal = (name: NodeJS.Signals) => {
    if (running) child.kill(name);
  };
  return {
    pid,
    exited,
    get running() {
      return running;
    },
    signal,
    async stop(graceMs) {
      signal("SIGTERM");
      const timer = setTimeout(() => signal("SIGKILL"), graceMs);
      return exited.finally(() => clearTimeout(timer));
    },
  };
}

/** A new folder of mode 0700 that is removed when this process ends, if {@link removeFolder} was not called before. */
export async function temporaryFolder(): Promise<string> {
  hookExit();
  await sweep();
  const folder = await mkdtemp(join(tmpdir(), `${FOLDER_PREFIX}${process.pid}-`));
  folders.add(folder);
  return folder;
}

export function removeFolder(folder: string): void {
  folders.delete(folder);
  rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
}

/** Ends what runs whose process is gone have left behind. */
async function sweep(): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    const owner = new RegExp(`^${FOLDER_PREFIX}(\\d+)-`).exec(name)?.[1];
    if (owner === undefined || isAlive(Number(owner))) continue;
    const folder = join(tmpdir(), name);
    const list = join(folder, PID_LIST);
    const pids = existsSync(list) ? readFileSync(list, "utf8").split("\n").filter(Boolean).map(Number) : [];
    // A process id may have been given to somebody else since; only what names our folder is ours.
    for (const pid of pids) if (isAlive(pid) && commandLine(pid).includes(folder)) process.kill(pid, "SIGKILL");
    await sleep(100);
    rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

function commandLine(pid: number): string {
  try {
    return execFileSync("ps", ["-o", "command=", "-ww", "-p", String(pid)], { encoding: "utf8" });
  } catch {
    return "";
  }
}

function hookExit(): void {
  if (hooked) return;
  hooked = true;
  process.on("exit", () => {
    for (const pid of live) if (isAlive(pid)) process.kill(pid, "SIGKILL");
    for (const folder of folders) removeFolder(folder);
  });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.once(signal, () => process.exit(128 + constants.signals[signal]));
  }
}
