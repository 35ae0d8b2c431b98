/** The demo's node agents, each on its node: the provider's key and the socket at which the node's ranks get signatures. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { isJsonObject, parseJson } from "../../core/json.ts";
import { REPOSITORY } from "../cluster/container-process.ts";
import { until } from "../until.ts";
import type { RealCluster } from "./real-cluster.ts";

export type Machine = {
  readonly provider: string;
  /** The ShardNode's name. */
  readonly shardNode: string;
  /** The Kubernetes Node's. */
  readonly node: string;
};

/** As in examples/demo/nodes.yaml; its fourth machine shares a node with the third. */
export const MACHINES: readonly Machine[] = [
  { provider: "campus", shardNode: "campus-a1", node: "campus-a1" },
  { provider: "garage", shardNode: "garage-3", node: "garage-3" },
  { provider: "studio", shardNode: "studio-x1", node: "studio-x1" },
  { provider: "studio", shardNode: "studio-x2", node: "studio-x1" },
];

/** Resolves, when every agent listens, with the providers' public keys (SPKI in base64). They end with the cluster. */
export async function startAgents({ sandbox, nodes }: RealCluster): Promise<ReadonlyMap<string, string>> {
  const keys = join(sandbox.folder, "keys");
  mkdirSync(keys, { mode: 0o700 });
  const publicKeys = new Map<string, string>();
  // One after the other: a provider's first agent makes the provider's key.
  for (const { provider, shardNode, node } of MACHINES) {
    const log = `${shardNode}-agent`;
    const namespace = nodes.find(({ name }) => name === node)?.namespace;
    const key = join(keys, `${provider}.pem`);
    const socket = `/run/tessellate/${shardNode}/signer.sock`;
    const options = ["--provider", provider, "--node", shardNode, "--key", key, "--socket", socket];
    const line = [process.execPath, join(REPOSITORY, "cli/main.ts"), "node", ...options];
    const agent = sandbox.start(log, line, namespace);
    await until(`the node agent of ${shardNode} to listen`, () => {
      if (!agent.running) throw new Error(`the node agent of ${shardNode} ended: ${sandbox.logOf(log)}`);
      return sandbox.logOf(log).includes("\n");
    });
    const said = parseJson(sandbox.logOf(log).split("\n")[0] ?? "");
    const publicKey = isJsonObject(said) ? said["publicKey"] : undefined;
    if (typeof publicKey !== "string") throw new Error(`the node agent of ${shardNode} says ${sandbox.logOf(log)}`);
    publicKeys.set(provider, publicKey);
  }
  return publicKeys;
}
