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
import { PlannedBytes } from "./planned-bytes.ts";
import { objectAt } from "./rank-state.ts";

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
   * Soon: more of the kind will come in a moment. Later: nobody has touched it, but what it depends on may have changed.
   * Idle: figures for people.
   */
  readonly onWork: (key: WorkKey, urgency?: Urgency | "soon") => void;
  /** What gateways and the ledger are told may have changed. */
  readonly onPicture: () => void;
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
      onChange: ({ object }) => object.metadata.labels?.[COMPONENT_LABEL] !== "agent" && options.onPicture(),
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
    this.#options.onWork(`model/${keyOf(change.object)}`);
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
    this.#options.onWork(`model/${keyOf(change.object)}`, change.type === "deleted" ? "now" : "soon");
    if (change.type !== "added") this.#unplacedModels(); // memory may have become free
  }

  #podChanged(change: Change): void {
    this.#options.onPicture();
    const key = modelKeyOfPod(change.object);
    // A model's pods come and become ready one after the other: one look at all of them will do.
    const isUrgent = change.type === "deleted" || hasEnded(change.object);
    if (key !== undefined) this.#options.onWork(`model/${key}`, isUrgent ? "now" : "soon");
    if (change.type === "changed") return;
    const labels = change.object.metadata.labels ?? {};
    for (const place of [`node/${labels[NODE_LABEL]}`, `provider/${labels[PROVIDER_LABEL]}`]) {
      this.#shardCounts.set(place, this.shardCount(place) + (change.type === "added" ? 1 : -1));
      this.#options.onWork(place, "idle");
    }
    const plan = key === undefined ? undefined : this.plans.get(key);
    if (plan !== undefined) this.#countPlan(plan);
  }

  /** One that sleeps takes nothing once its last rank is gone: that is free for others meanwhile. */
  #countPlan(plan: KubeObject): void {
    const sleeps = objectAt(plan, "spec")["asleep"] !== undefined;
    if (sleeps && this.pods.indexed(keyOf(plan)).length === 0) this.planned.empty(plan);
    else this.planned.put(plan);
  }

  #nodeChanged(change: Change): void {
    if (
      change.type === "changed" &&
      !specChanged(change) &&
      sameLabels(change) &&
      sameDrain(change) &&
      sameFindings(change)
    )
      return;
    this.#options.onWork(`node/${change.object.metadata.name}`);
    this.#options.onWork(`provider/${String(objectAt(change.object, "spec")["provider"])}`);
    this.#allModels();
  }

  #providerChanged(change: Change): void {
    if (change.type === "changed" && !specChanged(change)) return;
    const { name } = change.object.metadata;
    this.#options.onPicture();
    this.#options.onWork(`provider/${name}`);
    for (const node of this.shardNodes.indexed(name)) this.#options.onWork(`node/${node.metadata.name}`);
    this.#allModels();
  }

  #machineChanged(change: Change): void {
    // A heartbeat every few minutes from every machine: only what planning looks at counts.
    if (change.type === "changed" && sameJson(machineFacts(change.object), machineFacts(change.before))) return;
    const { name } = change.object.metadata;
    for (const node of this.shardNodes.all()) {
      if ((objectAt(node, "spec")["nodeName"] ?? node.metadata.name) === name)
        this.#options.onWork(`node/${node.metadata.name}`);
    }
    this.#allModels();
  }

  #allModels(): void {
    for (const model of this.models.all()) this.#options.onWork(`model/${keyOf(model)}`, "later");
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

const hasEnded = (pod: KubeObject): boolean =>
  pod.metadata.deletionTimestamp !== undefined ||
  ["Failed", "Succeeded"].includes(String(objectAt(pod, "status")["phase"]));

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
