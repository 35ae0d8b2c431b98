/**
 * Many nodes and many models as bare objects: no scheduler, no kubelet; whoever reports pods as ready is ready-pods.ts.
 * Nodes come in pools of as many as a model has ranks, each model is of one pool, and pools are shared evenly: so it is
 * the operator's work that grows with the models, and not the planner's choice.
 */
import { rm } from "node:fs/promises";
import { openAuthority } from "../../operator/apply/authority.ts";
import { rankPod } from "../../operator/apply/rank-objects.ts";
import { sharedSecretName } from "../../operator/apply/rank-secrets.ts";
import { clusterAccess } from "../../operator/kube/access.ts";
import { KubeClient } from "../../operator/kube/client.ts";
import type { KubeObject } from "../../operator/kube/objects.ts";
import { modelSpecOf, nodeFactsOf } from "../../operator/plan/model-spec.ts";
import { shardNodeResource } from "../../core/gen/crds/shardnode.ts";
import { shardedModelResource } from "../../core/gen/crds/shardedmodel.ts";
import { asModel, asNode } from "../../operator/apply/observe.ts";
import { type ControlPlane, startControlPlane } from "./control-plane.ts";
import { type FakeHouse, startFakeHouse } from "./fake-house.ts";
import { createNamespaceIn, installKinds, makeModelDirectory } from "./model-world.ts";
import { newKey, providerObject } from "./operator-case.ts";
import { makeHousePods } from "./running-operator.ts";

export const RANK_COUNT = 8;
/** A model's ranks: two segments of four. */
const PROVIDER_COUNT = 2;
const GROUP_COUNT = RANK_COUNT / PROVIDER_COUNT;
export const CONNECTION_COUNT = 16;
export const MODELS_NAMESPACE = "models";

export type ScaleWorld = {
  readonly cluster: ControlPlane;
  /** Its requests are the loop's own: nothing else goes through it. */
  readonly client: KubeClient;
  readonly house: FakeHouse;
  readonly modelPath: string;
  /** Creates models 0 … `count`. */
  createModels(count: number): Promise<readonly KubeObject[]>;
  /** The pods that the operator makes for these models, less what only a plan knows (who is whose neighbour). */
  podsOf(models: readonly KubeObject[]): Promise<readonly KubeObject[]>;
  /** Does `work` on each, as many at a time as there are connections. */
  each<T>(items: readonly T[], work: (item: T) => Promise<unknown>): Promise<void>;
  /** Requests that changed something, leases apart, as the API server counts them: by verb and resource. */
  writes(): Promise<ReadonlyMap<string, number>>;
  /** Takes away what the collector has yet to: of a thousand models it would take minutes. */
  sweep(): Promise<void>;
  stop(): Promise<void>;
};

const LEFT_TO_THE_COLLECTOR = [
  ["api/v1", "services"],
  ["apis/policy/v1", "poddisruptionbudgets"],
  ["apis/tessellate.dev/v1alpha1", "shardplans"],
] as const;

const POOL_LABEL = "tessellate.example.org/pool";

export async function startScaleWorld(nodeCount: number): Promise<ScaleWorld> {
  const controllers = ["serviceaccount-controller", "root-ca-certificate-publisher-controller"];
  const cluster = await startControlPlane({
    withoutScheduler: true,
    // The collector with the limits that it has by default, 20 requests a second, as wherever the operator is installed.
    controllerManagerArgs: [`--controllers=${[...controllers, "garbage-collector-controller"].join()}`],
  });
  try {
    return await worldIn(cluster, nodeCount);
  } catch (error) {
    await cluster.stop();
    throw error;
  }
}

async function worldIn(cluster: ControlPlane, nodeCount: number): Promise<ScaleWorld> {
  await installKinds(cluster);
  const modelDirectory = await makeModelDirectory();
  await createNamespaceIn(cluster, "tessellate");
  await createNamespaceIn(cluster, MODELS_NAMESPACE);
  const client = new KubeClient(clusterAccess(cluster.kubeconfig));
  const poolCount = Math.floor(nodeCount / RANK_COUNT);
  const numbers = Array.from({ length: poolCount * RANK_COUNT }, (_, index) => index);
  await makeProviders(cluster);
  await each(numbers, (index) => makeNode(cluster, client, index));
  const hosts = { gateway: "127.79.1.1", ledger: "127.79.1.2", unfenced: true } as const;
  const house = await startFakeHouse(await openAuthority(client, "tessellate"), hosts);
  await makeHousePods(cluster, house);
  const modelPath = `/apis/tessellate.dev/v1alpha1/namespaces/${MODELS_NAMESPACE}/shardedmodels`;
  return {
    cluster,
    client,
    house,
    modelPath,
    each,
    async createModels(count) {
      const made: KubeObject[] = [];
      const models = Array.from({ length: count }, (_, index) => modelOf(index, index % poolCount, modelDirectory));
      await each(models, async (model) => made.push(await client.create(shardedModelResource, model)));
      return made;
    },
    async podsOf(models) {
      return (
        await Promise.all(models.map((model) => barePods(client, model, Number(model.metadata.labels?.["pool"]))))
      ).flat();
    },
    writes: () => writesOf(cluster),
    async sweep() {
      for (const [group, plural] of LEFT_TO_THE_COLLECTOR)
        await cluster.api.request("DELETE", `/${group}/namespaces/${MODELS_NAMESPACE}/${plural}`);
    },
    async stop() {
      client.close();
      await house.close();
      await cluster.stop();
      await rm(modelDirectory, { recursive: true, force: true });
    },
  };
}

async function each<T>(items: readonly T[], work: (item: T) => Promise<unknown>): Promise<void> {
  const left = items.values();
  const line = async () => {
    for (const item of left) await work(item);
  };
  await Promise.all(Array.from({ length: CONNECTION_COUNT }, line));
}

const nodeName = (index: number): string => `node-${index}`;

/** Of the node of this number. */
export const poolOf = (node: number): number => Math.floor(node / RANK_COUNT);

/** Names of the models that may be on the nodes of a pool. */
export const modelsOfPool = (pool: number, modelCount: number, nodeCount: number): readonly string[] => {
  const poolCount = Math.floor(nodeCount / RANK_COUNT);
  const numbers = Array.from({ length: modelCount }, (_, index) => index);
  return numbers.filter((index) => index % poolCount === pool).map((index) => `m${index}`);
};

/** Of each pool one half is one provider's, the other half the other's: a tensor-parallel segment each. */
async function makeProviders(cluster: ControlPlane): Promise<void> {
  const objects = Array.from({ length: PROVIDER_COUNT }, (_, index) =>
    providerObject(`owner-${index}`, { publicKey: newKey() }),
  );
  await cluster.kubectl(["apply", "-f", "-"], objects.map((object) => JSON.stringify(object)).join("\n---\n"));
}

async function makeNode({ api }: ControlPlane, client: KubeClient, index: number): Promise<void> {
  const name = nodeName(index);
  const now = new Date().toISOString().replace(/\.\d+Z/, "Z");
  const conditions = [
    { type: "Ready", status: "True", reason: "Test", lastHeartbeatTime: now, lastTransitionTime: now },
  ];
  const capacity = { cpu: "64", memory: "256Gi", pods: "110" };
  await api.request("POST", "/api/v1/nodes", { metadata: { name } });
  const status = { capacity, allocatable: capacity, conditions };
  await api.request("PATCH", `/api/v1/nodes/${name}/status`, { status }, "application/merge-patch+json");
  await api.request("PATCH", `/api/v1/nodes/${name}`, { spec: { taints: null } }, "application/merge-patch+json");
  await client.create(shardNodeResource, {
    metadata: { name, labels: { [POOL_LABEL]: String(poolOf(index)) } },
    spec: {
      provider: `owner-${Math.floor((index % RANK_COUNT) / GROUP_COUNT)}`,
      memory: { freeBytes: "200Gi" },
      memoryBytesPerSecond: "20G",
      signer: { target: "signer.example.org:7300" },
    },
  });
}

const modelOf = (index: number, pool: number, modelDirectory: string): KubeObject => ({
  metadata: { name: `m${index}`, namespace: MODELS_NAMESPACE, labels: { pool: String(pool) } },
  spec: {
    model: { source: { path: modelDirectory } },
    placement: {
      providers: { min: PROVIDER_COUNT },
      tensorParallel: { max: GROUP_COUNT, when: "Always" },
      nodeSelector: { [POOL_LABEL]: String(pool) },
    },
    slots: 2,
  },
});

/** As the operator would make them, owned by `object` so that they go with it. */
async function barePods(client: KubeClient, object: KubeObject, pool: number): Promise<readonly KubeObject[]> {
  const model = modelSpecOf(asModel(object));
  const renewAfter = new Date().toISOString();
  return Promise.all(
    Array.from({ length: RANK_COUNT }, async (_, index) => {
      const [segment, rank] = [Math.floor(index / GROUP_COUNT), index % GROUP_COUNT];
      const name = nodeName(pool * RANK_COUNT + index);
      const node = nodeFactsOf(asNode(await nodeOf(client, name)), [], true);
      const layers = { start: segment * 6, end: segment * 6 + 6 };
      const place = { chain: 0, segment, rank, layers, sliceWeights: [1, 1, 1, 1] };
      const bytes = { weightBytes: 1_234_567, kvBytes: 1_048_576 };
      const assignment = { ...place, node: name, provider: node.provider, ...bytes };
      const neighbours = [0, 1, 2, 3].map((each) => `${MODELS_NAMESPACE}/${model.name}-0-${1 - segment}-${each}`);
      const revision = "0123456789ab-q4-512-2-f16";
      const secretName = sharedSecretName(model, assignment);
      return rankPod({
        model,
        assignment,
        node,
        revision,
        neighbours,
        renewAfter,
        secretName,
        image: "tessellate:test",
      });
    }),
  );
}

const nodes = new Map<string, KubeObject>();
async function nodeOf(client: KubeClient, name: string): Promise<KubeObject> {
  const node = nodes.get(name) ?? (await client.get(shardNodeResource, { name }));
  nodes.set(name, node);
  return node;
}

const COUNTED = /^apiserver_request_total\{(.*)\} (\S+)$/gm;
const WRITING: ReadonlySet<string> = new Set(["POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"]);

/** Requests that changed something, leases apart, as the API server counts them: by verb and resource. */
export async function writesOf({ api }: ControlPlane): Promise<ReadonlyMap<string, number>> {
  const text = await api.get<string>("/metrics");
  const found = new Map<string, number>();
  for (const [, labels = "", value] of text.matchAll(COUNTED)) {
    const label = (name: string) => new RegExp(`(?:^|,)${name}="([^"]*)"`).exec(labels)?.[1] ?? "";
    if (!WRITING.has(label("verb")) || label("resource") === "leases") continue;
    const subresource = label("subresource") === "" ? "" : `/${label("subresource")}`;
    const key = `${label("verb")} ${label("resource")}${subresource}`;
    found.set(key, (found.get(key) ?? 0) + Number(value));
  }
  return found;
}

/** What was written between two counts. */
export function writesBetween(
  before: ReadonlyMap<string, number>,
  after: ReadonlyMap<string, number>,
): ReadonlyMap<string, number> {
  return new Map(
    [...after]
      .map(([key, count]) => [key, count - (before.get(key) ?? 0)] as const)
      .filter(([, count]) => count > 0)
      .sort((a, b) => b[1] - a[1]),
  );
}
