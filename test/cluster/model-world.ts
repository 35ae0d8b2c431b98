/** Four nodes of four providers, a house, and room for models: what crash and scale tests begin with. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { openAuthority } from "../../operator/apply/authority.ts";
import { clusterAccess } from "../../operator/kube/access.ts";
import { KubeClient } from "../../operator/kube/client.ts";
import { type ControlPlane, startControlPlane } from "./control-plane.ts";
import { type FakeHouse, startFakeHouse } from "./fake-house.ts";
import { FakeMachines } from "./fake-machines.ts";
import { newKey, nodeObject, providerObject } from "./operator-case.ts";
import { makeHousePods, manifestText } from "./running-operator.ts";

const CRDS = fileURLToPath(new URL("../../crds/", import.meta.url));
const NODES = { "campus-a1": "campus", "garage-3": "garage", "studio-x1": "studio", "spare-1": "spare" };

export type ModelWorld = {
  readonly cluster: ControlPlane;
  readonly machines: FakeMachines;
  readonly house: FakeHouse;
  /** Holds a model's manifest and nothing else. */
  readonly modelDirectory: string;
  createNamespace(name: string): Promise<void>;
  stop(): Promise<void>;
};

export async function startModelWorld(): Promise<ModelWorld> {
  // Nobody renews the leases of machines that do not exist.
  const cluster = await startControlPlane({
    controllerManagerArgs: [
      "--controllers=*,-node-lifecycle-controller,-taint-eviction-controller",
      "--horizontal-pod-autoscaler-sync-period=1s",
    ],
  });
  await installKinds(cluster);
  const modelDirectory = await makeModelDirectory();
  const { api } = cluster;
  const createNamespace = (name: string) => createNamespaceIn(cluster, name);
  await createNamespace("tessellate");
  const machines = new FakeMachines(api);
  await Promise.all(Object.keys(NODES).map((name) => machines.add(name)));
  const client = new KubeClient(clusterAccess(cluster.kubeconfig));
  const hosts = { gateway: "127.79.0.1", ledger: "127.79.0.2", unfenced: true } as const;
  const house = await startFakeHouse(await openAuthority(client, "tessellate"), hosts);
  client.close();
  await makeHousePods(cluster, house);
  const objects = Object.entries(NODES).flatMap(([name, provider]) => [
    providerObject(provider, { publicKey: newKey() }),
    nodeObject(name, provider, { memory: { freeBytes: "2Gi" } }),
  ]);
  await cluster.kubectl(["apply", "-f", "-"], objects.map((object) => JSON.stringify(object)).join("\n---\n"));
  return {
    cluster,
    machines,
    house,
    modelDirectory,
    createNamespace,
    async stop() {
      machines.stop();
      await house.close();
      await cluster.stop();
      await rm(modelDirectory, { recursive: true, force: true });
    },
  };
}

/** Ours, and answered. */
export async function installKinds({ api, kubectl }: ControlPlane): Promise<void> {
  await kubectl(["apply", "-f", CRDS]);
  // Kinds that were added a moment ago are answered 429 at first.
  for (const kind of ["shardedmodels", "shardplans", "shardnodes", "providers", "settlements"])
    while (
      !(await api.get(`/apis/tessellate.dev/v1alpha1/${kind}`).then(
        () => true,
        () => false,
      ))
    )
      await pause();
}

/** A folder with a model's manifest and nothing else. The caller removes it. */
export async function makeModelDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "tessellate-model-"));
  await writeFile(join(directory, "tessellate-manifest.json"), manifestText());
  return directory;
}

export async function createNamespaceIn({ api }: ControlPlane, name: string): Promise<void> {
  await api.request("POST", "/api/v1/namespaces", { metadata: { name } });
  // A pod is refused until there is one.
  while ((await api.find(`/api/v1/namespaces/${name}/serviceaccounts/default`)) === undefined) await pause();
}

const pause = () => new Promise((resolve) => setTimeout(resolve, 20));
