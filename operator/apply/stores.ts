/** Copies of everything the operator looks at, and which objects must be looked at again when something changes. */
import type { Clock } from "../../core/clock.ts";
import { providerResource } from "../../core/gen/crds/provider.ts";
import { settlementResource } from "../../core/gen/crds/settlement.ts";
import { shardedModelResource } from "../../core/gen/crds/shardedmodel.ts";
import { shardNodeResource } from "../../core/gen/crds/shardnode.ts";
import { shardPlanResource } from "../../core/gen/crds/shardplan.ts";
import { isJsonObject } from "../../core/json.ts";
import type { KubeClient } from "../kube/client.ts";
import { BUDGETS, type KubeObject, NODES, PODS, keyOf } from "../kube/objects.ts";
import type { Urgency } from "../kube/queue.ts";
import { type Change, Reflector, type ReflectorOptions } from "../kube/reflector.ts";
import { sameJson } from "../kube/same.ts";
import { comesUpWithOthers } from "./coming-up.ts";
import { DrainBook } from "./drain-book.ts";
import {
  COMPONENT_LABEL,
  MANAGED_BY_LABEL,
  MANAGER,
  MODEL_LABEL,
  NODE_LABEL,
  PROVIDER_LABEL,
  RANK_SELECTOR,
  APPROVED_ANNOTATION,
  DRAIN_ANNOTATION,
  isProposal,
  modelKeyOfPlan,
} from "./labels.ts";
import type { Offers } from "./offers.ts";
import { NodeIndex } from "./node-index.ts";
import { NodesSeen } from "./nodes-seen.ts";
import { PlannedBytes } from "./planned-bytes.ts";
import { objectAt, podHasEnded } from "./rank-state.ts";

/** What is to be reconciled: `model/<namespace>/<name>`, `provider/<name>`, `node/<name>`, `settlement/<name>`. */
export type WorkKey = string;

export type StoresOptions = {
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly namespace: string; // our own: gateways and the ledger live here
  readonly watchNamespace?: string | undefined; // of the models; left out: all
  /** Which nodes count. */
  readonly offers: Offers;
  /**
   * Soon: more of the kind will come in a moment. Starting: what it leads to comes later; it is looked at while it starts,
   * and this makes sure that it is. Later: nobody has touched it, but what it depends on may have changed.
   * Idle: figures for people.
   */
  readonly onWork: (key: WorkKey, urgency?: Urgency | "soon" | "starting") => void;
  /** What gateways and the ledger are told may have changed. */
  readonly onPicture: () => void;
  /** Who is told may have changed, or have started anew. */
  readonly onComponents: () => void;
  readonly onTrouble: (detail: string) => void;
};

export class Stores {
  readonly models: Reflector;
  readonly plans: Reflector;
  readonly pods: Reflector; // of ranks, indexed by their model's key
  readonly shardNodes: Reflector; // indexed by provider
  readonly providers: Reflector;
  readonly settlements: Reflector;
  readonly machines: Reflector; // Kubernetes Nodes
  readonly budgets: Reflector; // PodDisruptionBudgets of models
  readonly components: Reflector; // pods of gateways, the ledger and node agents
  readonly offers: Offers;
  readonly drains: DrainBook;
  readonly #shardCounts = new Map<WorkKey, number>();
  /** Memory that the plans take. */
  readonly planned = new PlannedBytes();
  readonly nodeIndex = new NodeIndex();
  /** Which nodes matter to which model. */
  readonly seen = new NodesSeen();
  readonly #options: StoresOptions;

  constructor(options: StoresOptions) {
    this.#options = options;
    const { client, clock, namespace, watchNamespace, onTrouble } = options;
    this.offers = options.offers;
    this.drains = new DrainBook((node) => options.onWork(`node/${node}`));
    const reflect = (set: Pick<ReflectorOptions, "resource" | "onChange"> & Partial<ReflectorOptions>) =>
      new Reflector({ client, clock, onTrouble, ...set });
    const inNamespace = { namespace: watchNamespace };
    this.models = reflect({
      ...inNamespace,
      resource: shardedModelResource,
      onChange: (change) => this.#modelChanged(change),
    });
    this.plans = reflect({
      ...inNamespace,
      resource: shardPlanResource,
      onChange: (change) => this.#planChanged(change),
    });
    this.pods = reflect({
      ...inNamespace,
      resource: PODS,
      labelSelector: RANK_SELECTOR,
      indexBy: modelKeyOfPod,
      onChange: (change) => this.#podChanged(change),
    });
    this.shardNodes = reflect({
      resource: shardNodeResource,
      indexBy: (node) => String(objectAt(node, "spec")["provider"]),
      onChange: (change) => this.#nodeChanged(change),
    });
    this.providers = reflect({ resource: providerResource, onChange: (change) => this.#providerChanged(change) });
    this.settlements = reflect({
      resource: settlementResource,
      onChange: ({ type, object }) => type !== "deleted" && options.onWork(`settlement/${object.metadata.name}`),
    });
    this.machines = reflect({ resource: NODES, onChange: (change) => this.#machineChanged(change) });
    this.budgets = reflect({
      ...inNamespace,
      resource: BUDGETS,
      labelSelector: `${MANAGED_BY_LABEL}=${MANAGER}`,
      // Somebody took it away: the next look makes it anew.
      onChange: ({ type, object }) => type === "deleted" && options.onWork(`model/${keyOf(object)}`, "later"),
    });
    this.components = reflect({
      namespace,
      resource: PODS,
      labelSelector: `app.kubernetes.io/part-of=tessellate,${COMPONENT_LABEL} in (gateway,ledger,agent)`,
      onChange: ({ object }) => object.metadata.labels?.[COMPONENT_LABEL] !== "agent" && options.onComponents(),
    });
  }

  get all(): readonly Reflector[] {
    const { models, plans, pods, shardNodes, providers, settlements, machines, budgets, components } = this;
    return [models, plans, pods, shardNodes, providers, settlements, machines, budgets, components];
  }

  /** Rank pods of `node/<name>` or `provider/<name>`, of the namespaces that are watched. */
  shardCount(place: WorkKey): number {
    return this.#shardCounts.get(place) ?? 0;
  }

  /** Runs until `signal` aborts; rejects only for a bug of ours. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all(this.all.map((reflector) => reflector.run(signal)));
  }

  get synced(): boolean {
    return this.all.every(({ synced }) => synced);
  }

  /** Resolves once every first list is complete. */
  async firstLists(): Promise<void> {
    await Promise.all(this.all.map(({ firstList }) => firstList));
  }

  #modelChanged(change: Change): void {
    this.#options.onPicture();
    if (change.type === "changed" && !specChanged(change)) return; // our own status
    // One that stands already goes before those that are new, however many.
    this.#options.onWork(`model/${keyOf(change.object)}`, change.type === "changed" ? "first" : "now");
  }

  #planChanged(change: Change): void {
    if (isProposal(change.object)) {
      if (change.type !== "changed" || approvalOf(change.object) !== approvalOf(change.before))
        this.#options.onWork(`model/${modelKeyOfPlan(change.object)}`);
      return;
    }
    this.#options.onPicture();
    if (change.type === "changed" && !specChanged(change)) return;
    if (change.type === "deleted") this.planned.remove(change.object);
    else this.#countPlan(change.object);
    // That there is a plan whoever made it knows: us, whose look at the model goes on.
    const urgency = change.type === "deleted" ? "now" : change.type === "added" ? "starting" : "soon";
    this.#options.onWork(`model/${keyOf(change.object)}`, urgency);
    if (change.type !== "added") this.#unplacedModels(); // memory may have become free
  }

  #podChanged(change: Change): void {
    this.#options.onPicture();
    const key = modelKeyOfPod(change.object);
    // A model's pods come and become ready one after the other: one look at all of them will do.
    const isUrgent = change.type === "deleted" || podHasEnded(change.object);
    const plan = key === undefined ? undefined : this.plans.get(key);
    if (key !== undefined) {
      const waits = comesUpWithOthers(change, plan, this.pods.indexed(key));
      this.#options.onWork(`model/${key}`, isUrgent ? "first" : waits ? "starting" : "soon");
    }
    if (change.type === "changed") return;
    const labels = change.object.metadata.labels ?? {};
    for (const place of [`node/${labels[NODE_LABEL]}`, `provider/${labels[PROVIDER_LABEL]}`]) {
      this.#shardCounts.set(place, this.shardCount(place) + (change.type === "added" ? 1 : -1));
      this.#options.onWork(place, "idle");
    }
    if (plan !== undefined) this.#countPlan(plan);
  }

  /** One that sleeps takes nothing once its last rank is gone: that is free for others meanwhile. */
  #countPlan(plan: KubeObject): void {
    const sleeps = objectAt(plan, "spec")["asleep"] !== undefined;
    if (sleeps && this.pods.indexed(keyOf(plan)).length === 0) this.planned.empty(plan);
    else this.planned.put(plan);
  }

  #nodeChanged(change: Change): void {
    if (change.type === "deleted") this.nodeIndex.remove(change.object.metadata.name);
    else this.nodeIndex.put(change.object);
    if (
      change.type === "changed" &&
      !specChanged(change) &&
      sameLabels(change) &&
      sameDrain(change) &&
      sameFindings(change)
    )
      return;
    const urgency = change.type === "changed" ? "first" : "now";
    this.#options.onWork(`node/${change.object.metadata.name}`, urgency);
    this.#options.onWork(`provider/${String(objectAt(change.object, "spec")["provider"])}`, urgency);
    this.#modelsOf([change.type === "changed" ? [change.before, change.object] : [change.object]]);
  }

  #providerChanged(change: Change): void {
    if (change.type === "changed" && !specChanged(change)) return;
    const { name } = change.object.metadata;
    this.#options.onPicture();
    this.#options.onWork(`provider/${name}`);
    const nodes = this.shardNodes.indexed(name);
    for (const node of nodes) this.#options.onWork(`node/${node.metadata.name}`);
    this.#modelsOf(nodes.map((node) => [node]));
  }

  #machineChanged(change: Change): void {
    // A heartbeat every few minutes from every machine: only what planning looks at counts.
    if (change.type === "changed" && sameJson(machineFacts(change.object), machineFacts(change.before))) return;
    const { name } = change.object.metadata;
    const nodes = this.shardNodes
      .all()
      .filter((node) => (objectAt(node, "spec")["nodeName"] ?? node.metadata.name) === name);
    for (const node of nodes) this.#options.onWork(`node/${node.metadata.name}`);
    this.#modelsOf(nodes.map((node) => [node]));
  }

  /** These nodes count, or count no longer, for reasons that no object tells of. */
  nodesTurned(names: readonly string[]): void {
    for (const name of names) this.#options.onWork(`node/${name}`);
    this.#modelsOf(names.flatMap((name) => this.shardNodes.get(name) ?? []).map((node) => [node]));
  }

  /** Models that any of these nodes matters to, each node as it was and as it is. */
  #modelsOf(nodes: readonly (readonly KubeObject[])[]): void {
    for (const model of this.models.all()) {
      const key = keyOf(model);
      const found = new Set(nodes.map((states) => this.seen.matters(key, states)));
      if (found.has("own")) this.#options.onWork(`model/${key}`, "later");
      else if (found.has("named")) this.#options.onWork(`model/${key}`, "idle");
    }
  }

  #unplacedModels(): void {
    for (const model of this.models.all())
      if (!isPlanned(model)) this.#options.onWork(`model/${keyOf(model)}`, "later");
  }
}

function modelKeyOfPod({ metadata: { namespace, labels } }: KubeObject): string | undefined {
  const model = labels?.[MODEL_LABEL];
  return model === undefined ? undefined : `${namespace}/${model}`;
}

type Changed = Extract<Change, { type: "changed" }>;

/** The API server counts generations up with the spec alone. */
const specChanged = ({ object, before }: Changed): boolean =>
  object.metadata.generation !== before.metadata.generation ||
  object.metadata.deletionTimestamp !== before.metadata.deletionTimestamp;

const sameDrain = ({ object, before }: Changed): boolean =>
  object.metadata.annotations?.[DRAIN_ANNOTATION] === before.metadata.annotations?.[DRAIN_ANNOTATION];

const sameLabels = ({ object, before }: Changed): boolean => sameJson(object.metadata.labels, before.metadata.labels);

/** What the machine measured and the provider signed; devices are for people. */
const sameFindings = ({ object, before }: Changed): boolean => {
  const [now, then] = [objectAt(object, "status"), objectAt(before, "status")];
  return now["offer"] === then["offer"] && sameJson(now["measured"], then["measured"]);
};

const approvalOf = ({ metadata }: KubeObject): string | undefined => metadata.annotations?.[APPROVED_ANNOTATION];

const machineFacts = (machine: KubeObject): unknown => {
  const spec = objectAt(machine, "spec");
  const conditions = objectAt(machine, "status")["conditions"];
  const ready = Array.isArray(conditions)
    ? conditions.filter(isJsonObject).find(({ type }) => type === "Ready")
    : undefined;
  const taints = Array.isArray(spec["taints"])
    ? spec["taints"].filter(isJsonObject).map(({ key, value, effect }) => [key, value, effect])
    : [];
  return { ready: ready?.["status"], taints, unschedulable: spec["unschedulable"] };
};

function isPlanned(model: KubeObject): boolean {
  const conditions = objectAt(model, "status")["conditions"];
  return (
    Array.isArray(conditions) &&
    conditions.filter(isJsonObject).some(({ type, status }) => type === "Planned" && status === "True")
  );
}
