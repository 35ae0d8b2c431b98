/**
 * The providers' side of the demo: on each of their machines a node agent (`tessellate node`), which holds the
 * provider's key and signs over a unix socket.
 */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isJsonObject, parseJson } from "../../core/json.ts";
import { type Child, startChild } from "../cluster/child.ts";
import { REPOSITORY } from "../cluster/container-process.ts";
import type { ControlPlane } from "../cluster/control-plane.ts";
import { until } from "../until.ts";

/** Node name by provider name, as in examples/demo/nodes.yaml. */
export type Machines = Readonly<Record<string, readonly string[]>>;

export type Providers = {
  /** SPKI in base64, by provider. */
  readonly publicKeys: ReadonlyMap<string, string>;
  /** What `spec.signer.target` of a ShardNode must be here. */
  target(node: string): string;
  /** Sets up one more machine; resolves when its agent listens. */
  add(provider: string, node: string): Promise<void>;
  pids(): readonly number[];
  stop(): Promise<void>;
};

/** Resolves when every agent listens. The control plane's stop ends them too. */
export async function startProviders(controlPlane: ControlPlane, machines: Machines): Promise<Providers> {
  // Not in the control plane's folder, which only root may pass through; and short, since a socket's path has 107 bytes.
  const folder = mkdtempSync(join(tmpdir(), "tessellate-e2e-"));
  chmodSync(folder, 0o711);
  const keyFolder = join(folder, "keys");
  mkdirSync(keyFolder, { mode: 0o700 });
  const children: Child[] = [];
  const publicKeys = new Map<string, string>();
  const socketOf = (node: string) => join(folder, node, "signer.sock");

  const add = async (provider: string, node: string) => {
    const logFile = join(folder, `${node}.log`);
    const key = join(keyFolder, `${provider}.pem`);
    const options = ["--provider", provider, "--node", node, "--key", key, "--socket", socketOf(node)];
    const child = startChild({
      path: process.execPath,
      args: [join(REPOSITORY, "cli/main.ts"), "node", ...options],
      environment: { PATH: "/usr/bin:/bin", HOME: folder },
      logFile,
      folder: controlPlane.directory,
    });
    children.push(child);
    const line = await firstLine(child, logFile, `the node agent of ${node}`);
    const said = parseJson(line);
    const publicKey = isJsonObject(said) ? said["publicKey"] : undefined;
    if (typeof publicKey !== "string") throw new Error(`the node agent of ${node} says ${line}`);
    publicKeys.set(provider, publicKey);
  };
  const stop = async () => {
    await Promise.all(children.splice(0).map((child) => child.stop(5_000)));
    rmSync(folder, { recursive: true, force: true });
  };
  controlPlane.onStop(stop);
  // A provider's machines one after the other: the first makes the provider's key.
  await Promise.all(
    Object.entries(machines).map(async ([provider, nodes]) => {
      for (const node of nodes) await add(provider, node);
    }),
  );
  return {
    publicKeys,
    target: (node) => `unix:${socketOf(node)}`,
    add,
    pids: () => children.map(({ pid }) => pid),
    stop,
  };
}

async function firstLine(child: Child, logFile: string, who: string): Promise<string> {
  const read = () => readFileSync(logFile, "utf8");
  await until(`${who} to listen`, () => {
    if (!child.running) return true;
    return read().includes("\n");
  });
  if (!child.running) throw new Error(`${who} ended: ${read()}`);
  return read().split("\n")[0] ?? "";
}
