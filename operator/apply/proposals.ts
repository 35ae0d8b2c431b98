/** Plans that wait for an approval, as ShardPlans that nothing runs by. */
import { shardPlanResource } from "../../core/gen/crds/shardplan.ts";
import { shardedModelResource } from "../../core/gen/crds/shardedmodel.ts";
import type { WallClock } from "../clock.ts";
import type { KubeClient } from "../kube/client.ts";
import type { EventRecorder } from "../kube/events.ts";
import type { KubeObject } from "../kube/objects.ts";
import { Recent } from "../kube/recent.ts";
import { sameJson } from "../kube/same.ts";
import { proposalName } from "../plan/names.ts";
import type { ModelSpec, Plan, World } from "../plan/types.ts";
import type { Observed } from "./cluster.ts";
import { APPROVED_ANNOTATION, isProposal, proposalLabels } from "./labels.ts";
import { asPlan } from "./observe.ts";
import { ownerOf } from "./owner.ts";
import { shardPlanSpec, standingPlanIn } from "./shard-plan.ts";
import type { Stores } from "./stores.ts";

type Doors = {
  readonly client: KubeClient;
  readonly clock: WallClock;
  readonly stores: Stores;
  readonly events: EventRecorder;
};

export class Proposals {
  readonly #doors: Doors;
  readonly #kept: Recent; // written by us, and perhaps not in the copies yet

  constructor(doors: Doors) {
    this.#doors = doors;
    this.#kept = new Recent(doors.clock);
  }

  /** What was proposed last, and what a person has let through. */
  of(model: ModelSpec): Pick<World, "proposed" | "approved"> {
    const stored = this.#find(model);
    if (stored === undefined) return {};
    const approved = stored.metadata.annotations?.[APPROVED_ANNOTATION];
    return { proposed: standingPlanIn(asPlan(stored)), ...(approved === undefined ? {} : { approved }) };
  }

  /** Writes down what waits; takes it away once nothing does. */
  async keep({ model, facts }: Observed["world"], object: KubeObject, { proposal }: Plan): Promise<void> {
    const { client, events } = this.#doors;
    const { namespace } = model;
    const name = proposalName(model);
    const before = this.#find(model);
    if (proposal === undefined || "code" in facts) {
      if (before === undefined) return;
      await client.delete(shardPlanResource, { namespace, name });
      this.#kept.delete(`${namespace}/${name}`);
      return;
    }
    const { revision, placement, approval } = proposal;
    const spec = { ...shardPlanSpec(model, facts, revision, placement), approval };
    if (before !== undefined && sameJson(before["spec"], spec)) return;
    const metadata = { name, namespace, labels: proposalLabels(model), ownerReferences: [ownerOf(model)] };
    this.#kept.set(`${namespace}/${name}`, await client.apply(shardPlanResource, { metadata, spec }));
    if (before !== undefined && asPlan(before).spec.approval === approval) return;
    events.record(shardedModelResource, object, {
      type: "Normal",
      reason: "PlanProposed",
      action: "Plan",
      note: `ShardPlan ${name} waits for the annotation ${APPROVED_ANNOTATION}=${approval}`,
    });
  }

  #find(model: ModelSpec): KubeObject | undefined {
    const key = `${model.namespace}/${proposalName(model)}`;
    const copy = this.#doors.stores.plans.get(key);
    const kept = this.#kept.get(key);
    const newest =
      copy === undefined || (copy.metadata.generation ?? 0) < (kept?.metadata.generation ?? 0) ? kept : copy;
    return newest !== undefined && isProposal(newest) ? newest : undefined;
  }
}
