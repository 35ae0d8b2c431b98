/**
 * Local mode's processes: each in its own log file, each ready when it has printed its `listening` line, none left
 * behind. A child whose supervisor dies without a word notices the closed pipe on its stdin and goes too.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { createWriteStream } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

export type ProcessSpec = {
  readonly name: string;
  readonly arguments: readonly string[]; // of node
  readonly logFile: string;
  readonly environment?: Readonly<Record<string, string>>;
};

/** What a process of ours prints first: its doors, by name, each `host:port`. */
export type Listening = Readonly<Record<string, string>>;

export type RunningProcess = {
  readonly name: string;
  readonly pid: number;
  readonly logFile: string;
  /** Resolves with the doors; rejects with the last lines of the log where the process ends before. */
  readonly listening: Promise<Listening>;
  /** Resolves when it has ended, whatever the reason: `exit 1`, `SIGKILL`. */
  readonly ended: Promise<string>;
  /** SIGTERM, then SIGKILL after `graceMs`; resolves when it has ended. Idempotent. */
  stop(graceMs?: number): Promise<void>;
  kill(signal: NodeJS.Signals): void;
};

const TAIL_LINE_COUNT = 12;
/** Node keeps compiled sources here between runs: a dozen processes that start at once need not compile the same files. */
const COMPILE_CACHE = fileURLToPath(new URL("../../node_modules/.cache/tessellate", import.meta.url));

/** Starts `node <arguments>` with the Node that runs this. Never throws; a failure to start rejects `listening`. */
export function startProcess(spec: ProcessSpec): RunningProcess {
  const child = spawn(process.execPath, [...spec.arguments], {
    stdio: ["pipe", "pipe", "pipe"],
    env: { ...process.env, NODE_COMPILE_CACHE: COMPILE_CACHE, ...spec.environment, TESSELLATE_EXIT_WITH_STDIN: "1" },
  });
  const log = createWriteStream(spec.logFile, { flags: "a" });
  const tail: string[] = [];
  const keep = (line: string) => {
    log.write(`${line}\n`);
    tail.push(line);
    if (tail.length > TAIL_LINE_COUNT) tail.shift();
  };
  child.stdin?.on("error", () => {});
  const ended = new Promise<string>((resolve) => {
    child.once("error", (error) => resolve(error.message));
    child.once("close", (code, signal) => {
      log.end();
      resolve(signal ?? `exit ${code}`);
    });
  });
  const listening = listeningLine(child, keep, () => tail, ended, spec.name);
  listening.catch(() => {});
  return {
    name: spec.name,
    pid: child.pid ?? -1,
    logFile: spec.logFile,
    listening,
    ended,
    stop: async (graceMs = 12_000) => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill("SIGTERM");
      const timer = setTimeout(() => child.kill("SIGKILL"), graceMs);
      await ended;
      clearTimeout(timer);
    },
    kill: (signal) => {
      child.kill(signal);
    },
  };
}

function listeningLine(
  child: ChildProcess,
  keep: (line: string) => void,
  tail: () => readonly string[],
  ended: Promise<string>,
  name: string,
): Promise<Listening> {
  return new Promise((resolve, reject) => {
    if (child.stderr !== null) createInterface({ input: child.stderr }).on("line", keep);
    if (child.stdout !== null) {
      createInterface({ input: child.stdout }).on("line", (line) => {
        keep(line);
        const doors = parseListening(line);
        if (doors !== undefined) resolve(doors);
      });
    }
    void ended.then((how) => reject(new Error(`${name} ended before it listened (${how})\n${tail().join("\n")}`)));
  });
}

/** `{"event":"listening","address":"127.0.0.1:7070",…}`; anything else a process prints is log. */
function parseListening(line: string): Listening | undefined {
  if (!line.startsWith("{")) return undefined;
  try {
    const value: unknown = JSON.parse(line);
    if (typeof value !== "object" || value === null || !("event" in value) || value.event !== "listening")
      return undefined;
    return Object.fromEntries(
      Object.entries(value).filter((entry): entry is [string, string] => typeof entry[1] === "string"),
    );
  } catch {
    return undefined;
  }
}
