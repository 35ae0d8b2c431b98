/** Models that sleep, as the cluster's door sees them: what is asked of them, and their plans, which stand. */
import type { Clock } from "../../core/clock.ts";
import { shardPlanResource } from "../../core/gen/crds/shardplan.ts";
import type { KubeClient } from "../kube/client.ts";
import type { KubeObject } from "../kube/objects.ts";
import { type GatewayReport, demandIn } from "../plan/sleep.ts";
import type { ModelSpec, Sleep, StandingPlan, World } from "../plan/types.ts";
import { modelKey } from "./labels.ts";
import { asPlan } from "./observe.ts";

/** For the sessions of a model that was turned off, and for gateways that do not answer. */
const LEAVE_MS = 300_000;

/** What each gateway says is asked of a model; left out: nobody is asked, and none falls asleep. */
export type DemandOf = ((key: string) => readonly (GatewayReport | undefined)[]) | undefined;

export class Sleepers {
  readonly #clock: Clock;
  readonly #demandOf: DemandOf;
  readonly #leaveBeforeMs = new Map<string, number>(); // their ranks end then at the latest; whoever leads next begins anew

  constructor(clock: Clock, demandOf: DemandOf) {
    this.#clock = clock;
    this.#demandOf = demandOf;
  }

  demandOn(model: ModelSpec, previous: StandingPlan | undefined): Pick<World, "demand"> {
    const key = modelKey(model);
    if (previous?.asleep === undefined) this.#leaveBeforeMs.delete(key);
    if (this.#demandOf === undefined || (model.idle === undefined && model.replicas > 0)) return {};
    const demand = demandIn(this.#demandOf(key), model);
    if (previous?.asleep === undefined) return { demand };
    const nowMs = this.#clock.monotonicMs();
    const leaveBeforeMs = this.#leaveBeforeMs.get(key) ?? nowMs + LEAVE_MS;
    this.#leaveBeforeMs.set(key, leaveBeforeMs);
    return { demand: { ...demand, isLetGo: demand.isLetGo || nowMs > leaveBeforeMs } };
  }

  forget(key: string): void {
    this.#leaveBeforeMs.delete(key);
  }
}

/** Writes down that nothing of the plan that stands runs. Undefined where there is none, or it says so already. */
export async function keepAsleep(
  client: KubeClient,
  before: KubeObject | undefined,
  asleep: Sleep,
): Promise<KubeObject | undefined> {
  if (before === undefined || asPlan(before).spec.asleep === asleep) return undefined;
  const { name, namespace, labels = {}, ownerReferences = [] } = before.metadata;
  const metadata = { name, ...(namespace === undefined ? {} : { namespace }), labels, ownerReferences };
  return client.apply(shardPlanResource, { metadata, spec: { ...asPlan(before).spec, asleep } });
}
