/**
 * What models and plans are said to be, written when it has changed. What changes by degrees while ranks load (how many
 * are ready, how far they have read) is said every few seconds; what changes in kind is said at once, and in a rush a
 * little later where all goes well: a thousand models that start are more quickly ready than all of their steps are said.
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
import { isHappening, isTrouble, modelStatus } from "./model-status.ts";
import { asModel, asPlan } from "./observe.ts";
import { shardPlanStatus } from "./shard-plan.ts";
import { toldOf } from "./sides.ts";

export type ReportsOptions = {
  readonly client: KubeClient;
  readonly clock: WallClock;
  readonly events: EventRecorder;
  /** See KubeClusterOptions. */
  readonly isRush?: () => boolean;
  readonly onWaits?: (key: string) => void;
};

/** Between two reports of how far ranks have come, and how long a probe may take that nobody needs to hear of. */
const DEGREES_MS = 3_000;
/** In a rush a new model is silent for so long while all goes well: each status costs the API server as much as four pods. */
const PASSING_MS_MAX = 10_000;
/** After which what all ranks of a plan are is said however much there is to do. */
const RUSH_MS_MAX = 120_000;

export class Reports {
  readonly #options: ReportsOptions;
  readonly #told: Recent; // models as we wrote them last
  readonly #drawings = new Map<string, { readonly version: string; readonly text: string }>(); // of plans, in words
  /** When each status was last written while ranks load, or first left alone. */
  readonly #toldAtMs = new Map<string, number>();
  /** Since when something has not been said that may wait. */
  readonly #unsaidSinceMs = new Map<string, number>();

  constructor(options: ReportsOptions) {
    this.#options = options;
    this.#told = new Recent(options.clock);
  }

  /**
   * `besides`: what else the status says, given the one before, and who hears that it was written. True where nothing was
   * to be said.
   */
  async reportModel(
    { world, object }: Observed,
    plan: Plan,
    besides: (before: ShardedModelStatus | undefined) => {
      readonly fields: Partial<ShardedModelStatus>;
      readonly onTold: () => void;
    },
  ): Promise<boolean> {
    const { client, clock, events } = this.#options;
    const { name, namespace } = world.model;
    const key = modelKey(world.model);
    const told = this.#told.get(key);
    const isBehind = isOlder(object.metadata.resourceVersion, told?.metadata.resourceVersion);
    const before = told !== undefined && isBehind ? asModel(told).status : object.status;
    const { fields, onTold } = besides(before);
    const status = { ...modelStatus(world, plan, before, clock.wallMs()), ...fields };
    if (sameJson(before, status)) {
      this.#unsaidSinceMs.delete(key);
      return true;
    }
    const isRush = this.#options.isRush?.() === true;
    if (isPassing(before, status, isRush) && this.#isUnsaid(key, isRush ? PASSING_MS_MAX : DEGREES_MS)) return false;
    if (isMatterOfDegree(before, status) && this.#mayWait(key)) return false;
    const written = await client
      .apply(shardedModelResource, { metadata: { name, namespace }, status }, "status")
      .catch(unlessGone);
    if (written === undefined) return false;
    this.#told.set(key, written);
    this.#unsaidSinceMs.delete(key);
    this.#toldAtMs.set(key, clock.monotonicMs());
    onTold();
    for (const condition of turned(before?.conditions, plan.conditions)) {
      const { type, status: value, reason, message } = condition;
      if (!isHappening(condition, before?.conditions?.some((each) => each.type === type) === true)) continue;
      const warns = isTrouble(type, value, reason);
      const happening = { type: warns ? "Warning" : "Normal", reason, action: type, note: message || reason } as const;
      events.record(shardedModelResource, asObject(object), happening);
    }
    return false;
  }

  /** `stored`: the plan as it stands. Returns it as it was written; undefined where there is none, or that was put off. */
  async reportPlan(
    world: World,
    plan: Plan,
    stored: KubeObject | undefined,
  ): Promise<KubeObject | "as it is" | undefined> {
    const { model, facts, nodes, ranks, previous } = world;
    const { placement, asleep, rolled } = plan;
    const own = placement?.assignments ?? (asleep === undefined ? undefined : previous?.assignments);
    const leaving = plan.leaving?.assignments ?? [];
    const assignments = own && [
      ...own,
      ...leaving,
      ...(rolled?.outgoing ?? []).flatMap((side) => side.plan.assignments),
    ];
    if (stored === undefined || assignments === undefined || "code" in facts) return undefined;
    const key = modelKey(model);
    const what = planOf(key);
    const { summary: _, ...said } = asPlan(stored).status ?? {};
    const states = shardPlanStatus(model, assignments, ranks, stored.metadata.generation ?? 1);
    if (!sameJson(said, states) && asleep === undefined) {
      const isLoading = isLoadingIn(states);
      // That nothing of a new plan is ready goes without saying, for a moment.
      if (isLoading && stored["status"] === undefined && !this.#toldAtMs.has(what)) this.#mayWait(what);
      if (isLoading && this.#mayWait(what)) return undefined;
      if (!isLoading && this.#options.isRush?.() === true && areReady(states) && this.#isUnsaid(what, RUSH_MS_MAX)) {
        this.#options.onWaits?.(key);
        return undefined;
      }
    }
    this.#unsaidSinceMs.delete(what);
    // Drawn once for each plan as it was written, not at every look.
    const version = `${stored.metadata.uid}@${stored.metadata.generation}`;
    const drawn = this.#drawings.get(key);
    const text =
      drawn?.version === version || placement === undefined
        ? (drawn?.text ?? asPlan(stored).status?.summary ?? "")
        : planWords({ facts, ...(toldOf(world, plan, plan.revision) ?? { model }), nodes }, placement).text;
    this.#drawings.set(key, { version, text });
    const status = { ...states, summary: text };
    if (sameJson(stored["status"], status)) return "as it is";
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
    this.#unsaidSinceMs.delete(key);
    this.#unsaidSinceMs.delete(planOf(key));
  }

  /** Whether it has not been said for less than `milliseconds`. */
  #isUnsaid(what: string, milliseconds: number): boolean {
    const nowMs = this.#options.clock.monotonicMs();
    const sinceMs = this.#unsaidSinceMs.get(what) ?? nowMs;
    this.#unsaidSinceMs.set(what, sinceMs);
    return nowMs - sinceMs < milliseconds;
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

/**
 * Whether this will be over in a moment, most likely: a first probe is under way, or, while there is much to do, a new
 * model's ranks were made just now. Whoever waits is looked at again every few seconds.
 */
function isPassing(before: ShardedModelStatus | undefined, status: ShardedModelStatus, isRush: boolean): boolean {
  const [was, is] = [readyOf(before), readyOf(status)];
  const isPlanned = status.conditions?.some((each) => each.type === "Planned" && each.status === "True") === true;
  if (was === undefined) return isPlanned && (is?.reason === "Probing" || (isRush && is?.reason === "RanksStarting"));
  return was.status === "False" && was.reason !== "Probing" && is?.reason === "Probing";
}

const readyOf = (status: ShardedModelStatus | undefined) => status?.conditions?.find(({ type }) => type === "Ready");

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
const isLoadingIn = ({ rankStates = [] }: ShardPlanStatus): boolean =>
  rankStates.some(({ phase }) => phase === "Starting" || phase === "Missing") &&
  rankStates.every(({ phase }) => phase === "Starting" || phase === "Missing" || phase === "Ready");

const areReady = ({ rankStates = [] }: ShardPlanStatus): boolean => rankStates.every(({ ready }) => ready);
