/**
 * Ranks whose model is gone. Kubernetes' garbage collector takes away whatever the model owned, at the twenty requests a
 * second that a controller manager has by default: a thousand models would hold their nodes' memory for half an hour. So
 * the operator takes pods and Secrets away itself, at once; whatever it leaves, or crashes before, the collector finds.
 */
import { shardedModelResource } from "../../core/gen/crds/shardedmodel.ts";
import { type KubeClient, isStatus } from "../kube/client.ts";
import { type KubeObject, PODS, SECRETS } from "../kube/objects.ts";

/**
 * `key`: of a model that our copy does not have; the server is asked before anything ends. `pods`: its ranks. Those that
 * nobody owns are left: somebody wished it so.
 */
export async function clearAway(
  client: Pick<KubeClient, "delete" | "find">,
  key: string,
  pods: readonly KubeObject[],
): Promise<void> {
  const owned = pods.filter(
    ({ metadata }) => (metadata.ownerReferences ?? []).length > 0 && metadata.deletionTimestamp === undefined,
  );
  const [namespace, name] = key.split("/");
  if (owned.length === 0 || (await client.find(shardedModelResource, { namespace, name })) !== undefined) return;
  await Promise.all(owned.map((pod) => clearOne(client, pod)));
}

async function clearOne(client: Pick<KubeClient, "delete">, { metadata }: KubeObject): Promise<void> {
  const { namespace, name, uid, resourceVersion } = metadata;
  try {
    // As we saw it: `kubectl delete --cascade=orphan` takes the owner from the pod, which is another version of it.
    await client.delete(PODS, { namespace, name }, { uid, resourceVersion });
  } catch (error) {
    if (isStatus(error, 409)) return; // it is another by now: its next version is looked at anew
    throw error;
  }
  await client.delete(SECRETS, { namespace, name });
}
