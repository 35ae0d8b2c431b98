/** The door to a real cluster: reads from copies that watches keep, writes by server-side apply. */
import type { Model } from "../../core/gen/proto/tessellate/control/v1/Model.ts";
import { shardedModelResource } from "../../core/gen/crds/shardedmodel.ts";
import { shardPlanResource } from "../../core/gen/crds/shardplan.ts";
import { present } from "../../core/assert.ts";
import type { RankConfig } from "../../core/rank-config.ts";
import type { ReadProgress } from "../../core/read-progress.ts";
import type { Authority } from "../../core/wire/authority.ts";
import type { WallClock } from "../clock.ts";
import { type KubeClient, isStatus } from "../kube/client.ts";
import { turned } from "../kube/conditions.ts";
import type { EventRecorder } from "../kube/events.ts";
import { CLAIM_TEMPLATES, type KubeObject, PODS, SECRETS, SERVICES, keyOf } from "../kube/objects.ts";
import { Recent } from "../kube/recent.ts";
import { sameJson } from "../kube/same.ts";
import { modelSpecOf, plannedModel } from "../plan/model-spec.ts";
import { nodeDnsName } from "../../core/identity.ts";
import { fullRankName } from "../plan/names.ts";
import { rankConfigOf } from "../plan/told.ts";
import { pictureOf } from "../plan/picture.ts";
import { planWords, plannedPromise } from "../plan/words/plan-words.ts";
import type { Action, Assignment, ModelSpec, Plan, RankState, World } from "../plan/types.ts";
import type { Cluster, Observed } from "./cluster.ts";
import { FactsBook, factsIn } from "./facts.ts";
import { MODEL_LABEL, RENEW_ANNOTATION, modelKey } from "./labels.ts";
import { type KnownProbe, inheritedProbes } from "./known-probes.ts";
import type { BrakeBook } from "./brake-book.ts";
import { isTrouble, modelStatus } from "./model-status.ts";
import { Proposals } from "./proposals.ts";
import { asModel, asPlan, chainInstance, isAssigned, nodesFor, podsOf, rankStatesOf } from "./observe.ts";
import { METRICS_PORT, claimTemplate, hostOf, modelService, ownerOf, rankPod, rankSecret } from "./rank-objects.ts";
import { rankStateOf } from "./rank-state.ts";
import { RepairBook, type Repaired } from "./repairs.ts";
import { shardPlanSpec, shardPlanStatus, standingPlanIn } from "./shard-plan.ts";
import { type DemandOf, Sleepers, keepAsleep } from "./sleepers.ts";
import type { Stores } from "./stores.ts";

export type ProbeOutcome = { readonly passed: boolean; readonly detail: string };

/** Sends one token through a chain, by a gateway that knows how the chain is now. */
export type Prober = (
  model: { readonly namespace: string; readonly name: string },
  chain: number,
) => Promise<ProbeOutcome>;

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
  /** Asks a rank that has an address but is not ready why that is; undefined where it does not say. */
  readonly askRank?: (metricsAddress: string) => Promise<RankWords | undefined>;
  readonly facts?: FactsBook;
  readonly demandOf?: DemandOf;
  readonly brake: BrakeBook;
  readonly onRepaired?: (repaired: Repaired) => void;
};

type Failure = { readonly count: number; readonly notBeforeMs: number };

const CERTIFICATE_DAYS = 365;
const RENEW_AFTER_DAYS = 240;
const DAY_MS = 86_400_000;
const RESTART_MS_MAX = 300_000;

export class KubeCluster implements Cluster {
  readonly #options: KubeClusterOptions;
  readonly #facts: FactsBook;
  readonly #proposals: Proposals;
  readonly #probes = new Map<string, readonly KnownProbe[]>();
  /** Objects that we wrote and whose copies may lag behind a little. */
  readonly #madePods: Recent;
  readonly #keptPlans: Recent;
  readonly #pictures = new Map<string, { readonly versions: string; readonly model: Model }>();
  readonly #drawings = new Map<string, { readonly version: string; readonly text: string }>(); // of plans, in words
  readonly #services = new Set<string>(); // model uids
  readonly #failures = new Map<string, Failure>(); // by pod
  readonly #sleepers: Sleepers;
  readonly #repairs = new RepairBook();

  constructor(options: KubeClusterOptions) {
    this.#options = options;
    this.#facts = options.facts ?? new FactsBook(options.clock);
    this.#madePods = new Recent(options.clock);
    this.#keptPlans = new Recent(options.clock);
    this.#proposals = new Proposals(options);
    this.#sleepers = new Sleepers(options.clock, options.demandOf);
  }

  async observe(key: string): Promise<Observed | undefined> {
    const { stores, clock } = this.#options;
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
    const previous = shardPlan && standingPlanIn(shardPlan);
    const probes = this.#probes.get(key) ?? inheritedProbes(draft, previous, object.status, pods);
    this.#probes.set(key, probes);
    for (const pod of pods) if (rankStateOf(pod, false)?.phase === "Ready") this.#failures.delete(keyOf(pod));
    const world = {
      model: "code" in facts ? draft : modelSpecOf(object, facts.config),
      facts,
      nodes: nodesFor(stores, key, pods, clock.wallMs()),
      ranks: await this.#inTheirOwnWords(rankStatesOf(stores, pods)),
      previous,
      probes: probes.filter(
        ({ chain, instance }) => previous !== undefined && instance === chainInstance(draft, previous, pods, chain),
      ),
      ...this.#proposals.of(draft),
      ...this.#sleepers.demandOn(draft, previous),
    };
    return { world: this.#options.brake.hold(world, pods), object };
  }

  async keep(observed: Observed, plan: Plan): Promise<void> {
    const { client, events } = this.#options;
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
    const before = this.#planOf(modelKey(model));
    const givenUp = this.#options.brake.written(world, placement, before && asPlan(before));
    const spec = { ...shardPlanSpec(model, facts, revision, placement), ...givenUp };
    if (before !== undefined && sameJson(before["spec"], spec)) return;
    const { name, namespace } = model;
    const kept = await client.apply(shardPlanResource, {
      metadata: { name, namespace, labels: { [MODEL_LABEL]: name }, ownerReferences: [ownerOf(model)] },
      spec,
    });
    this.#keptPlans.set(modelKey(model), kept);
    if (before !== undefined && sameJson(asPlan(before).spec.chains, spec.chains)) return; // the same, seen anew
    const reason = before === undefined ? "Planned" : "Replanned";
    const note = `${plannedPromise(placement)}: see ShardPlan ${name}`;
    await events.record(shardedModelResource, asObject(object), { type: "Normal", reason, action: "Plan", note });
  }

  async perform(observed: Observed, plan: Plan, action: Action): Promise<void> {
    switch (action.do) {
      case "create-rank":
        return this.#createRank(observed, plan, action.assignment);
      case "delete-rank":
        return this.#deleteRank(observed, action.name, action.why);
      case "probe":
        return this.#probe(observed.world, plan, action.chain);
    }
  }

  async report({ world, object }: Observed, plan: Plan): Promise<void> {
    const { client, clock, events } = this.#options;
    const { model } = world;
    const before = object.status;
    const reported = this.#planOf(modelKey(model));
    const { repairs, over } = this.#repairs.look(world, plan, before, reported && asPlan(reported), clock.wallMs());
    const status = { ...modelStatus(world, plan, before, clock.wallMs()), ...repairs };
    if (!sameJson(before, status)) {
      const { name, namespace } = model;
      try {
        await client.apply(shardedModelResource, { metadata: { name, namespace }, status }, "status");
      } catch (error) {
        if (isStatus(error, 404)) return; // deleted while it was looked at
        throw error;
      }
      if (over !== undefined) this.#options.onRepaired?.(over);
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
    await this.#renewCertificates(world, plan);
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
      const standing = standingPlanIn(shardPlan);
      const { revision, assignments } = standing;
      const told = rankStatesOf(stores, pods).filter(
        (rank) => rank.revision === revision && isAssigned(rank, assignments),
      );
      const model = pictureOf(modelSpecOf(asModel(stored), facts.value.config), facts.value, standing, told);
      this.#pictures.set(key, { versions, model });
      return [model];
    });
  }

  async #reportPlan(world: World, { placement, asleep }: Plan): Promise<void> {
    const { model, facts, nodes, ranks, previous } = world;
    const stored = this.#planOf(modelKey(model));
    const assignments = placement?.assignments ?? (asleep === undefined ? undefined : previous?.assignments);
    if (stored === undefined || assignments === undefined || "code" in facts) return;
    // Drawn once for each plan as it was written, not at every look.
    const version = `${stored.metadata.uid}@${stored.metadata.generation}`;
    const drawn = this.#drawings.get(modelKey(model));
    const text =
      drawn?.version === version || placement === undefined
        ? (drawn?.text ?? asPlan(stored).status?.summary ?? "")
        : planWords({ model: plannedModel(model, placement), facts, nodes }, placement).text;
    this.#drawings.set(modelKey(model), { version, text });
    const status = shardPlanStatus(model, assignments, ranks, stored.metadata.generation ?? 1, text);
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
    const { client, events, image, imagePullPolicy } = this.#options;
    const { facts } = world;
    if ("code" in facts || placement === undefined) return;
    const model = plannedModel(world.model, placement);
    const node = present(
      world.nodes.find(({ name }) => name === assignment.node),
      "the plan places ranks on nodes of its world",
    );
    if (!this.#services.has(model.uid)) {
      await client.apply(SERVICES, modelService(model));
      this.#services.add(model.uid);
    }
    if (node.deviceClass !== undefined) await client.apply(CLAIM_TEMPLATES, claimTemplate(node.deviceClass, model));
    const config = rankConfigOf(model, facts, assignment, placement, node, hostOf(model, node));
    const renewAfter = await this.#applySecret(model, assignment, config);
    const pod = rankPod({
      model,
      assignment,
      node,
      revision,
      neighbours: config.neighbours,
      renewAfter,
      image,
      ...(imagePullPolicy === undefined ? {} : { imagePullPolicy }),
    });
    const made = await client.apply(PODS, pod);
    this.#madePods.set(keyOf(made), made);
    this.#repairs.made(modelKey(model), made.metadata.name);
    const note = `${made.metadata.name} on ${node.name} of ${node.provider}, layers ${assignment.layers.start} to ${assignment.layers.end}`;
    await events.record(shardedModelResource, asObject(object), {
      type: "Normal",
      reason: "RankCreated",
      action: "CreateRank",
      note,
    });
  }

  /** What the rank is told, with a fresh certificate. Returns when that one is to be made anew. */
  async #applySecret(model: ModelSpec, assignment: Assignment, config: RankConfig): Promise<string> {
    const { client, clock, authority } = this.#options;
    const identity = { kind: "rank", name: fullRankName(model, assignment) } as const;
    const issued = await authority.issue(identity, { days: CERTIFICATE_DAYS, dns: [nodeDnsName(assignment.node)] });
    await client.apply(SECRETS, rankSecret(model, assignment, config, issued));
    return new Date(clock.wallMs() + RENEW_AFTER_DAYS * DAY_MS).toISOString();
  }

  /** Running ranks take a new certificate up from their Secret; nothing restarts. */
  async #renewCertificates({ model: asked, facts, nodes, ranks }: World, { placement }: Plan): Promise<void> {
    const { client, clock, stores } = this.#options;
    if ("code" in facts || placement === undefined) return;
    const model = plannedModel(asked, placement);
    const now = new Date(clock.wallMs()).toISOString();
    for (const { name, assignment, phase } of ranks) {
      const pod = stores.pods.get(`${model.namespace}/${name}`);
      const after = pod?.metadata.annotations?.[RENEW_ANNOTATION];
      const node = nodes.find((each) => each.name === assignment.node);
      if (phase !== "Ready" || node === undefined || after === undefined || after > now) continue;
      const config = rankConfigOf(model, facts, assignment, placement, node, hostOf(model, node));
      const renewAfter = await this.#applySecret(model, assignment, config);
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
    const pod = stores.pods.get(key) ?? this.#madePods.get(key);
    this.#repairs.takenAway(world, name);
    // The machine is gone: nobody is left to end the process in good order, and its name is needed elsewhere.
    const grace = rank?.phase === "Lost" ? { graceSeconds: 0 } : {};
    // The Secret first: after a crash between the two it is the pod that says what is still to be done. What runs has
    // its files already.
    await client.delete(SECRETS, { namespace, name });
    await client.delete(PODS, { namespace, name }, { uid: pod?.metadata.uid, ...grace });
    this.#madePods.delete(key);
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

  async #probe({ model }: World, { placement }: Plan, chain: number): Promise<void> {
    if (placement === undefined) return;
    const key = modelKey(model);
    const instance = chainInstance(model, placement, this.#podsOf(key), chain);
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
        const words = await askRank(rank.address.replace(/:\d+$/, `:${METRICS_PORT}`));
        return words === undefined ? rank : { ...rank, ...words };
      }),
    );
  }

  #forget(key: string): void {
    this.#facts.forget(key);
    this.#probes.delete(key);
    this.#pictures.delete(key);
    this.#keptPlans.delete(key);
    this.#drawings.delete(key);
    this.#sleepers.forget(key);
    this.#repairs.forget(key);
    this.#options.brake.forget(key);
  }
}

const asObject = (model: object) => model as KubeObject;
