/** Objects that tests of the operator give a real API server, and the ranks that it makes of them. */
import { generateKeyPairSync } from "node:crypto";
import { RANK_SELECTOR } from "../../operator/apply/labels.ts";
import { secretsOf } from "../../operator/apply/rank-secrets.ts";
import type { KubeObject } from "../../operator/kube/objects.ts";
import { untilFound } from "../until.ts";
import type { ControlPlane } from "./control-plane.ts";

export const modelObject = (name: string, modelDirectory: string, spec: object = {}) => ({
  apiVersion: "tessellate.dev/v1alpha1",
  kind: "ShardedModel",
  metadata: { name, namespace: "models" },
  spec: { model: { source: { path: modelDirectory } }, placement: { providers: { min: 3 } }, ...spec },
});

export const providerObject = (name: string, spec: object = {}) => ({
  apiVersion: "tessellate.dev/v1alpha1",
  kind: "Provider",
  metadata: { name },
  spec,
});

/** A provider's public key. */
export const newKey = (): string =>
  generateKeyPairSync("ed25519").publicKey.export({ format: "der", type: "spki" }).toString("base64");

export const nodeObject = (name: string, provider: string, spec: object = {}) => ({
  apiVersion: "tessellate.dev/v1alpha1",
  kind: "ShardNode",
  metadata: { name },
  spec: {
    provider,
    memory: { freeBytes: "1Gi" },
    memoryBytesPerSecond: "20G",
    signer: { target: "signer.example.org:7300" },
    ...spec,
  },
});

/** Rank pods of a model, as `name node uid`. */
export async function ranksOf(
  kubectl: (...args: string[]) => Promise<string>,
  model: string,
): Promise<readonly string[]> {
  const path = 'jsonpath={range .items[*]}{.metadata.name} {.spec.nodeName} {.metadata.uid}{"\\n"}{end}';
  const pods = await kubectl("get", "pods", "-l", `tessellate.dev/model=${model}`, "-o", path);
  return pods.trim().split("\n").filter(Boolean);
}

/** Names of Secrets that were made for ranks and that no pod mounts. */
export async function secretsUnmounted(kubectl: (...args: string[]) => Promise<string>): Promise<readonly string[]> {
  const list = async (...what: string[]): Promise<readonly KubeObject[]> =>
    JSON.parse(await kubectl("get", ...what, "-o", "json")).items;
  const mounted = secretsOf(await list("pods"));
  const secrets = await list("secrets", "-l", "tessellate.dev/model");
  return secrets.map(({ metadata }) => metadata.name).filter((name) => !mounted.has(name));
}

/** Waits until each node and provider says how many ranks it holds: of all that an operator writes it is the last. */
export async function allRanksAreCounted({ api }: ControlPlane): Promise<void> {
  type Listed = { readonly items: readonly { readonly status?: { readonly shardCount?: number } }[] };
  const countsOf = async (kind: string) => {
    const { items } = await api.get<Listed>(`/apis/tessellate.dev/v1alpha1/${kind}`);
    return items.reduce((sum, { status }) => sum + (status?.shardCount ?? 0), 0);
  };
  await untilFound(
    "each place to say how many ranks it holds",
    async () => {
      const ranks = await api.get<Listed>(`/api/v1/pods?labelSelector=${encodeURIComponent(RANK_SELECTOR)}`);
      return [ranks.items.length, await countsOf("shardnodes"), await countsOf("providers")];
    },
    ([rankCount, ...counts]) => counts.every((count) => count === rankCount),
  );
}
