/** What the operator counts. Chains are read from the copies at each scrape, so that no series outlives its model. */
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from "prom-client";
import { asModel, asNode, asPlan } from "./apply/observe.ts";
import type { RolloutEnd } from "./apply/rollout-ends.ts";
import type { Stores } from "./apply/stores.ts";
import { type KubeObject, keyOf } from "./kube/objects.ts";

const LONG_SECONDS = [1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560];
const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

export class Metrics {
  readonly registry = new Registry();
  readonly reconcileSeconds = new Histogram({
    name: "tessellate_reconcile_seconds",
    help: "How long one look at one object took, by its kind and how it ended.",
    labelNames: ["kind", "result"],
    buckets: SECONDS,
    registers: [this.registry],
  });

  readonly queueWaitSeconds = new Histogram({
    name: "tessellate_work_queue_wait_seconds",
    help: "From a change, or the time of a look, to the start of the work on it, by the object's kind.",
    labelNames: ["kind"],
    buckets: SECONDS,
    registers: [this.registry],
  });

  readonly repairSeconds = new Histogram({
    name: "tessellate_operator_repair_seconds",
    help: "From the loss of a rank until every chain of its model served again, by what was lost.",
    labelNames: ["cause"],
    buckets: LONG_SECONDS,
    registers: [this.registry],
  });

  readonly #rolloutSeconds = new Histogram({
    name: "tessellate_rollout_seconds",
    help: "How long rollouts took that are over, by how they ended (Done, TakenBack).",
    labelNames: ["result"],
    buckets: [...LONG_SECONDS, 5120, 10240, 20480],
    registers: [this.registry],
  });

  readonly #rollbacks = new Counter({
    name: "tessellate_rollout_rollbacks_total",
    help: "Revisions that were taken back, by why.",
    labelNames: ["reason"],
    registers: [this.registry],
  });

  /** Models as they were when their chains were last told. */
  readonly #chainsTold = new Map<string, KubeObject>();

  constructor(state: {
    readonly stores: Stores;
    readonly queueDepth: () => number;
    readonly leads: () => boolean;
    readonly heldNodes: () => number;
  }) {
    const { stores } = state;
    collectDefaultMetrics({ register: this.registry });
    this.#gauge("tessellate_leader", "1 where this operator leads.", [], (gauge) => gauge.set(state.leads() ? 1 : 0));
    this.#gauge(
      "tessellate_operator_brake_held_nodes",
      "Nodes that went away and hold ranks that the brake leaves where they are.",
      [],
      (gauge) => gauge.set(state.heldNodes()),
    );
    this.#gauge("tessellate_work_queue_depth", "Objects that wait to be looked at.", [], (gauge) =>
      gauge.set(state.queueDepth()),
    );
    this.#gauge(
      "tessellate_watch_silence_seconds",
      "Since the API server was last heard of, by resource.",
      ["resource"],
      (gauge) => {
        for (const reflector of stores.all) gauge.set({ resource: reflector.plural }, reflector.staleMs / 1000);
      },
    );
    this.#gauge(
      "tessellate_node_heartbeat_age_seconds",
      "Since the node agent of a machine answered last, where this operator leads.",
      ["machine", "provider"],
      (gauge) => {
        gauge.reset();
        if (!state.leads()) return;
        for (const [agent, ms] of stores.offers.silences()) {
          const [provider = "", machine = ""] = agent.split(" ");
          gauge.set({ machine, provider }, ms / 1000);
        }
      },
    );
    this.#gauge(
      "tessellate_drain_blocked",
      "1 for a drained node that holds what no other node may, by the ShardNode's name; none of any other node.",
      ["node"],
      (gauge) => {
        gauge.reset();
        for (const { metadata, status } of stores.shardNodes.all().map(asNode))
          if (status?.conditions?.some(({ type, reason }) => type === "Drained" && reason === "NoRoom"))
            gauge.set({ node: metadata.name }, 1);
      },
    );
    this.#gauge(
      "tessellate_chains",
      "Chains by model and state (wanted, planned, ready).",
      ["model", "namespace", "state"],
      (gauge) => this.#setChains(gauge, stores),
    );
    this.#gauge(
      "tessellate_rollout_progress_timestamp_seconds",
      "When the rollout of a model last came further, since 1970, by model and phase; none where all is as asked for.",
      ["model", "namespace", "phase"],
      (gauge) => {
        gauge.reset();
        for (const object of stores.models.all()) {
          const { metadata, status } = asModel(object);
          if (status?.rollout === undefined) continue;
          const { phase, since } = status.rollout;
          const plan = stores.plans.get(keyOf(object));
          const progressed = plan && asPlan(plan).spec.rollout?.progressed;
          const atMs = Math.max(Date.parse(since), progressed === undefined ? 0 : Date.parse(progressed));
          gauge.set({ ...placeOf(metadata), phase }, atMs / 1000);
        }
      },
    );
  }

  /** Of a thousand models' three thousand series only those of models that have changed since the last scrape are set. */
  #setChains(gauge: Gauge, stores: Stores): void {
    const models = new Map(stores.models.all().map((object) => [keyOf(object), object]));
    for (const [key, { metadata }] of this.#chainsTold) {
      if (models.has(key)) continue;
      this.#chainsTold.delete(key);
      for (const state of ["wanted", "planned", "ready"]) gauge.remove({ ...placeOf(metadata), state });
    }
    for (const [key, object] of models) {
      if (this.#chainsTold.get(key) === object) continue;
      this.#chainsTold.set(key, object);
      const { metadata, spec, status } = asModel(object);
      const labels = placeOf(metadata);
      // Of one that sleeps none is wanted now: no alert is to wake anybody for it.
      const sleeps = status?.conditions?.some(({ reason }) => reason === "Asleep") ?? false;
      gauge.set({ ...labels, state: "wanted" }, sleeps ? 0 : spec.replicas);
      gauge.set({ ...labels, state: "planned" }, status?.replicas ?? 0);
      gauge.set({ ...labels, state: "ready" }, status?.readyReplicas ?? 0);
    }
  }

  /** A rollout is over. */
  rolled(end: RolloutEnd): void {
    this.#rolloutSeconds.observe({ result: end.result }, end.seconds);
    if (end.result === "TakenBack") this.#rollbacks.inc({ reason: end.reason });
  }

  #gauge(name: string, help: string, labelNames: string[], collect: (gauge: Gauge) => void): void {
    const gauge: Gauge = new Gauge({
      name,
      help,
      labelNames,
      registers: [this.registry],
      collect: () => collect(gauge),
    });
  }
}

const placeOf = ({ name, namespace }: KubeObject["metadata"]) => ({ model: name, namespace: namespace ?? "" });
