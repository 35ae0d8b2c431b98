/** Scaling on a real API server: by kubectl, by a real autoscaler, to zero and back; gateways say what a test wants. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "chai";
import type { ShardedModel } from "../../core/gen/crds/shardedmodel.ts";
import type { ShardPlan } from "../../core/gen/crds/shardplan.ts";
import type { Pod } from "./kube-types.ts";
import { type ModelWorld, startModelWorld } from "./model-world.ts";
import { type Operator, startOperator } from "./running-operator.ts";

const GROUP = "/apis/tessellate.dev/v1alpha1";

describe("scaling on a real API server", function () {
  this.timeout(300_000);
  let world: ModelWorld;
  let operator: Operator;
  before(async () => {
    world = await startModelWorld();
    operator = await startOperator(world.cluster, "scaling");
  });
  after(async () => {
    await operator?.stop();
    await world?.stop();
  });

  const until = async <T>(look: () => Promise<T>, holds: (found: T) => boolean, what: string): Promise<T> => {
    let found = await look();
    for (let attempt = 0; attempt < 600 && !holds(found); attempt++) {
      await sleep(100);
      found = await look();
    }
    if (!holds(found)) throw new Error(`${what}: still not so after 60 s: ${JSON.stringify(found)}`);
    return found;
  };
  const kubectl = (...args: string[]) => world.cluster.kubectl(["-n", "models", ...args]);
  const pathOf = (kind: string, name: string) => `${GROUP}/namespaces/models/${kind}/${name}`;
  const modelNow = (name: string) => world.cluster.api.get<ShardedModel>(pathOf("shardedmodels", name));
  const ready = (name: string, reason: string) =>
    until(
      async () => (await modelNow(name)).status,
      (status) => status?.conditions?.some((each) => each.type === "Ready" && each.reason === reason) === true,
      `Ready ${reason}`,
    );
  const create = (name: string, spec: object) =>
    world.cluster.api.request("POST", `${GROUP}/namespaces/models/shardedmodels`, {
      apiVersion: "tessellate.dev/v1alpha1",
      kind: "ShardedModel",
      metadata: { name },
      spec: { model: { source: { path: world.modelDirectory } }, slots: 2, ...spec },
    });
  /** Rank pods with their nodes. */
  const ranks = async (name: string): Promise<readonly string[]> => {
    const query = `labelSelector=${encodeURIComponent(`tessellate.dev/model=${name}`)}`;
    const { items } = await world.cluster.api.get<{ items: readonly Pod[] }>(`/api/v1/namespaces/models/pods?${query}`);
    return items.map(({ metadata, spec }) => `${metadata.name} on ${spec.nodeName}`).sort();
  };
  const ranksOf = (name: string, count: number) =>
    until(
      () => ranks(name),
      (found) => found.length === count,
      `${count} ranks of ${name}`,
    );

  it("puts a model to sleep that nobody asks for, rests, and wakes it where it was for the first request", async () => {
    await world.createNamespace("models");
    await create("reader", { idle: { afterSeconds: 30 }, placement: { providers: { min: 3 } } });
    await ready("reader", "Serving");
    const awake = await ranks("reader");
    world.house.say("models/reader", { idleSeconds: 29 });
    await sleep(500);
    expect(await ranks("reader"), "asked 29 s ago").to.deep.equal(awake);
    world.house.say("models/reader", { idleSeconds: 30 });
    const status = await ready("reader", "Asleep");
    expect(status?.conditions?.find(({ type }) => type === "Ready")?.status).to.equal("True");
    await ranksOf("reader", 0);
    expect(await kubectl("get", "sm", "reader")).to.match(/reader +True +Asleep +0\/1/);
    const told = world.house.told.gateway?.models.find(({ name }) => name === "reader");
    expect(told).to.include({ asleep: true, wakeTimeoutSeconds: 600 });
    const plan = await world.cluster.api.get<ShardPlan>(pathOf("shardplans", "reader"));
    expect([plan.spec.asleep, plan.spec.chains[0]?.segments.length]).to.deep.equal(["Idle", awake.length]);

    await until(
      async () => (await modelNow("reader")).status?.conditions?.find(({ type }) => type === "WeightsReady")?.reason,
      (reason) => reason === "Asleep",
      "said to be asleep",
    );
    await sleep(1_500); // the last events
    const before = operator.client.writes.length;
    world.house.say("models/reader", { idleSeconds: 5_000 });
    await sleep(1_500);
    expect(operator.client.writes.slice(before), "writes while it sleeps").to.deep.equal([]);

    world.house.say("models/reader", { waiting: 1 });
    await ready("reader", "Serving");
    expect(await ranks("reader"), "the same ranks on the same nodes").to.deep.equal(awake);
    await until(
      async () => world.house.told.gateway?.models.find(({ name }) => name === "reader")?.asleep,
      (asleep) => asleep === false,
      "gateways told that it is awake",
    );
    expect(await kubectl("events", "--for", "shardedmodel/reader")).to.contain("Asleep");
  });

  it("sleeps on under another leader, which asks the gateways anew, and wakes it", async () => {
    world.house.say("models/reader", { idleSeconds: 31 });
    await ready("reader", "Asleep");
    await operator.stop();
    operator = await startOperator(world.cluster, "scaling-2");
    await ranksOf("reader", 0);
    world.house.say("models/reader", { waiting: 1 });
    await ready("reader", "Serving");
    await kubectl("delete", "sm", "reader");
  });

  it("scales by kubectl, up, down, to zero and back to the same nodes", async () => {
    await create("writer", { placement: { providers: { min: 1 } } });
    await ready("writer", "Serving");
    const one = await ranks("writer");
    await kubectl("scale", "sm", "writer", "--replicas=2");
    const two = await until(
      () => ranks("writer"),
      (found) => found.length > one.length,
      "more ranks",
    );
    expect(two).to.include.members([...one]);
    await until(
      async () => (await modelNow("writer")).status,
      (status) => status?.chains === "2/2",
      "two chains",
    );
    const scale = await world.cluster.api.get<{
      readonly spec: { readonly replicas: number };
      readonly status: { readonly replicas: number; readonly selector: string };
    }>(`${pathOf("shardedmodels", "writer")}/scale`);
    expect([scale.spec.replicas, scale.status]).to.deep.equal([
      2,
      { replicas: 2, selector: "tessellate.dev/model=writer" },
    ]);
    await kubectl("scale", "sm", "writer", "--replicas=1");
    expect(await ranksOf("writer", one.length)).to.deep.equal(one);

    world.house.say("models/writer", { sessions: 1 }); // of a gateway that has not let go
    await kubectl("scale", "sm", "writer", "--replicas=0");
    await ready("writer", "ScaledToZero");
    await sleep(500);
    expect(await ranks("writer"), "while a session runs").to.deep.equal(one);
    expect(world.house.told.gateway?.models.find(({ name }) => name === "writer")).to.include({
      asleep: true,
      wakeTimeoutSeconds: 0,
    });
    world.house.say("models/writer", {});
    await ranksOf("writer", 0);
    world.house.say("models/writer", { waiting: 1 });
    await sleep(500);
    expect(await ranks("writer"), "turned off: no request wakes it").to.deep.equal([]);
    world.house.say("models/writer", {});
    await kubectl("scale", "sm", "writer", "--replicas=1");
    await ready("writer", "Serving");
    expect(await ranks("writer")).to.deep.equal(one);
  });

  it("says how many chains the nodes carry where more are asked for", async () => {
    await kubectl("scale", "sm", "writer", "--replicas=9");
    const planned = await until(
      async () => (await modelNow("writer")).status?.conditions?.find(({ type }) => type === "Planned"),
      (found) => found?.message.includes("no capacity") === true,
      "what the nodes carry",
    );
    expect(planned?.message).to.match(
      /\d chains only share ranks with others and add no capacity: the nodes carry \d of 9/,
    );
    await kubectl("scale", "sm", "writer", "--replicas=1");
    await until(
      async () => (await modelNow("writer")).status,
      (status) => status?.chains === "1/1",
      "one chain",
    );
  });

  it("is scaled by a HorizontalPodAutoscaler, whose own controller finds what it needs", async () => {
    const autoscaler = {
      apiVersion: "autoscaling/v2",
      kind: "HorizontalPodAutoscaler",
      metadata: { name: "writer" },
      spec: {
        scaleTargetRef: { apiVersion: "tessellate.dev/v1alpha1", kind: "ShardedModel", name: "writer" },
        minReplicas: 2,
        maxReplicas: 3,
        metrics: [
          {
            type: "External",
            external: {
              metric: {
                name: "tessellate_demand_chains",
                selector: { matchLabels: { model_namespace: "models", model_name: "writer" } },
              },
              target: { type: "AverageValue", averageValue: "800m" },
            },
          },
        ],
      },
    };
    await world.cluster.kubectl(["-n", "models", "apply", "--validate=strict", "-f", "-"], JSON.stringify(autoscaler));
    // Below its least it scales without any metric: through our scale subresource, with the rights of the real controller.
    await until(
      async () => (await modelNow("writer")).status,
      (status) => status?.chains === "2/2",
      "two chains by the autoscaler",
    );
    const { status } = await world.cluster.api.get<{
      readonly status: { readonly conditions: readonly { readonly type: string; readonly status: string }[] };
    }>("/apis/autoscaling/v2/namespaces/models/horizontalpodautoscalers/writer");
    expect(status.conditions.find(({ type }) => type === "AbleToScale")?.status).to.equal("True");
  });
});
