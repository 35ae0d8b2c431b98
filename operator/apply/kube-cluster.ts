/** The door to a real cluster: reads from copies that watches keep, writes by server-side apply. */
import type { Model } from "../../core/gen/proto/tessellate/control/v1/Model.ts";
import { shardedModelResource } from "../../core/gen/crds/shardedmodel.ts";
import { shardNodeResource } from "../../core/gen/crds/shardnode.ts";
import { shardPlanResource } from "../../core/gen/crds/shardplan.ts";
import { present } from "../../core/assert.ts";
import type { ReadProgress } from "../../core/read-progress.ts";
import type { Authority } from "../../core/wire/authority.ts";
import type { WallClock } from "../clock.ts";
import type { KubeClient } from "../kube/client.ts";
import type { EventRecorder } from "../kube/events.ts";
import { type KubeObject, PODS, SECRETS, keyOf } from "../kube/objects.ts";
import { Recent } from "../kube/recent.ts";
import { sameItems, sameJson } from "../kube/same.ts";
import { withLeaving } from "../plan/leaving.ts";
import { modelSpecOf } from "../plan/model-spec.ts";
import { plannedPromise } from "../plan/words/plan-words.ts";
import type { Assignment, Plan, RankState, World } from "../plan/types.ts";
import { Budgets } from "./budgets.ts";
import { ChainProbes, type Prober } from "./chain-probes.ts";
import { Leftovers } from "./clear-away.ts";
import type { Cluster, CreateRank, Observed, OtherAction } from "./cluster.ts";
import { FactsBook, factsIn } from "./facts.ts";
import { MODEL_LABEL, RENEW_ANNOTATION, modelKey } from "./labels.ts";
import type { BrakeBook } from "./brake-book.ts";
import { bytesBy } from "./planned-bytes.ts";
import { Proposals } from "./proposals.ts";
import { NodesKnown, asModel, asPlan, podsOf, rankStatesOf } from "./observe.ts";
import { RankMaker } from "./rank-maker.ts";
import { ownerOf } from "./owner.ts";
import { METRICS_PORT } from "./rank-objects.ts";
import { rankStateOf } from "./rank-state.ts";
import { RepairBook, type Repaired } from "./repairs.ts";
import { Reports } from "./reports.ts";
import { type RolloutEnd, rolloutEnd } from "./rollout-ends.ts";
import { outgoingIn, withRollout } from "./rollout-record.ts";
import { assignmentsIn, drainingIn, drainingSpec, shardPlanSpec, standingPlanIn, trialSpec } from "./shard-plan.ts";
import { pictureOfAll, plannedAs, rollsOf, toldOf } from "./sides.ts";
import { type DemandOf, Sleepers, keepAsleep } from "./sleepers.ts";
import type { Stores } from "./stores.ts";
import { underTaints } from "./taints.ts";
import type { Turn } from "../turns.ts";

export type { Prober } from "./chain-probes.ts";

/** What a rank that starts says of itself. */
export type RankWords = { readonly detail: string; readonly progress?: ReadProgress };

export type KubeClusterOptions = {
  readonly client: KubeClient;
  readonly clock: WallClock;
  readonly stores: Stores;
  readonly authority: Authority;
  readonly events: EventRecorder;
  readonly image: string; // of ranks
  readonly imagePullPolicy?: string | undefined;
  readonly probe: Prober;
  /** Whether every gateway says that nothing runs any more on a chain that drains; left out: nobody knows. */
  readonly isQuiet?: (model: { readonly namespace: string; readonly name: string }, chain: number) => boolean;
  /** A model's probe has an outcome. */
  readonly onProbed: (key: string, passed: boolean) => void;
  /** Whether so much waits that what is for people alone had better come later; left out: never. */
  readonly isRush?: () => boolean;
  /** Something is to be said of a model once there is less to do: it wants another look then. */
  readonly onWaits?: (key: string) => void;
  /** Asks a rank that has an address but is not ready why that is; undefined where it does not say. */
  readonly askRank?: (metricsAddress: string) => Promise<RankWords | undefined>;
  readonly facts?: FactsBook;
  readonly demandOf?: DemandOf;
  readonly brake: BrakeBook;
  readonly onRepaired?: (repaired: Repaired) => void;
  readonly onRolled?: (end: RolloutEnd) => void;
};

type Failure = { readonly count: number; readonly notBeforeMs: number };

const RESTART_MS_MAX = 300_000;

export class KubeCluster implements Cluster {
  readonly #options: KubeClusterOptions;
  readonly #facts: FactsBook;
  readonly #proposals: Proposals;
  readonly #probes: ChainProbes;
  readonly #ranks: RankMaker;
  readonly #reports: Reports;
  readonly #nodes = new NodesKnown();
  /** Plans that we wrote and whose copies may lag behind a little. */
  readonly #keptPlans: Recent;
  readonly #pictures = new Map<string, { readonly objects: readonly KubeObject[]; readonly model: Model }>();
  readonly #failures = new Map<string, Failure>(); // by pod
  readonly #sleepers: Sleepers;
  readonly #leftovers: Leftovers;
  readonly #repairs = new RepairBook();
  readonly #budgets: Budgets;

  constructor(options: KubeClusterOptions) {
    this.#options = options;
    this.#facts = options.facts ?? new FactsBook(options.clock);
    this.#keptPlans = new Recent(options.clock);
    this.#leftovers = new Leftovers(options.client);
    this.#ranks = new RankMaker(options);
    this.#reports = new Reports(options);
    this.#budgets = new Budgets({ ...options, known: options.stores.budgets });
    this.#proposals = new Proposals(options);
    this.#probes = new ChainProbes(options.probe, options.onProbed);
    this.#sleepers = new Sleepers(options.clock, options.demandOf);
  }

  async observe(key: string): Promise<Observed | undefined> {
    const { stores, clock, image } = this.#options;
    const stored = stores.models.get(key);
    if (stored === undefined || stored.metadata.deletionTimestamp !== undefined) {
      if (stored === undefined) await this.#clearAway(key);
      this.#forget(key);
      return undefined;
    }
    this.#leftovers.forget(key);
    const object = asModel(stored);
    const planObject = this.#planOf(key);
    const shardPlan = planObject === undefined ? undefined : asPlan(planObject);
    const planned = shardPlan === undefined ? undefined : factsIn(shardPlan);
    const draft = modelSpecOf(object, planned?.ok ? planned.value.config : undefined);
    const facts = await this.#facts.of(key, draft, shardPlan);
    const pods = this.#podsOf(key);
    const previous = shardPlan && standingPlanIn(shardPlan);
    for (const pod of pods) if (rankStateOf(pod, false)?.phase === "Ready") this.#failures.delete(keyOf(pod));
    const model = "code" in facts ? draft : modelSpecOf(object, facts.config);
    const known = shardPlan !== undefined && planned?.ok ? { plan: shardPlan, planned: planned.value } : undefined;
    const isQuiet = (chain: number) => this.#options.isQuiet?.(model, chain) === true;
    const nowMs = clock.wallMs();
    const rolls = "code" in facts ? {} : { rolls: rollsOf(model, facts, known, { image, nowMs, isQuiet }) };
    const outgoing = (known && rolls.rolls?.outgoing) ?? (shardPlan === undefined ? [] : outgoingIn(shardPlan));
    const standing = previous === undefined ? [] : [previous, ...outgoing.map(({ plan }) => plan)];
    const proposals = this.#proposals.of(draft);
    const assignments = [...standing, proposals.proposed ?? []].flat().flatMap((plan) => plan.assignments);
    const wanted = { key, nodeSelector: model.placement.nodeSelector, pods, assignments };
    const world = {
      model,
      facts,
      ...rolls,
      draining: drainingIn(shardPlan, nowMs, isQuiet),
      unproven: shardPlan?.spec.unproven ?? [],
      nodes: this.#nodes
        .for(stores, wanted, nowMs)
        .map((node) => underTaints(node, stores.machines.get(node.machine ?? node.name), model)),
      ranks: await this.#inTheirOwnWords(rankStatesOf(stores, pods)),
      previous,
      probes: this.#probes.of(draft, standing, object.status, pods, shardPlan?.spec.rollout),
      ...proposals,
      ...this.#sleepers.demandOn(draft, previous),
    };
    const read = [stored, planObject, stores.budgets.get(key), ...pods];
    return { world: this.#options.brake.hold(world, pods), object, read };
  }

  async keep(observed: Observed, plan: Plan): Promise<void> {
    const { client, events, stores } = this.#options;
    const { world, object } = observed;
    if (plan.asleep !== undefined) {
      const key = modelKey(world.model);
      const kept = await keepAsleep(client, this.#planOf(key), plan.asleep);
      if (kept !== undefined) this.#keptPlans.set(key, kept);
      return;
    }
    const { placement, revision } = plan;
    const { model, facts } = world;
    await this.#proposals.keep(world, asObject(object), plan);
    if (placement === undefined || "code" in facts) return;
    const { rolled } = plan;
    const { model: told, facts: read } = plannedAs(model, facts, rolled);
    const before = this.#planOf(modelKey(model));
    const givenUp = this.#options.brake.written(world, plan, before && asPlan(before));
    const nowMs = this.#options.clock.wallMs();
    const draining = drainingSpec(plan.leaving, before && asPlan(before).spec, nowMs);
    const all = withLeaving(placement, plan.leaving, plan.trial);
    const plain = { ...shardPlanSpec(told, read, revision, all), ...draining, ...trialSpec(plan), ...givenUp };
    const spec = rolled === undefined ? plain : withRollout(plain, model, rolled, before && asPlan(before).spec, nowMs);
    if (before !== undefined && sameJson(before["spec"], spec)) return;
    this.#reserve(world, assignmentsIn({ spec }), before === undefined ? [] : assignmentsIn(asPlan(before)));
    const { name, namespace } = model;
    try {
      const kept = await client.apply(shardPlanResource, {
        metadata: { name, namespace, labels: { [MODEL_LABEL]: name }, ownerReferences: [ownerOf(model)] },
        spec,
      });
      this.#keptPlans.set(modelKey(model), kept);
      stores.planned.put(kept);
    } catch (error) {
      stores.planned.release(modelKey(model), before);
      throw error;
    }
    if (before !== undefined && sameJson(asPlan(before).spec.chains, spec.chains)) return; // the same, seen anew
    const reason = before === undefined ? "Planned" : "Replanned";
    const note = `${plannedPromise(placement)}: see ShardPlan ${name}`;
    events.record(shardedModelResource, asObject(object), { type: "Normal", reason, action: "Plan", note });
  }

  /** Throws where another model, planned at the same time, has taken memory that this one was planned with. */
  #reserve({ model, nodes }: World, assignments: readonly Assignment[], before: readonly Assignment[]): void {
    const { planned } = this.#options.stores;
    const key = modelKey(model);
    const had = bytesBy(before);
    const seen = new Map(nodes.map((node) => [node.name, node.freeBytes]));
    for (const [node, bytes] of bytesBy(assignments)) {
      const freeBytes = this.#nodes.freeBytes(node) - planned.besides(key, node);
      if (bytes <= Math.max(freeBytes, had.get(node) ?? 0) || freeBytes >= (seen.get(node) ?? 0)) continue;
      throw new Error(`another model was given memory of node ${node} at the same time: planned again`);
    }
    planned.reserve(key, assignments);
  }

  async make({ world }: Observed, plan: Plan, actions: readonly CreateRank[]): Promise<void> {
    const wanted = actions.flatMap(({ assignment, revision = plan.revision }) => {
      const told = toldOf(world, plan, revision);
      const node = world.nodes.find(({ name }) => name === assignment.node);
      if (told === undefined) return [];
      return [{ ...told, revision, assignment, node: present(node, "the plan places ranks on nodes of its world") }];
    });
    const key = modelKey(world.model);
    try {
      await this.#ranks.make(wanted);
    } finally {
      const names = new Set(this.#podsOf(key).map(({ metadata }) => metadata.name));
      for (const { name } of actions) if (names.has(name)) this.#repairs.made(key, name);
    }
  }

  async perform(observed: Observed, plan: Plan, action: OtherAction): Promise<void> {
    switch (action.do) {
      case "delete-rank":
        return this.#deleteRank(observed, action.name, action.why);
      case "probe":
        return this.#probes.ask(observed.world.model, plan, action, this.#podsOf(modelKey(observed.world.model)));
    }
  }

  async report(observed: Observed, plan: Plan): Promise<boolean> {
    const { clock, events, stores, onRepaired, onRolled } = this.#options;
    const { world, object } = observed;
    const key = modelKey(world.model);
    const made = this.#ranks.takeWords(key).join("; ");
    const happening = { type: "Normal", reason: "RankCreated", action: "CreateRank", note: made } as const;
    if (made !== "") events.record(shardedModelResource, asObject(object), happening);
    for (const { node, why } of stores.drains.note(key, plan.stuck)) {
      const about = stores.shardNodes.get(node);
      const blocked = { type: "Warning", reason: "DrainBlocked", action: "Drain", note: `${key}: ${why}` } as const;
      if (about !== undefined) events.record(shardNodeResource, about, blocked);
    }
    const stored = this.#planOf(key);
    const isModelSaid = await this.#reports.reportModel(observed, plan, (before) => {
      const { repairs, over } = this.#repairs.look(world, plan, before, stored && asPlan(stored), clock.wallMs());
      const end = rolloutEnd(before?.rollout, plan, clock.wallMs());
      const onTold = () => {
        if (over !== undefined) onRepaired?.(over);
        if (end !== undefined) onRolled?.(end);
      };
      return { fields: repairs, onTold };
    });
    const kept = await this.#reports.reportPlan(world, plan, stored);
    if (kept !== undefined && kept !== "as it is") this.#keptPlans.set(key, kept);
    await this.#renewCertificates(world, plan);
    await this.#ranks.clearUnmounted(world.model, this.#podsOf(key));
    if (plan.readyChainCount > 0) await this.#budgets.keep(world.model);
    return made === "" && isModelSaid && kept === "as it is" && !this.#budgets.waits(key);
  }

  /**
   * All models as gateways and the ledger must know them, from copies alone: a source or a server that is away takes
   * nothing from what serves.
   */
  async picture(turn: Turn): Promise<readonly Model[]> {
    const models: Model[] = [];
    for (const stored of this.#options.stores.models.all()) {
      const model = this.#pictureOf(keyOf(stored));
      if (model !== undefined) models.push(model);
      const rest = turn();
      if (rest !== undefined) await rest;
    }
    return models;
  }

  /** The same object for as long as nothing of the model has changed. */
  #pictureOf(key: string): Model | undefined {
    const { stores } = this.#options;
    const stored = stores.models.get(key); // it may have gone while others had their turn
    const planObject = this.#planOf(key);
    if (stored === undefined || planObject === undefined || stored.metadata.deletionTimestamp !== undefined) return;
    const pods = this.#podsOf(key);
    const objects = [stored, planObject, ...pods]; // whatever changes comes as another object
    const known = this.#pictures.get(key);
    if (known !== undefined && sameItems(objects, known.objects)) return known.model;
    const shardPlan = asPlan(planObject);
    const facts = factsIn(shardPlan);
    if (!facts.ok) return undefined;
    const model = pictureOfAll(asModel(stored), shardPlan, facts.value, rankStatesOf(stores, pods));
    this.#pictures.set(key, { objects, model });
    return model;
  }

  /** Running ranks take a new certificate up from their Secret; nothing restarts. */
  async #renewCertificates(world: World, plan: Plan): Promise<void> {
    const { client, clock, stores } = this.#options;
    const { model, nodes, ranks } = world;
    const now = new Date(clock.wallMs()).toISOString();
    for (const { name, assignment, phase, revision } of ranks) {
      const pod = stores.pods.get(`${model.namespace}/${name}`);
      const after = pod?.metadata.annotations?.[RENEW_ANNOTATION];
      const node = nodes.find((each) => each.name === assignment.node);
      if (pod === undefined || phase !== "Ready" || node === undefined || after === undefined || after > now) continue;
      const told = toldOf(world, plan, revision);
      if (told === undefined) continue;
      const renewAfter = await this.#ranks.renew({ ...told, assignment, node }, pod);
      const annotations = { [RENEW_ANNOTATION]: renewAfter };
      await client.patch(PODS, { namespace: model.namespace, name }, { metadata: { annotations } });
    }
  }

  async #deleteRank({ world, object }: Observed, name: string, why: string): Promise<void> {
    const { client, stores, events } = this.#options;
    const { namespace } = world.model;
    const key = `${namespace}/${name}`;
    const rank = world.ranks.find((each) => each.name === name);
    if (rank?.phase === "Failed" && this.#mustWait(key)) return;
    const pod = stores.pods.get(key) ?? this.#ranks.unseen(modelKey(world.model)).get(key);
    this.#repairs.takenAway(world, name);
    // The machine is gone: nobody is left to end the process in good order, and its name is needed elsewhere.
    const grace = rank?.phase === "Lost" ? { graceSeconds: 0 } : {};
    // The last to mount a Secret takes it along, and it goes first: after a crash between the two it is the pod that says
    // what is still to be done. What runs has its files already.
    const secret =
      pod === undefined
        ? undefined
        : this.#ranks.going(modelKey(world.model), pod, this.#podsOf(modelKey(world.model)));
    if (secret !== undefined) await client.delete(SECRETS, { namespace, name: secret });
    await client.delete(PODS, { namespace, name }, { uid: pod?.metadata.uid, ...grace });
    this.#ranks.deleted(modelKey(world.model), key);
    const type = rank?.phase === "Failed" || rank?.phase === "Lost" ? "Warning" : "Normal";
    events.record(shardedModelResource, asObject(object), {
      type,
      reason: "RankDeleted",
      action: "DeleteRank",
      note: `${name}: ${why}`,
    });
  }

  /** A rank that keeps failing is made anew after 0, 1, 2, 4 … 300 s. */
  #mustWait(key: string): boolean {
    const nowMs = this.#options.clock.monotonicMs();
    for (const [pod, { notBeforeMs }] of this.#failures)
      if (nowMs - notBeforeMs > RESTART_MS_MAX) this.#failures.delete(pod); // gone with its model, or well since
    const failure = this.#failures.get(key);
    if (failure !== undefined && nowMs < failure.notBeforeMs) return true;
    const count = (failure?.count ?? 0) + 1;
    this.#failures.set(key, { count, notBeforeMs: nowMs + Math.min(RESTART_MS_MAX, 500 * 2 ** count) });
    return false;
  }

  async #clearAway(key: string): Promise<void> {
    const { isRush, onWaits, stores } = this.#options;
    const left = this.#leftovers;
    await left.end(key, this.#podsOf(key));
    // A pod's end is told, and leads here again.
    if (!left.has(key) || stores.pods.indexed(key).length > 0) return;
    if (isRush?.() === true) onWaits?.(key);
    else await left.clearSecrets(key);
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
    return podsOf(this.#options.stores, key, this.#ranks.unseen(key));
  }

  /** What ranks that start say of themselves: a pod's status knows only that a probe failed. */
  #inTheirOwnWords(ranks: readonly RankState[]): Promise<readonly RankState[]> {
    const { askRank } = this.#options;
    return Promise.all(
      ranks.map(async (rank) => {
        if (askRank === undefined || rank.phase !== "Starting" || rank.address === undefined) return rank;
        const words = await askRank(rank.address.replace(/:\d+$/, `:${METRICS_PORT}`));
        return words === undefined ? rank : { ...rank, ...words };
      }),
    );
  }

  #forget(key: string): void {
    this.#facts.forget(key);
    this.#probes.forget(key);
    this.#pictures.delete(key);
    this.#keptPlans.delete(key);
    this.#sleepers.forget(key);
    this.#repairs.forget(key);
    this.#options.brake.forget(key);
    this.#ranks.forget(key);
    this.#budgets.forget(key);
    this.#options.stores.drains.forget(key);
    this.#options.stores.seen.forget(key);
    this.#reports.forget(key);
  }
}

const asObject = (model: object) => model as KubeObject;
