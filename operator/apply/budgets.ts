/**
 * A PodDisruptionBudget for each model, which lets nobody evict a rank that serves: a chain needs every one of them, and
 * which may go, and when, is known to the operator alone. It takes ranks off a cordoned node itself, once what they hold
 * is loaded elsewhere and their sessions have ended; `kubectl drain` asks again until then, and finds them gone.
 */
import type { Clock } from "../../core/clock.ts";
import { type KubeClient, isStatus } from "../kube/client.ts";
import { BUDGETS, type KubeObject } from "../kube/objects.ts";
import type { Reflector } from "../kube/reflector.ts";
import type { ModelSpec } from "../plan/types.ts";
import { COMPONENT_LABEL, MODEL_LABEL, modelKey, modelLabels } from "./labels.ts";
import { ownerOf } from "./owner.ts";

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

export type BudgetsOptions = {
  readonly client: Pick<KubeClient, "create">;
  readonly clock: Clock;
  readonly known: Pick<Reflector, "get">;
  /** See KubeClusterOptions. */
  readonly isRush?: (() => boolean) | undefined;
  readonly onWaits?: ((key: string) => void) | undefined;
};

/** After which a model that serves has its budget however much there is to do. */
const RUSH_MS_MAX = 60_000;

export class Budgets {
  readonly #options: BudgetsOptions;
  readonly #made = new Map<string, string>(); // by model: its uid, until the copy has shown the budget
  readonly #waitsSinceMs = new Map<string, number>();

  constructor(options: BudgetsOptions) {
    this.#options = options;
  }

  /**
   * For a model that serves. One request for each, ever, and in a rush a little later: others are to serve, too. One of
   * that name that somebody else made is left as it is.
   */
  async keep(model: ModelSpec): Promise<void> {
    const { client, known } = this.#options;
    const key = modelKey(model);
    if (known.get(key) !== undefined) return this.forget(key);
    if (this.#made.get(key) === model.uid || this.#mayWait(key)) return;
    this.#made.set(key, model.uid);
    try {
      await client.create(BUDGETS, modelBudget(model), "metadata");
    } catch (error) {
      if (isStatus(error, 409)) return;
      this.#made.delete(key);
      throw error;
    }
  }

  /** Whether it was put off. */
  waits(key: string): boolean {
    return this.#waitsSinceMs.has(key);
  }

  forget(key: string): void {
    this.#made.delete(key);
    this.#waitsSinceMs.delete(key);
  }

  #mayWait(key: string): boolean {
    const { clock, isRush, onWaits } = this.#options;
    const nowMs = clock.monotonicMs();
    const sinceMs = this.#waitsSinceMs.get(key) ?? nowMs;
    if (isRush?.() !== true || nowMs - sinceMs >= RUSH_MS_MAX) return false;
    this.#waitsSinceMs.set(key, sinceMs);
    onWaits?.(key);
    return true;
  }
}
