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
});
