/**
 * What models and plans are said to be, written when it has changed. What changes by degrees while ranks load (how many
 * are ready, how far they have read) is said every few seconds; what changes in kind is said at once.
 */
import { type ShardedModelStatus, shardedModelResource } from "../../core/gen/crds/shardedmodel.ts";
import { type ShardPlanStatus, shardPlanResource } from "../../core/gen/crds/shardplan.ts";
import type { WallClock } from "../clock.ts";
import { type KubeClient, isStatus } from "../kube/client.ts";
import { turned } from "../kube/conditions.ts";
import type { EventRecorder } from "../kube/events.ts";
import type { KubeObject } from "../kube/objects.ts";
import { Recent } from "../kube/recent.ts";
import { sameJson } from "../kube/same.ts";
import { isOlder } from "../kube/versions.ts";
import type { Plan, World } from "../plan/types.ts";
import { planWords } from "../plan/words/plan-words.ts";
import type { Observed } from "./cluster.ts";
import { modelKey } from "./labels.ts";
import { isTrouble, modelStatus } from "./model-status.ts";
import { asModel, asPlan } from "./observe.ts";
import { shardPlanStatus } from "./shard-plan.ts";
import { toldOf } from "./sides.ts";

export type ReportsOptions = {
  readonly client: KubeClient;
  readonly clock: WallClock;
  readonly events: EventRecorder;
};

/** Between two reports of how far ranks have come. */
const DEGREES_MS = 3_000;

export class Reports {
  readonly #options: ReportsOptions;
  readonly #told: Recent; // models as we wrote them last
  readonly #drawings = new Map<string, { readonly version: string; readonly text: string }>(); // of plans, in words
  /** When each status was last written while ranks load, or first left alone. */
  readonly #toldAtMs = new Map<string, number>();

  constructor(options: ReportsOptions) {
    this.#options = options;
    this.#told = new Recent(options.clock);
  }

  /** `besides`: what else the status says, given the one before, and who hears that it was written. */
  async reportModel(
    { world, object }: Observed,
    plan: Plan,
    besides: (before: ShardedModelStatus | undefined) => {
      readonly fields: Partial<ShardedModelStatus>;
      readonly onTold: () => void;
    },
  ): Promise<void> {
    const { client, clock, events } = this.#options;
    const { name, namespace } = world.model;
    const key = modelKey(world.model);
    const told = this.#told.get(key);
    const isBehind = isOlder(object.metadata.resourceVersion, told?.metadata.resourceVersion);
    const before = told !== undefined && isBehind ? asModel(told).status : object.status;
    const { fields, onTold } = besides(before);
    const status = { ...modelStatus(world, plan, before, clock.wallMs()), ...fields };
    if (sameJson(before, status)) return;
    if (isMatterOfDegree(before, status) && this.#mayWait(key)) return;
    const written = await client
      .apply(shardedModelResource, { metadata: { name, namespace }, status }, "status")
      .catch(unlessGone);
    if (written === undefined) return;
    this.#told.set(key, written);
    this.#toldAtMs.set(key, clock.monotonicMs());
    onTold();
    for (const { type, status: value, reason, message } of turned(before?.conditions, plan.conditions)) {
      const warns = isTrouble(type, value, reason);
      const wasThere = before?.conditions?.some((condition) => condition.type === type) === true;
      // That it is planned the plan's own event has said; how far its ranks are, and that nothing is ready at first, is
      // for the status alone.
      if (!warns && (type !== "Ready" || (value !== "True" && !wasThere))) continue;
      const happening = { type: warns ? "Warning" : "Normal", reason, action: type, note: message || reason } as const;
      events.record(shardedModelResource, asObject(object), happening);
    }
  }

  /** `stored`: the plan as it stands. Returns it as it was written, or undefined where nothing was. */
  async reportPlan(world: World, plan: Plan, stored: KubeObject | undefined): Promise<KubeObject | undefined> {
    const { model, facts, nodes, ranks, previous } = world;
    const { placement, asleep, rolled } = plan;
    const own = placement?.assignments ?? (asleep === undefined ? undefined : previous?.assignments);
    const assignments = own && [...own, ...(rolled?.outgoing ?? []).flatMap((side) => side.plan.assignments)];
    if (stored === undefined || assignments === undefined || "code" in facts) return undefined;
    const key = modelKey(model);
    // Drawn once for each plan as it was written, not at every look.
    const version = `${stored.metadata.uid}@${stored.metadata.generation}`;
    const drawn = this.#drawings.get(key);
    const text =
      drawn?.version === version || placement === undefined
        ? (drawn?.text ?? asPlan(stored).status?.summary ?? "")
        : planWords({ facts, ...(toldOf(world, plan, plan.revision) ?? { model }), nodes }, placement).text;
    this.#drawings.set(key, { version, text });
    const status = shardPlanStatus(model, assignments, ranks, stored.metadata.generation ?? 1, text);
    if (sameJson(stored["status"], status)) return undefined;
    if (asleep === undefined && isLoading(status)) {
      const what = planOf(key);
      // That nothing of a new plan is ready goes without saying, for a moment.
      if (stored["status"] === undefined && !this.#toldAtMs.has(what)) this.#mayWait(what);
      if (this.#mayWait(what)) return undefined;
    }
    const { name, namespace } = model;
    return this.#options.client
      .apply(shardPlanResource, { metadata: { name, namespace }, status }, "status")
      .catch(unlessGone);
  }

  forget(key: string): void {
    this.#told.delete(key);
    this.#drawings.delete(key);
    this.#toldAtMs.delete(key);
    this.#toldAtMs.delete(planOf(key));
  }

  /** Whether something was said of it a moment ago. Who waits is looked at again soon: it loads. */
  #mayWait(what: string): boolean {
    const nowMs = this.#options.clock.monotonicMs();
    const atMs = this.#toldAtMs.get(what);
    if (atMs !== undefined && nowMs - atMs < DEGREES_MS) return true;
    this.#toldAtMs.set(what, nowMs);
    return false;
  }
}

/** Deleted while it was looked at, which is no trouble. */
function unlessGone(error: unknown): undefined {
  if (!isStatus(error, 404)) throw error;
}

const planOf = (key: string): string => `plan of ${key}`;
const asObject = (model: object) => model as KubeObject;

/** Whether nothing has changed but how far ranks that load have come: they are looked at again in a moment anyway. */
export function isMatterOfDegree(before: ShardedModelStatus | undefined, status: ShardedModelStatus): boolean {
  const loads = status.conditions?.some(({ type, reason }) => type === "WeightsReady" && reason === "Loading") === true;
  return loads && before !== undefined && sameJson(inKind(before), inKind(status));
}

const inKind = ({ progress: _, conditions = [], ...status }: ShardedModelStatus): unknown => ({
  ...status,
  conditions: conditions.map(({ type, status: value, reason }) => [type, value, reason]),
});

/** Whether some rank starts, and none is in trouble. */
const isLoading = ({ rankStates = [] }: ShardPlanStatus): boolean =>
  rankStates.some(({ phase }) => phase === "Starting" || phase === "Missing") &&
  rankStates.every(({ phase }) => phase === "Starting" || phase === "Missing" || phase === "Ready");
