/** The demo's providers on real nodes: a key each, and the values that have the chart run their node agents. */
import { generateKeyPairSync } from "node:crypto";
import { parseSigningKey } from "../../core/keys.ts";
import { valueOrThrow } from "../../core/result.ts";
import { HOUSE_NAMESPACE } from "../e2e/house.ts";
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
export const PROVIDERS = [...new Set(MACHINES.map(({ provider }) => provider))];
const OWNER_LABEL = "owner";

/** Machines that others use are measured here, or they never would be. */
export const AGENT_VALUES: readonly string[] = [
  `--set-json=agent.providers=${JSON.stringify(
    PROVIDERS.map((name) => ({ name, keySecret: `${name}-key`, nodeSelector: { [OWNER_LABEL]: name } })),
  )}`,
  "--set=agent.busyShareMax=1",
];

const newKey = (): string => String(generateKeyPairSync("ed25519").privateKey.export({ format: "pem", type: "pkcs8" }));

/**
 * Makes the keys' Secrets and says whose machine each is. Resolves with the public keys (SPKI in base64). `pemOf` gives a
 * provider's key, where it has one.
 */
export async function admitProviders(
  { controlPlane }: RealCluster,
  pemOf: (provider: string) => string = newKey,
): Promise<ReadonlyMap<string, string>> {
  const publicKeys = new Map<string, string>();
  for (const provider of PROVIDERS) {
    const pem = pemOf(provider);
    const secret = {
      apiVersion: "v1",
      kind: "Secret",
      metadata: { name: `${provider}-key`, namespace: HOUSE_NAMESPACE },
      stringData: { "provider.pem": pem },
    };
    await controlPlane.kubectl(["create", "-f", "-"], JSON.stringify(secret));
    publicKeys.set(provider, valueOrThrow(parseSigningKey(pem, provider)).publicKey.spki);
  }
  for (const { provider, node } of MACHINES)
    await controlPlane.kubectl(["label", "node", node, `${OWNER_LABEL}=${provider}`, "--overwrite"]);
  return publicKeys;
}
