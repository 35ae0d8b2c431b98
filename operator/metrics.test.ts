/** What alerts are raised by: chains wanted, planned and ready. */
import { expect } from "chai";
import type { Stores } from "./apply/stores.ts";
import { Metrics } from "./metrics.ts";

const aModel = (name: string, reason: string, replicas = 2) => ({
  metadata: { name, namespace: "models" },
  spec: { replicas },
  status: { replicas: 0, readyReplicas: 0, conditions: [{ type: "Ready", reason }] },
});

describe("the operator's metrics", () => {
  it("want no chain of a model that sleeps, and all of one that wakes", async () => {
    const models = [aModel("reader", "Asleep"), aModel("writer", "RanksStarting"), aModel("off", "ScaledToZero", 0)];
    const stores = { all: [], models: { all: () => models } } as unknown as Stores;
    const metrics = new Metrics({ stores, queueDepth: () => 0, leads: () => true, heldNodes: () => 0 });
    const text = await metrics.registry.getSingleMetricAsString("tessellate_chains");
    const wanted = [...text.matchAll(/model="(\w+)",namespace="models",state="wanted"\} (\d)/g)];
    expect(wanted.map(([, name, count]) => `${name} ${count}`)).to.deep.equal(["reader 0", "writer 2", "off 0"]);
  });

  it("say of chains what is so at each scrape, and nothing of a model that is gone", async () => {
    let models = [aModel("a", "Serving"), aModel("b", "Serving")];
    const stores = { all: [], models: { all: () => models } } as unknown as Stores;
    const metrics = new Metrics({ stores, queueDepth: () => 0, leads: () => true, heldNodes: () => 0 });
    const text = async () => {
      const lines = await metrics.registry.getSingleMetricAsString("tessellate_chains");
      return [...lines.matchAll(/model="(\w+)",namespace="models",state="wanted"\} (\d)/g)].map((found) =>
        found.slice(1).join(" "),
      );
    };
    expect(await text()).to.deep.equal(["a 2", "b 2"]);
    models = [aModel("b", "Serving", 3), aModel("c", "Serving")];
    expect(await text()).to.deep.equal(["b 3", "c 2"]);
    expect(await text()).to.deep.equal(["b 3", "c 2"]);
    models = [];
    expect(await text()).to.deep.equal([]);
  });

  it("name drained nodes that cannot be emptied, until they can", async () => {
    const aNode = (name: string, reason: string) => ({
      metadata: { name },
      status: { conditions: [{ type: "Drained", reason }] },
    });
    let nodes = [aNode("a1", "NoRoom"), aNode("a2", "Draining"), { metadata: { name: "a3" } }];
    const stores = { shardNodes: { all: () => nodes } } as unknown as Stores;
    const metrics = new Metrics({ stores, queueDepth: () => 0, leads: () => true, heldNodes: () => 0 });
    const text = async () => (await metrics.registry.getSingleMetricAsString("tessellate_drain_blocked")).split("\n");
    expect((await text()).slice(2)).to.deep.equal(['tessellate_drain_blocked{node="a1"} 1']);
    nodes = [aNode("a1", "Empty")];
    expect((await text()).slice(2)).to.deep.equal([]);
  });

  it("say of a rollout when it last came further, and count how rollouts end", async () => {
    const rollout = { phase: "RollingOut", since: "1970-01-01T00:01:40Z" };
    const metadata = { name: "reader", namespace: "models" };
    const models = [
      { metadata, spec: {}, status: { rollout } },
      { metadata: { name: "writer" }, spec: {}, status: {} },
    ];
    const plan = { metadata, spec: { rollout: { progressed: "1970-01-01T00:03:20Z" } } };
    const stores = { models: { all: () => models }, plans: { get: () => plan } } as unknown as Stores;
    const metrics = new Metrics({ stores, queueDepth: () => 0, leads: () => true, heldNodes: () => 0 });
    const linesOf = async (name: string) =>
      (await metrics.registry.getSingleMetricAsString(name)).split("\n").filter((line) => !line.startsWith("#"));
    expect(await linesOf("tessellate_rollout_progress_timestamp_seconds")).to.deep.equal([
      'tessellate_rollout_progress_timestamp_seconds{model="reader",namespace="models",phase="RollingOut"} 200',
    ]);
    metrics.rolled({ result: "Done", seconds: 30 });
    metrics.rolled({ result: "TakenBack", seconds: 12, reason: "Slower" });
    expect(await linesOf("tessellate_rollout_rollbacks_total")).to.deep.equal([
      'tessellate_rollout_rollbacks_total{reason="Slower"} 1',
    ]);
    expect(await linesOf("tessellate_rollout_seconds")).to.include.members([
      'tessellate_rollout_seconds_sum{result="Done"} 30',
      'tessellate_rollout_seconds_count{result="TakenBack"} 1',
    ]);
  });
});
