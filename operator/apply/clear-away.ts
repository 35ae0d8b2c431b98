/**
 * Ranks whose model is gone. Kubernetes' garbage collector takes away whatever the model owned, at the twenty requests a
 * second that a controller manager has by default: a thousand models would hold their nodes' memory for half an hour. So
 * the operator takes pods away itself, at once, and the Secrets that they mounted when there is less to do; whatever it
 * leaves, or crashes before, the collector finds.
 */
import { shardedModelResource } from "../../core/gen/crds/shardedmodel.ts";
import { type KubeClient, isStatus } from "../kube/client.ts";
import { type KubeObject, PODS, SECRETS } from "../kube/objects.ts";
import { secretOf } from "./rank-secrets.ts";

type Doors = Pick<KubeClient, "delete" | "find">;

/** Models that are gone, what of them was ended, and which Secrets those mounted. */
export class Leftovers {
  readonly #client: Doors;
  readonly #ended = new Map<string, Ended>(); // by model

  constructor(client: Doors) {
    this.#client = client;
  }

  /**
   * `key`: of a model that our copy does not have; the server is asked before anything ends. `pods`: its ranks. Those that
   * nobody owns are left: somebody wished it so.
   */
  async end(key: string, pods: readonly KubeObject[]): Promise<void> {
    const ended = this.#ended.get(key) ?? { versions: new Set(), secrets: new Set() };
    const owned = pods.filter(
      (pod) =>
        (pod.metadata.ownerReferences ?? []).length > 0 &&
        pod.metadata.deletionTimestamp === undefined &&
        !ended.versions.has(versionOf(pod)), // our copy has yet to show it
    );
    const [namespace, name] = key.split("/");
    if (owned.length === 0) return;
    if ((await this.#client.find(shardedModelResource, { namespace, name })) !== undefined) return;
    await Promise.all(
      owned.map(async (pod) => {
        if (!(await this.#delete(pod))) return;
        const secret = secretOf(pod);
        ended.versions.add(versionOf(pod));
        if (secret !== undefined) ended.secrets.add(secret);
        this.#ended.set(key, ended);
      }),
    );
  }

  /** Whether there are Secrets to be deleted: nobody waits for their end, so it comes when there is less to do. */
  has(key: string): boolean {
    return this.#ended.has(key);
  }

  /** There is a model of that name again: its Secrets are its own now. */
  forget(key: string): void {
    this.#ended.delete(key);
  }

  async clearSecrets(key: string): Promise<void> {
    const [namespace] = key.split("/");
    const names = [...(this.#ended.get(key)?.secrets ?? [])];
    await Promise.all(names.map((name) => this.#client.delete(SECRETS, { namespace, name })));
    this.#ended.delete(key);
  }

  /** False where it is another by now: its next version is looked at anew. */
  async #delete({ metadata }: KubeObject): Promise<boolean> {
    const { namespace, name, uid, resourceVersion } = metadata;
    try {
      // As we saw it: `kubectl delete --cascade=orphan` takes the owner from the pod, which is another version of it.
      await this.#client.delete(PODS, { namespace, name }, { uid, resourceVersion });
      return true;
    } catch (error) {
      if (isStatus(error, 409)) return false;
      throw error;
    }
  }
}

type Ended = { readonly versions: Set<string>; readonly secrets: Set<string> };

const versionOf = ({ metadata: { uid, resourceVersion } }: KubeObject): string => `${uid}@${resourceVersion}`;
