/**
 * Ranks whose model is gone. Kubernetes' garbage collector takes away whatever the model owned, at the twenty requests a
 * second that a controller manager has by default: a thousand models would hold their nodes' memory for half an hour. So
 * the operator takes pods away itself, at once, and Secrets when there is less to do; whatever it leaves, or crashes
 * before, the collector finds.
 */
import { shardedModelResource } from "../../core/gen/crds/shardedmodel.ts";
import { type KubeClient, isStatus } from "../kube/client.ts";
import { type KubeObject, PODS, SECRETS } from "../kube/objects.ts";

/**
 * `key`: of a model that our copy does not have; the server is asked before anything ends. `pods`: its ranks. Those that
 * nobody owns are left: somebody wished it so. `onEnded` hears of each that was ended, whose Secret stays for now.
 */
export async function clearAway(
  client: Pick<KubeClient, "delete" | "find">,
  key: string,
  pods: readonly KubeObject[],
  onEnded: (name: string) => void,
): Promise<void> {
  const owned = pods.filter(
    ({ metadata }) => (metadata.ownerReferences ?? []).length > 0 && metadata.deletionTimestamp === undefined,
  );
  const [namespace, name] = key.split("/");
  if (owned.length === 0 || (await client.find(shardedModelResource, { namespace, name })) !== undefined) return;
  await Promise.all(owned.map((pod) => endOne(client, pod, onEnded)));
}

async function endOne(
  client: Pick<KubeClient, "delete">,
  { metadata }: KubeObject,
  onEnded: (name: string) => void,
): Promise<void> {
  const { namespace, name, uid, resourceVersion } = metadata;
  try {
    // As we saw it: `kubectl delete --cascade=orphan` takes the owner from the pod, which is another version of it.
    await client.delete(PODS, { namespace, name }, { uid, resourceVersion });
    onEnded(name);
  } catch (error) {
    if (isStatus(error, 409)) return; // it is another by now: its next version is looked at anew
    throw error;
  }
}

/** Secrets of ranks that we ended, by their model: nobody waits for their end, so it comes when there is less to do. */
export class SecretsLeft {
  readonly #names = new Map<string, Set<string>>();

  add(key: string, name: string): void {
    const names = this.#names.get(key) ?? new Set<string>();
    this.#names.set(key, names.add(name));
  }

  has(key: string): boolean {
    return this.#names.has(key);
  }

  /** There is a model of that name again: they are its own now. */
  forget(key: string): void {
    this.#names.delete(key);
  }

  async clear(client: Pick<KubeClient, "delete">, key: string): Promise<void> {
    const [namespace] = key.split("/");
    const names = [...(this.#names.get(key) ?? [])];
    await Promise.all(names.map((name) => client.delete(SECRETS, { namespace, name })));
    this.#names.delete(key);
  }
}
