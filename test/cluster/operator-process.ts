/** The operator as it is deployed: a process of its own, with what it costs. Linux only. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { startChild } from "./child.ts";
import type { ControlPlane } from "./control-plane.ts";
import type { OperatorAccount } from "./operator-account.ts";
import { cpuSecondsIn } from "./part-cpu.ts";

export type OperatorProcess = {
  readonly pid: number;
  /** Of user and system together, since its start. */
  cpuSeconds(): number;
  /** What /metrics answers. */
  scrape(): Promise<string>;
  /** Ends it in good order; throws where it did not end so. */
  stop(): Promise<void>;
};

const MAIN = fileURLToPath(new URL("../../operator/main.ts", import.meta.url));
const PATIENCE_MS = 60_000;
const STOP_GRACE_MS = 20_000;

export type OperatorProcessOptions = {
  /** As whom, and with whose rights, fenced; left out: as cluster-admin, whose writes nothing denies. */
  readonly account?: OperatorAccount;
  readonly args?: readonly string[];
  /** Node's own, such as `--cpu-prof`. */
  readonly nodeArgs?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
};

/** Resolves once it leads. */
export async function startOperatorProcess(
  cluster: ControlPlane,
  identity: string,
  { account, args = [], nodeArgs = [], environment = {} }: OperatorProcessOptions = {},
): Promise<OperatorProcess> {
  const logFile = join(cluster.directory, `operator-${identity}.log`);
  const options = ["--namespace", "tessellate", "--identity", identity, "--image", "tessellate:test"];
  const fence = account === undefined ? [] : ["--fence-as", account.user];
  const doors = ["--metrics", "127.0.0.1:0", "--kubeconfig", account?.kubeconfig ?? cluster.kubeconfig, ...fence];
  const child = startChild({
    path: process.execPath,
    args: [...nodeArgs, MAIN, ...options, ...doors, ...args],
    environment: { HOME: cluster.directory, PATH: "/usr/bin:/bin", ...environment },
    logFile,
    folder: cluster.directory,
  });
  const said = (event: string): Readonly<Record<string, string>> | undefined => {
    const line = readFileSync(logFile, "utf8")
      .split("\n")
      .find((each) => each.includes(`"event":"${event}"`));
    return line === undefined ? undefined : (JSON.parse(line) as Readonly<Record<string, string>>);
  };
  const startedMs = performance.now();
  while (said("leads") === undefined) {
    if (!child.running || performance.now() - startedMs > PATIENCE_MS)
      throw new Error(`the operator does not lead; its log ends with:\n${readFileSync(logFile, "utf8").slice(-2000)}`);
    await sleep(20);
  }
  const address = said("listening")?.["metricsAddress"] ?? "";
  return {
    pid: child.pid,
    cpuSeconds: () => cpuSecondsOf(child.pid),
    scrape: async () => (await fetch(`http://${address}/metrics`)).text(),
    async stop() {
      const { exitCode } = await child.stop(STOP_GRACE_MS);
      if (exitCode === 0) return;
      throw new Error(`the operator ended with ${exitCode}:\n${readFileSync(logFile, "utf8").slice(-2000)}`);
    },
  };
}

const cpuSecondsOf = (pid: number): number => cpuSecondsIn(readFileSync(`/proc/${pid}/stat`, "utf8"));
