/** Looks that end early are as good as whole ones: a seeded world is looked at both ways, and all that is written is the same. */
import { expect } from "chai";
import { parseShardNode } from "../../core/gen/crds/shardnode.ts";
import { parseShardedModel } from "../../core/gen/crds/shardedmodel.ts";
import { parseModelConfig } from "../../core/model-config.ts";
import { ok, valueOrThrow } from "../../core/result.ts";
import type { Authority } from "../../core/wire/authority.ts";
import { StoppedClock } from "../clock.ts";
import type { EventRecorder } from "../kube/events.ts";
import { type KubeObject, keyOf } from "../kube/objects.ts";
import { type Seeded, seededBy } from "../plan/seeded.ts";
import { BrakeBook } from "./brake-book.ts";
import { FactsBook } from "./facts.ts";
import { KubeCluster } from "./kube-cluster.ts";
import { KubeInMemory } from "./kube-in-memory.ts";
import { Offers } from "./offers.ts";
import { planInPlace } from "./planner.ts";
import { reconcile } from "./reconcile.ts";
import { SettledLooks } from "./settled-looks.ts";
import { Stores } from "./stores.ts";

const CONFIG_TEXT = JSON.stringify({
  ...{ architectures: ["LlamaForCausalLM"], model_type: "llama", hidden_act: "silu" },
  ...{ hidden_size: 64, intermediate_size: 128, num_hidden_layers: 4, num_attention_heads: 8 },
  ...{ num_key_value_heads: 2, vocab_size: 1000, max_position_embeddings: 512, eos_token_id: [2], bos_token_id: 1 },
});
const FACTS = { root: "sha256:00", config: valueOrThrow(parseModelConfig(CONFIG_TEXT)), configText: CONFIG_TEXT };
const MODELS = ["a", "b"];
const NODES = ["n0", "n1", "n2", "n3", "n4", "n5"];
const HOUR_MS = 3_600_000;

const plain = (value: object): KubeObject => JSON.parse(JSON.stringify(value)) as KubeObject;
const head = { apiVersion: "tessellate.dev/v1alpha1" };
const modelObject = (name: string, pool: string): KubeObject =>
  plain(
    valueOrThrow(
      parseShardedModel({
        ...{ ...head, kind: "ShardedModel", metadata: { name, namespace: "models" } },
        spec: { model: { source: { path: "/m" } }, placement: { providers: { min: 2 }, nodeSelector: { pool } } },
      }),
    ),
  );
const nodeObject = (name: string, index: number): KubeObject =>
  plain(
    valueOrThrow(
      parseShardNode({
        ...{ ...head, kind: "ShardNode", metadata: { name, labels: { pool: index < 5 ? "a" : "b" } } },
        spec: { provider: `p${index % 3}`, memory: { freeBytes: "8Gi" }, memoryBytesPerSecond: "20G" },
      }),
    ),
  );
const machineObject = (name: string): KubeObject => ({
  metadata: { name },
  spec: {},
  status: { conditions: [{ type: "Ready", status: "True" }] },
});

/** A cluster with an operator that looks; without `settled` each look is a whole one. */
class Rig {
  readonly clock = new StoppedClock();
  readonly kube = new KubeInMemory();
  readonly settled = new SettledLooks(this.clock);
  readonly said: string[] = [];
  readonly #isWhole: boolean;
  readonly #stop = new AbortController();
  readonly #stores: Stores;
  readonly #cluster: KubeCluster;
  readonly #running: Promise<void>;
  doProbesPass = true;
  isAsked = false;
  isRush = false;
  earlyCount = 0;
  wholeCount = 0;

  constructor(isWhole: boolean) {
    this.#isWhole = isWhole;
    const { clock, kube: client } = this;
    const offers = new Offers({ clock });
    const heard = () => undefined;
    const told = { onWork: heard, onPicture: heard, onComponents: heard, onTrouble: heard };
    const stores = new Stores({ client, clock, offers, namespace: "tessellate", ...told });
    this.#stores = stores;
    const events = { record: (...what: readonly unknown[]) => this.said.push(JSON.stringify(what[2])) };
    const issued = { caPem: "ca", certificatePem: "certificate", keyPem: "key" };
    this.#cluster = new KubeCluster({
      ...{ client, clock, stores, image: "tessellate:test" },
      events: events as unknown as EventRecorder,
      authority: { certificatePem: "ca", keyPem: "", issue: async () => issued } as Authority,
      facts: new FactsBook(clock, async () => ok(FACTS)),
      probe: async () => ({ passed: this.doProbesPass, detail: "", tokenMs: 10 }),
      onProbed: heard,
      isQuiet: () => !this.isAsked,
      isRush: () => this.isRush,
      demandOf: () => [
        {
          waitingCount: this.isAsked ? 1 : 0,
          sessionCount: 0,
          idleSeconds: this.isAsked ? 0 : 9e9,
          asleep: !this.isAsked,
        },
      ],
      brake: new BrakeBook({ stores, clock }),
    });
    MODELS.forEach((name) => client.put("shardedmodels", modelObject(name, name)));
    NODES.forEach((name, index) => client.put("shardnodes", nodeObject(name, index)));
    NODES.forEach((name) => client.put("nodes", machineObject(name)));
    for (const name of ["p0", "p1", "p2"]) client.put("providers", { metadata: { name }, spec: { publicKey: "MCow" } });
    this.#running = stores.run(this.#stop.signal);
  }

  /** The copies have what there is. */
  async caughtUp(): Promise<void> {
    await this.#stores.firstLists();
    const { models, plans, pods, shardNodes, providers, machines, budgets } = this.#stores;
    const copies = {
      shardedmodels: models,
      shardplans: plans,
      pods,
      shardnodes: shardNodes,
      providers,
      nodes: machines,
    };
    for (const [plural, copy] of Object.entries({ ...copies, poddisruptionbudgets: budgets })) {
      const versions = (objects: readonly KubeObject[]) =>
        objects.map((each) => `${keyOf(each)}@${each.metadata.resourceVersion}`).sort();
      for (let round = 0; versions(copy.all()).join() !== versions(this.kube.all(plural)).join(); round += 1) {
        if (round > 10_000) throw new Error(`the copy of ${plural} does not catch up`);
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
  }

  async look(): Promise<void> {
    for (const name of MODELS) {
      await this.caughtUp();
      if (this.#isWhole) this.settled.forget(`models/${name}`);
      const look = await reconcile(this.#cluster, planInPlace, this.settled, `models/${name}`).catch(
        (error: unknown) => {
          this.said.push(String(error));
        },
      );
      if (look?.isAsBefore === true) this.earlyCount += 1;
      else this.wholeCount += 1;
    }
    await this.caughtUp();
  }

  get story(): readonly string[] {
    return [...this.kube.written, ...this.said];
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }
}

/** One thing that happens to a world, the same to each that is as it is; `chance` decides on what. */
type Happening = (rig: Rig, chance: Seeded) => void;

const pick = <T>(chance: Seeded, all: readonly T[]): T | undefined => all[chance.below(Math.max(1, all.length))];
/** Changes an object that there is. */
const edit = (rig: Rig, plural: string, chance: Seeded, change: (object: KubeObject) => object): void => {
  const object = pick(chance, rig.kube.all(plural));
  if (object !== undefined) rig.kube.put(plural, { ...object, ...change(object) } as KubeObject);
};
const specOf = (object: KubeObject): object => object["spec"] as object;
const labelled = ({ metadata }: KubeObject, labels: object) => ({
  metadata: { ...metadata, labels: { ...metadata.labels, ...labels } },
});
const annotated = ({ metadata }: KubeObject, annotations: object) => ({
  metadata: { ...metadata, annotations: { ...metadata.annotations, ...annotations } },
});

function becomeReady({ kube }: Rig): void {
  for (const pod of kube.all("pods")) {
    const { phase } = (pod["status"] ?? {}) as { readonly phase?: string };
    const conditions = [{ type: "Ready", status: "True" }];
    if (phase === undefined) kube.put("pods", { ...pod, status: { phase: "Running", podIP: "10.0.0.1", conditions } });
  }
}

const HAPPENINGS: Readonly<Record<string, Happening>> = {
  nothing: () => undefined,
  "minutes pass": ({ clock }, { below }) => clock.advance(1_000 * below(600)),
  "days pass": ({ clock }, { below }) => clock.advance(HOUR_MS * (1 + below(7_000))),
  "ranks become ready": becomeReady,
  "a model is edited": (rig, chance) =>
    edit(rig, "shardedmodels", chance, (model) => ({
      spec: {
        ...specOf(model),
        ...pick(chance, [
          { replicas: 1 },
          { replicas: 2 },
          { replicas: 0 },
          { slots: 3 },
          { contextLength: 256 },
          { planPolicy: "Manual" },
          { planPolicy: "Automatic" },
          { idle: { afterSeconds: 60, wakeTimeoutSeconds: 60 } },
          { spares: 1 },
        ]),
      },
    })),
  "somebody writes a model's status": (rig, chance) =>
    edit(rig, "shardedmodels", chance, (model) => ({ status: { ...(model["status"] as object), readyReplicas: 7 } })),
  "somebody writes a plan's status": (rig, chance) =>
    edit(rig, "shardplans", chance, (plan) => ({ status: { ...(plan["status"] as object), ranks: "9/9" } })),
  "somebody deletes a plan": ({ kube }, chance) => {
    const plan = pick(chance, kube.all("shardplans"));
    if (plan !== undefined) kube.remove("shardplans", keyOf(plan));
  },
  "somebody approves": (rig, chance) =>
    edit(rig, "shardplans", chance, (plan) =>
      annotated(plan, { "tessellate.dev/approved": String((specOf(plan) as { approval?: string }).approval) }),
    ),
  "a rank dies": (rig, chance) => edit(rig, "pods", chance, () => ({ status: { phase: "Failed" } })),
  "a rank is deleted": ({ kube }, chance) => {
    const pod = pick(chance, kube.all("pods"));
    if (pod !== undefined) kube.remove("pods", keyOf(pod));
  },
  "a rank starts anew": (rig, chance) =>
    edit(rig, "pods", chance, (pod) => ({
      status: { ...(pod["status"] as object), containerStatuses: [{ restartCount: chance.below(9) }] },
    })),
  "a certificate is to be renewed": (rig, chance) =>
    edit(rig, "pods", chance, (pod) => annotated(pod, { "tessellate.dev/renew-certificate-after": "2020-01-01" })),
  "a node offers another amount": (rig, chance) =>
    edit(rig, "shardnodes", chance, (node) => ({
      spec: { ...specOf(node), memory: { freeBytes: pick(chance, ["8Gi", "7Gi", "1Mi"]) } },
    })),
  "a node is measured": (rig, chance) =>
    edit(rig, "shardnodes", chance, () => ({
      status: { measured: { time: new Date(rig.clock.wallMs()).toISOString() } },
    })),
  "a label of no interest": (rig, chance) =>
    edit(rig, "shardnodes", chance, (node) => labelled(node, { touched: String(chance.below(9)) })),
  "a node changes its pool": (rig, chance) =>
    edit(rig, "shardnodes", chance, (node) => labelled(node, { pool: pick(chance, ["a", "b"]) })),
  "a node is drained, or no longer": (rig, chance) =>
    edit(rig, "shardnodes", chance, (node) =>
      annotated(node, { "tessellate.dev/drain": pick(chance, ["true", "false"]) }),
    ),
  "a machine is cordoned, or no longer": (rig, chance) =>
    edit(rig, "nodes", chance, () => ({ spec: { unschedulable: chance.below(2) === 0 } })),
  "a machine is tainted": (rig, chance) =>
    edit(rig, "nodes", chance, () => ({ spec: { taints: [{ key: "k", effect: "NoSchedule" }] } })),
  "a machine goes, another comes": ({ kube }, chance) => {
    const name = pick(chance, NODES) ?? "";
    if (kube.objects.has(`nodes ${name}`)) kube.remove("nodes", name);
    else kube.put("nodes", machineObject(name));
  },
  "a provider has no key, or has one": (rig, chance) =>
    edit(rig, "providers", chance, () => ({ spec: chance.below(2) === 0 ? {} : { publicKey: "MCow" } })),
  "somebody deletes a budget": ({ kube }, chance) => {
    const budget = pick(chance, kube.all("poddisruptionbudgets"));
    if (budget !== undefined) kube.remove("poddisruptionbudgets", keyOf(budget));
  },
  "probes pass, or do not": (rig) => (rig.doProbesPass = !rig.doProbesPass),
  "somebody asks, or nobody": (rig) => (rig.isAsked = !rig.isAsked),
  "there is a rush, or none": (rig) => (rig.isRush = !rig.isRush),
};

/** Most of the time all is well, else nothing would settle. */
function nextOf(chance: Seeded): string {
  const usual = ["nothing", "minutes pass", "ranks become ready", "a label of no interest"];
  return pick(chance, chance.unit() < 0.6 ? usual : Object.keys(HAPPENINGS)) ?? "nothing";
}

async function lived(
  seed: string,
  stepCount: number,
): Promise<{ readonly earlyCount: number; readonly wrong?: string }> {
  const [early, whole] = [new Rig(false), new Rig(true)];
  const happened: string[] = [];
  try {
    for (let step = 0; step < stepCount; step += 1) {
      const what = nextOf(seededBy(`${seed} ${step}`));
      happened.push(what);
      for (const rig of [early, whole]) {
        await rig.caughtUp();
        HAPPENINGS[what]?.(rig, seededBy(`${seed} ${step} of it`));
        if (step % 3 === 0) rig.doProbesPass = true;
        await rig.look();
      }
      const at = whole.story.findIndex((line, index) => line !== early.story[index]);
      if (at >= 0 || early.story.length !== whole.story.length)
        return {
          earlyCount: early.earlyCount,
          wrong: `${seed}: ${happened.join(", ")}: ${whole.story[Math.max(0, at)]}`,
        };
    }
    return { earlyCount: early.earlyCount };
  } finally {
    await Promise.all([early.stop(), whole.stop()]);
  }
}

describe("a look that sees what the last one saw", () => {
  it("ends early, and writes and says what a whole one would", async function () {
    this.timeout(300_000);
    let earlyCount = 0;
    for (let world = 0; world < 12; world += 1) {
      const found = await lived(`world ${world}`, 40);
      expect(found.wrong).to.equal(undefined);
      earlyCount += found.earlyCount;
    }
    expect(earlyCount).to.be.greaterThan(100);
  });
});
