/**
 * A PodDisruptionBudget for each model, which lets nobody evict a rank that serves: a chain needs every one of them, and
 * which may go, and when, is known to the operator alone. It takes ranks off a cordoned node itself, once what they hold
 * is loaded elsewhere and their sessions have ended; `kubectl drain` asks again until then, and finds them gone.
 */
import { type KubeClient, isStatus } from "../kube/client.ts";
import { BUDGETS, type KubeObject } from "../kube/objects.ts";
import type { Reflector } from "../kube/reflector.ts";
import type { ModelSpec } from "../plan/types.ts";
import { COMPONENT_LABEL, MODEL_LABEL, modelKey, modelLabels } from "./labels.ts";
import { ownerOf } from "./rank-objects.ts";

/**
 * More than any model has. A number, since `maxUnavailable` and shares are of what the owner's scale says, and a model's
 * says chains; one that never changes, since budgets that follow the plan would let somebody evict in between.
 */
const NEVER = 1_000_000;

export const modelBudget = (model: ModelSpec): KubeObject => ({
  metadata: {
    name: model.name,
    namespace: model.namespace,
    labels: modelLabels(model),
    ownerReferences: [ownerOf(model)],
  },
  spec: {
    minAvailable: NEVER,
    unhealthyPodEvictionPolicy: "AlwaysAllow", // a rank that does not serve keeps nobody from emptying a node
    selector: { matchLabels: { [MODEL_LABEL]: model.name, [COMPONENT_LABEL]: "rank" } },
  },
});

export class Budgets {
  readonly #client: Pick<KubeClient, "create">;
  readonly #known: Pick<Reflector, "get">;
  readonly #made = new Map<string, string>(); // by model: its uid, until the copy has shown the budget

  constructor({
    client,
    known,
  }: { readonly client: Pick<KubeClient, "create">; readonly known: Pick<Reflector, "get"> }) {
    this.#client = client;
    this.#known = known;
  }

  /** One request for each model, ever. One of that name that somebody else made is left as it is. */
  async keep(model: ModelSpec): Promise<void> {
    const key = modelKey(model);
    if (this.#known.get(key) !== undefined) return void this.#made.delete(key);
    if (this.#made.get(key) === model.uid) return;
    this.#made.set(key, model.uid);
    try {
      await this.#client.create(BUDGETS, modelBudget(model));
    } catch (error) {
      if (isStatus(error, 409)) return;
      this.#made.delete(key);
      throw error;
    }
  }

  forget(key: string): void {
    this.#made.delete(key);
  }
}
