/** Scaling on a real API server: by kubectl, by a real autoscaler, to zero and back; gateways say what a test wants. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "chai";
import type { ShardedModel } from "../../core/gen/crds/shardedmodel.ts";
import type { ShardPlan } from "../../core/gen/crds/shardplan.ts";
import { untilFound } from "../until.ts";
import type { Pod } from "./kube-types.ts";
import { allRanksAreCounted } from "./operator-case.ts";
import { operatedWorld } from "./operated-world.ts";

const GROUP = "/apis/tessellate.dev/v1alpha1";

describe("scaling on a real API server", function () {
  this.timeout(300_000);
  const suite = operatedWorld("scaling");

  const kubectl = (...args: string[]) => suite.world.cluster.kubectl(["-n", "models", ...args]);
  const pathOf = (kind: string, name: string) => `${GROUP}/namespaces/models/${kind}/${name}`;
  const modelNow = (name: string) => suite.world.cluster.api.get<ShardedModel>(pathOf("shardedmodels", name));
  const ready = (name: string, reason: string) =>
    untilFound(
      `Ready ${reason}`,
      async () => (await modelNow(name)).status,
      (status) => status?.conditions?.some((each) => each.type === "Ready" && each.reason === reason) === true,
    );
  const create = (name: string, spec: object) =>
    suite.world.cluster.api.request("POST", `${GROUP}/namespaces/models/shardedmodels`, {
      apiVersion: "tessellate.dev/v1alpha1",
      kind: "ShardedModel",
      metadata: { name },
      spec: { model: { source: { path: suite.world.modelDirectory } }, slots: 2, ...spec },
    });
  /** Rank pods with their nodes. */
  const ranks = async (name: string): Promise<readonly string[]> => {
    const query = `labelSelector=${encodeURIComponent(`tessellate.dev/model=${name}`)}`;
    const { items } = await suite.world.cluster.api.get<{ items: readonly Pod[] }>(
      `/api/v1/namespaces/models/pods?${query}`,
    );
    return items.map(({ metadata, spec }) => `${metadata.name} on ${spec.nodeName}`).sort();
  };
  const ranksOf = (name: string, count: number) =>
    untilFound(
      `${count} ranks of ${name}`,
      () => ranks(name),
      (found) => found.length === count,
    );

  it("puts a model to sleep that nobody asks for, rests, and wakes it where it was for the first request", async () => {
    await suite.world.createNamespace("models");
    await create("reader", { idle: { afterSeconds: 30 }, placement: { providers: { min: 3 } } });
    await ready("reader", "Serving");
    const awake = await ranks("reader");
    suite.world.house.say("models/reader", { idleSeconds: 29 });
    await sleep(500);
    expect(await ranks("reader"), "asked 29 s ago").to.deep.equal(awake);
    suite.world.house.say("models/reader", { idleSeconds: 30 });
    const status = await ready("reader", "Asleep");
    expect(status?.conditions?.find(({ type }) => type === "Ready")?.status).to.equal("True");
    await ranksOf("reader", 0);
    expect(await kubectl("get", "sm", "reader")).to.match(/reader +True +Asleep +0\/1/);
    const told = suite.world.house.told.gateway?.models.find(({ name }) => name === "reader");
    expect(told).to.include({ asleep: true, wakeTimeoutSeconds: 600 });
    const plan = await suite.world.cluster.api.get<ShardPlan>(pathOf("shardplans", "reader"));
    expect([plan.spec.asleep, plan.spec.chains[0]?.segments.length]).to.deep.equal(["Idle", awake.length]);

    await untilFound(
      "said to be asleep",
      async () => (await modelNow("reader")).status?.conditions?.find(({ type }) => type === "WeightsReady")?.reason,
      (reason) => reason === "Asleep",
    );
    const events = () => kubectl("events", "--for", "shardedmodel/reader");
    await untilFound("an event of its sleep", events, (text) => text.includes("Asleep"));
    await allRanksAreCounted(suite.world.cluster);
    const before = suite.operator.client.writes.length;
    suite.world.house.say("models/reader", { idleSeconds: 5_000 });
    await sleep(1_500);
    expect(suite.operator.client.writes.slice(before), "writes while it sleeps").to.deep.equal([]);

    suite.world.house.say("models/reader", { waiting: 1 });
    await ready("reader", "Serving");
    expect(await ranks("reader"), "the same ranks on the same nodes").to.deep.equal(awake);
    await untilFound(
      "gateways told that it is awake",
      async () => suite.world.house.told.gateway?.models.find(({ name }) => name === "reader")?.asleep,
      (asleep) => asleep === false,
    );
  });

  it("sleeps on under another leader, which asks the gateways anew, and wakes it", async () => {
    suite.world.house.say("models/reader", { idleSeconds: 31 });
    await ready("reader", "Asleep");
    await suite.operator.stop();
    await suite.startNext("scaling-2");
    await ranksOf("reader", 0);
    suite.world.house.say("models/reader", { waiting: 1 });
    await ready("reader", "Serving");
    await kubectl("delete", "sm", "reader");
  });

  it("scales by kubectl, up, down, to zero and back to the same nodes", async () => {
    await create("writer", { placement: { providers: { min: 1 } } });
    await ready("writer", "Serving");
    const one = await ranks("writer");
    await kubectl("scale", "sm", "writer", "--replicas=2");
    const two = await untilFound(
      "more ranks, on nodes",
      () => ranks("writer"),
      (found) => found.length > one.length && !found.some((rank) => rank.endsWith(" on undefined")),
    );
    expect(two).to.include.members([...one]);
    await untilFound(
      "two chains",
      async () => (await modelNow("writer")).status,
      (status) => status?.chains === "2/2",
    );
    const scale = await suite.world.cluster.api.get<{
      readonly spec: { readonly replicas: number };
      readonly status: { readonly replicas: number; readonly selector: string };
    }>(`${pathOf("shardedmodels", "writer")}/scale`);
    expect([scale.spec.replicas, scale.status]).to.deep.equal([
      2,
      { replicas: 2, selector: "tessellate.dev/model=writer" },
    ]);
    suite.world.house.say("models/writer", { sessions: 1 }); // an answer under way
    await kubectl("scale", "sm", "writer", "--replicas=1");
    const drains = () => suite.world.house.told.gateway?.models.find(({ name }) => name === "writer")?.chains ?? [];
    await untilFound(
      "a chain that drains",
      async () => drains().map(({ draining }) => draining),
      (found) => JSON.stringify(found) === "[false,true]",
    );
    await sleep(1_500);
    expect(await ranks("writer"), "while a session runs").to.deep.equal(two);
    suite.world.house.say("models/writer", {});
    expect(await ranksOf("writer", one.length)).to.deep.equal(one);

    suite.world.house.say("models/writer", { sessions: 1 }); // of a gateway that has not let go
    await kubectl("scale", "sm", "writer", "--replicas=0");
    await ready("writer", "ScaledToZero");
    const told = await untilFound(
      "gateways told that it is off",
      async () => suite.world.house.told.gateway?.models.find(({ name }) => name === "writer"),
      (found) => found?.asleep === true,
    );
    expect(told?.wakeTimeoutSeconds).to.equal(0);
    await sleep(500);
    expect(await ranks("writer"), "while a session runs").to.deep.equal(one);
    suite.world.house.say("models/writer", {});
    await ranksOf("writer", 0);
    suite.world.house.say("models/writer", { waiting: 1 });
    await sleep(500);
    expect(await ranks("writer"), "turned off: no request wakes it").to.deep.equal([]);
    suite.world.house.say("models/writer", {});
    await kubectl("scale", "sm", "writer", "--replicas=1");
    await ready("writer", "Serving");
    expect(await ranks("writer")).to.deep.equal(one);
  });

  it("says how many chains the nodes carry where more are asked for", async () => {
    await kubectl("scale", "sm", "writer", "--replicas=9");
    const planned = await untilFound(
      "what the nodes carry",
      async () => (await modelNow("writer")).status?.conditions?.find(({ type }) => type === "Planned"),
      (found) => found?.message.includes("no capacity") === true,
    );
    expect(planned?.message).to.match(
      /\d chains only share ranks with others and add no capacity: the nodes carry \d of 9/,
    );
    await kubectl("scale", "sm", "writer", "--replicas=1");
    await untilFound(
      "one chain",
      async () => (await modelNow("writer")).status,
      (status) => status?.chains === "1/1",
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
    await suite.world.cluster.kubectl(
      ["-n", "models", "apply", "--validate=strict", "-f", "-"],
      JSON.stringify(autoscaler),
    );
    // Below its least it scales without any metric: through our scale subresource, with the rights of the real controller.
    await untilFound(
      "two chains by the autoscaler",
      async () => (await modelNow("writer")).status,
      (status) => status?.chains === "2/2",
    );
    const { status } = await suite.world.cluster.api.get<{
      readonly status: { readonly conditions: readonly { readonly type: string; readonly status: string }[] };
    }>("/apis/autoscaling/v2/namespaces/models/horizontalpodautoscalers/writer");
    expect(status.conditions.find(({ type }) => type === "AbleToScale")?.status).to.equal("True");
  });
});
