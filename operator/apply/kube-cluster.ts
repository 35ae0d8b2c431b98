/** The door to a real cluster: reads from copies that watches keep, writes by server-side apply. */
import type { Model } from "../../core/gen/proto/tessellate/control/v1/Model.ts";
import type { ShardedModelStatus } from "../../core/gen/crds/shardedmodel.ts";
import { shardedModelResource } from "../../core/gen/crds/shardedmodel.ts";
import { shardPlanResource } from "../../core/gen/crds/shardplan.ts";
import { present } from "../../core/assert.ts";
import type { Authority } from "../../core/wire/authority.ts";
import type { WallClock } from "../clock.ts";
import type { KubeClient } from "../kube/client.ts";
import { turned, withTimes } from "../kube/conditions.ts";
import type { EventRecorder } from "../kube/events.ts";
import { type KubeObject, PODS, SECRETS, SERVICES, keyOf } from "../kube/objects.ts";
import { sameJson } from "../kube/same.ts";
import { modelSpecOf } from "../plan/model-spec.ts";
import { fullRankName } from "../plan/names.ts";
import { rankConfigOf } from "../plan/told.ts";
import { pictureOf } from "../plan/picture.ts";
import type { Action, Assignment, Placement, Plan, Probe, RankState, World } from "../plan/types.ts";
import type { Cluster, Observed } from "./cluster.ts";
import { FactsBook, factsIn } from "./facts.ts";
import { MODEL_LABEL, modelKey } from "./labels.ts";
import { asModel, asPlan, chainInstance, nodesFor, podsOf, rankStatesOf } from "./observe.ts";
import { METRICS_PORT, hostOf, modelService, ownerOf, rankPod, rankSecret } from "./rank-objects.ts";
import { assignmentsIn, shardPlanSpec, shardPlanStatus } from "./shard-plan.ts";
import type { Stores } from "./stores.ts";

export type ProbeOutcome = { readonly passed: boolean; readonly detail: string };

/** Sends one token through a chain, by a gateway that knows how the chain is now. */
export type Prober = (
  model: { readonly namespace: string; readonly name: string },
  chain: number,
) => Promise<ProbeOutcome>;

export type KubeClusterOptions = {
  readonly client: KubeClient;
  readonly clock: WallClock;
  readonly stores: Stores;
  readonly authority: Authority;
  readonly events: EventRecorder;
  readonly image: string; // of ranks
  readonly imagePullPolicy?: string | undefined;
  readonly probe: Prober;
  /** Asks a rank that has an address but is not ready why that is; undefined where it does not say. */
  readonly askRank?: (metricsAddress: string) => Promise<string | undefined>;
  readonly facts?: FactsBook;
};

type KnownProbe = Probe & { readonly instance: string };
type Failure = { readonly count: number; readonly notBeforeMs: number };

const CERTIFICATE_DAYS = 365;
const RESTART_MS_MAX = 300_000;

export class KubeCluster implements Cluster {
  readonly #options: KubeClusterOptions;
  readonly #facts: FactsBook;
  readonly #probes = new Map<string, readonly KnownProbe[]>();
  /** Objects that we wrote and whose copies may lag behind a little. */
  readonly #madePods: Recent;
  readonly #keptPlans: Recent;
  readonly #pictures = new Map<string, { readonly versions: string; readonly model: Model }>();
  readonly #services = new Set<string>(); // model uids
  readonly #failures = new Map<string, Failure>(); // by pod

  constructor(options: KubeClusterOptions) {
    this.#options = options;
    this.#facts = options.facts ?? new FactsBook(options.clock);
    this.#madePods = new Recent(options.clock);
    this.#keptPlans = new Recent(options.clock);
  }

  async observe(key: string): Promise<Observed | undefined> {
    const { stores } = this.#options;
    const stored = stores.models.get(key);
    if (stored === undefined || stored.metadata.deletionTimestamp !== undefined) {
      this.#forget(key);
      return undefined;
    }
    const object = asModel(stored);
    const planObject = this.#planOf(key);
    const shardPlan = planObject === undefined ? undefined : asPlan(planObject);
    const planned = shardPlan === undefined ? undefined : factsIn(shardPlan);
    const draft = modelSpecOf(object, planned?.ok ? planned.value.config : undefined);
    const facts = await this.#facts.of(key, draft, shardPlan);
    const pods = this.#podsOf(key);
    const probes = this.#probes.get(key) ?? [];
    const previous = shardPlan && { revision: shardPlan.spec.model.revision, assignments: assignmentsIn(shardPlan) };
    const world = {
      model: "code" in facts ? draft : modelSpecOf(object, facts.config),
      facts,
      nodes: nodesFor(stores, key, pods),
      ranks: await this.#inTheirOwnWords(rankStatesOf(stores, pods)),
      previous,
      probes: probes.filter(({ chain, instance }) => instance === chainInstance(pods, chain)),
    };
    return { world, object };
  }

  async keep({ world, object }: Observed, { placement, revision }: Plan): Promise<void> {
    const { client, events } = this.#options;
    const { model, facts } = world;
    if (placement === undefined || "code" in facts) return;
    const spec = shardPlanSpec(model, facts, revision, placement);
    const before = this.#planOf(modelKey(model));
    if (before !== undefined && sameJson(before["spec"], spec)) return;
    const { name, namespace } = model;
    const kept = await client.apply(shardPlanResource, {
      metadata: { name, namespace, labels: { [MODEL_LABEL]: name }, ownerReferences: [ownerOf(model)] },
      spec: { ...spec },
    });
    this.#keptPlans.set(modelKey(model), kept);
    const reason = before === undefined ? "Planned" : "Replanned";
    const note = `${placement.assignments.length} ranks on ${new Set(placement.assignments.map(({ node }) => node)).size} nodes: see ShardPlan ${name}`;
    await events.record(shardedModelResource, asObject(object), { type: "Normal", reason, action: "Plan", note });
  }

  async perform(observed: Observed, plan: Plan, action: Action): Promise<void> {
    switch (action.do) {
      case "create-rank":
        return this.#createRank(observed, plan, action.assignment);
      case "delete-rank":
        return this.#deleteRank(observed, action.name, action.why);
      case "probe":
        return this.#probe(observed.world, action.chain);
    }
  }

  async report({ world, object }: Observed, plan: Plan): Promise<void> {
    const { client, clock, events } = this.#options;
    const { model } = world;
    const before = object.status;
    const generation = object.metadata.generation ?? 1;
    const conditions = withTimes(before?.conditions, plan.conditions, generation, clock.wallMs());
    const status: ShardedModelStatus = {
      observedGeneration: generation,
      readyReplicas: plan.readyChainCount,
      chains: `${plan.readyChainCount}/${model.replicas}`,
      selector: `${MODEL_LABEL}=${model.name}`,
      ...placementStatus(world, plan.placement, before),
      conditions: conditions.map((condition) => ({ ...condition, type: conditionType(condition.type) })),
    };
    if (!sameJson(before, status)) {
      const { name, namespace } = model;
      await client.apply(shardedModelResource, { metadata: { name, namespace }, status }, "status");
      for (const { type, status: value, reason, message } of turned(before?.conditions, plan.conditions)) {
        const happening = {
          type: isTrouble(type, value, reason) ? "Warning" : "Normal",
          reason,
          action: type,
          note: message || reason,
        } as const;
        await events.record(shardedModelResource, asObject(object), happening);
      }
    }
    await this.#reportPlan(world, plan);
  }

  /**
   * All models as gateways and the ledger must know them, from copies alone: a source or a server that is away takes
   * nothing from what serves.
   */
  picture(): readonly Model[] {
    const { stores } = this.#options;
    return stores.models.all().flatMap((stored): readonly Model[] => {
      const key = keyOf(stored);
      const planObject = this.#planOf(key);
      if (planObject === undefined || stored.metadata.deletionTimestamp !== undefined) return [];
      const pods = this.#podsOf(key);
      const versions = [stored, planObject, ...pods]
        .map(({ metadata }) => `${metadata.uid}@${metadata.resourceVersion}`)
        .join(" ");
      const known = this.#pictures.get(key);
      if (known?.versions === versions) return [known.model];
      const shardPlan = asPlan(planObject);
      const facts = factsIn(shardPlan);
      if (!facts.ok) return [];
      const assignments = assignmentsIn(shardPlan);
      const { revision } = shardPlan.spec.model;
      const told = rankStatesOf(stores, pods).filter(
        (rank) => rank.revision === revision && isAssigned(rank, assignments),
      );
      const model = pictureOf(modelSpecOf(asModel(stored), facts.value.config), facts.value, assignments, told);
      this.#pictures.set(key, { versions, model });
      return [model];
    });
  }

  async #reportPlan({ model, ranks }: World, { placement }: Plan): Promise<void> {
    const stored = this.#planOf(modelKey(model));
    if (stored === undefined || placement === undefined) return;
    const status = shardPlanStatus(model, placement.assignments, ranks, stored.metadata.generation ?? 1);
    if (sameJson(stored["status"], status)) return;
    const { name, namespace } = model;
    const kept = await this.#options.client.apply(
      shardPlanResource,
      { metadata: { name, namespace }, status },
      "status",
    );
    this.#keptPlans.set(modelKey(model), kept);
  }

  async #createRank({ world, object }: Observed, { placement, revision }: Plan, assignment: Assignment): Promise<void> {
    const { client, authority, events, image, imagePullPolicy } = this.#options;
    const { model, facts } = world;
    if ("code" in facts || placement === undefined) return;
    const node = present(
      world.nodes.find(({ name }) => name === assignment.node),
      "the plan places ranks on nodes of its world",
    );
    if (!this.#services.has(model.uid)) {
      await client.apply(SERVICES, modelService(model));
      this.#services.add(model.uid);
    }
    const issued = await authority.issue(
      { kind: "rank", name: fullRankName(model, assignment) },
      { days: CERTIFICATE_DAYS },
    );
    const config = rankConfigOf(model, facts, assignment, placement.assignments, node, hostOf(model, node));
    await client.apply(SECRETS, rankSecret(model, assignment, config, issued));
    const pod = rankPod({
      model,
      assignment,
      node,
      revision,
      neighbours: config.neighbours,
      image,
      ...(imagePullPolicy === undefined ? {} : { imagePullPolicy }),
    });
    const made = await client.apply(PODS, pod);
    this.#madePods.set(keyOf(made), made);
    const note = `${made.metadata.name} on ${node.name} of ${node.provider}, layers ${assignment.layers.start} to ${assignment.layers.end}`;
    await events.record(shardedModelResource, asObject(object), {
      type: "Normal",
      reason: "RankCreated",
      action: "CreateRank",
      note,
    });
  }

  async #deleteRank({ world, object }: Observed, name: string, why: string): Promise<void> {
    const { client, stores, events } = this.#options;
    const { namespace } = world.model;
    const key = `${namespace}/${name}`;
    const rank = world.ranks.find((each) => each.name === name);
    if (rank?.phase === "Failed" && this.#mustWait(key)) return;
    const pod = stores.pods.get(key) ?? this.#madePods.get(key);
    // The machine is gone: nobody is left to end the process in good order, and its name is needed elsewhere.
    const grace = rank?.phase === "Lost" ? { graceSeconds: 0 } : {};
    await client.delete(PODS, { namespace, name }, { uid: pod?.metadata.uid, ...grace });
    this.#madePods.delete(key);
    await client.delete(SECRETS, { namespace, name });
    const type = rank?.phase === "Failed" || rank?.phase === "Lost" ? "Warning" : "Normal";
    await events.record(shardedModelResource, asObject(object), {
      type,
      reason: "RankDeleted",
      action: "DeleteRank",
      note: `${name}: ${why}`,
    });
  }

  /** A rank that keeps failing is made anew after 0, 1, 2, 4 … 300 s. */
  #mustWait(key: string): boolean {
    const nowMs = this.#options.clock.monotonicMs();
    const failure = this.#failures.get(key);
    if (failure !== undefined && nowMs < failure.notBeforeMs) return true;
    const count = (failure?.count ?? 0) + 1;
    this.#failures.set(key, { count, notBeforeMs: nowMs + Math.min(RESTART_MS_MAX, 500 * 2 ** count) });
    return false;
  }

  async #probe({ model }: World, chain: number): Promise<void> {
    const key = modelKey(model);
    const instance = chainInstance(this.#podsOf(key), chain);
    const outcome = await this.#options.probe(model, chain);
    const others = (this.#probes.get(key) ?? []).filter((probe) => probe.chain !== chain);
    this.#probes.set(key, [...others, { ...outcome, chain, instance }]);
  }

  /** The plan as written last, by us or as the copy has it: the spec's generation says which is newer. */
  #planOf(key: string): KubeObject | undefined {
    const copy = this.#options.stores.plans.get(key);
    const kept = this.#keptPlans.get(key);
    if (kept === undefined) return copy;
    if (copy === undefined) return kept;
    return (copy.metadata.generation ?? 0) < (kept.metadata.generation ?? 0) ? kept : copy;
  }

  #podsOf(key: string): readonly KubeObject[] {
    const { stores } = this.#options;
    const made = this.#madePods.all();
    // Once the copy has shown it, the copy alone says whether it is still there.
    for (const [name, pod] of made) {
      if (stores.pods.get(name)?.metadata.uid === pod.metadata.uid) this.#madePods.delete(name);
    }
    return podsOf(stores, key, this.#madePods.all());
  }

  /** What ranks that start say of themselves: a pod's status knows only that a probe failed. */
  #inTheirOwnWords(ranks: readonly RankState[]): Promise<readonly RankState[]> {
    const { askRank } = this.#options;
    return Promise.all(
      ranks.map(async (rank) => {
        if (askRank === undefined || rank.phase !== "Starting" || rank.address === undefined) return rank;
        const detail = await askRank(rank.address.replace(/:\d+$/, `:${METRICS_PORT}`));
        return detail === undefined ? rank : { ...rank, detail };
      }),
    );
  }

  #forget(key: string): void {
    this.#facts.forget(key);
    this.#probes.delete(key);
    this.#pictures.delete(key);
    this.#keptPlans.delete(key);
  }
}

/** Whether a rank holds what the plan gives it. */
const isAssigned = ({ assignment }: RankState, assignments: readonly Assignment[]): boolean =>
  assignments.some(
    ({ chain, segment, rank, node, layers }) =>
      chain === assignment.chain &&
      segment === assignment.segment &&
      rank === assignment.rank &&
      node === assignment.node &&
      sameJson(layers, assignment.layers),
  );

/** Copies lag by milliseconds; an object that is not there after this long was deleted by somebody else. */
const LAG_MS = 10_000;

class Recent {
  readonly #clock: WallClock;
  readonly #entries = new Map<string, { readonly object: KubeObject; readonly untilMs: number }>();

  constructor(clock: WallClock) {
    this.#clock = clock;
  }

  set(key: string, object: KubeObject): void {
    this.#entries.set(key, { object, untilMs: this.#clock.monotonicMs() + LAG_MS });
  }

  get(key: string): KubeObject | undefined {
    return this.all().get(key);
  }

  delete(key: string): void {
    this.#entries.delete(key);
  }

  all(): ReadonlyMap<string, KubeObject> {
    const nowMs = this.#clock.monotonicMs();
    for (const [key, { untilMs }] of this.#entries) if (untilMs <= nowMs) this.#entries.delete(key);
    return new Map([...this.#entries].map(([key, { object }]) => [key, object]));
  }
}

const asObject = (model: object) => model as KubeObject;

function conditionType(type: string): "Planned" | "WeightsReady" | "Ready" {
  return type === "Planned" || type === "WeightsReady" ? type : "Ready";
}

const isTrouble = (type: string, value: string, reason: string): boolean =>
  value === "False" && (type === "Planned" || reason === "ProbeFailed");

/** What the status says about the plan in force; where none can be made, what it said before stays. */
function placementStatus(
  { model, facts }: World,
  placement: Placement | undefined,
  before: ShardedModelStatus | undefined,
): Partial<ShardedModelStatus> {
  if (placement === undefined || "code" in facts) {
    const { replicas = 0, root, plan, providerCount, estimate } = before ?? {};
    return {
      replicas,
      ...(root === undefined ? {} : { root }),
      ...(plan === undefined ? {} : { plan }),
      ...(providerCount === undefined ? {} : { providerCount }),
      ...(estimate === undefined ? {} : { estimate }),
    };
  }
  const { assignments, estimate } = placement;
  const chainCount = new Set(assignments.map(({ chain }) => chain)).size;
  const { millisecondsPerToken, bottleneck } = estimate;
  return {
    replicas: chainCount,
    root: facts.root,
    plan: model.name,
    providerCount: new Set(assignments.map(({ provider }) => provider)).size,
    ...(millisecondsPerToken > 0
      ? {
          estimate: {
            tokensPerSecond: ((1000 * chainCount) / millisecondsPerToken).toFixed(1),
            millisecondsPerToken: millisecondsPerToken.toFixed(1),
            bottleneck,
          },
        }
      : {}),
  };
}
