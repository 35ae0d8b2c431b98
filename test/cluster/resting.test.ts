/** A model that is settled costs nothing: looked at again and again, nothing is written. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "chai";
import { planInPlace } from "../../operator/apply/planner.ts";
import { systemClock } from "../../operator/clock.ts";
import { Controller } from "../../operator/controller.ts";
import { clusterAccess } from "../../operator/kube/access.ts";
import { KubeClient } from "../../operator/kube/client.ts";
import { startFaultyProxy } from "./faulty-proxy.ts";
import { allRanksAreCounted } from "./operator-case.ts";
import { type ModelWorld, startModelWorld } from "./model-world.ts";

describe("an operator with nothing to do", function () {
  this.timeout(300_000);
  let world: ModelWorld;
  before(async () => {
    world = await startModelWorld();
  });
  after(() => world?.stop());

  it("writes nothing, however often it looks and whatever breaks on the way to the API server", async () => {
    const { cluster, modelDirectory } = world;
    await world.createNamespace("models");
    const proxy = await startFaultyProxy(cluster);
    const client = new KubeClient(clusterAccess(proxy.kubeconfig));
    const stop = new AbortController();
    const controller = new Controller({
      client,
      clock: systemClock(),
      planner: planInPlace,
      namespace: "tessellate",
      identity: "resting",
      image: "tessellate:test",
      settledMs: 100,
      log: () => undefined,
    });
    const running = controller.run(stop.signal);
    const spec = { model: { source: { path: modelDirectory } }, placement: { providers: { min: 3 } }, slots: 2 };
    const path = "/apis/tessellate.dev/v1alpha1/namespaces/models/shardedmodels";
    const model = { apiVersion: "tessellate.dev/v1alpha1", kind: "ShardedModel", metadata: { name: "tiny" }, spec };
    await cluster.api.request("POST", path, model);
    await cluster.kubectl(["-n", "models", "wait", "--for=condition=Ready", "--timeout=60s", "sm/tiny"]);
    await allRanksAreCounted(cluster);
    for (let count = -1; count !== proxy.writes.length; await sleep(1_500)) count = proxy.writes.length; // the last events
    const writtenBefore = proxy.writes.length;
    const looksBefore = await looksAtModels(controller);
    for (const fault of ["reset", "gone", "cut", "told-twice", "old-list"] as const) {
      proxy.inject(fault);
      await sleep(500);
    }
    expect((await looksAtModels(controller)) - looksBefore, "looks").to.be.greaterThan(5);
    expect(proxy.writes.slice(writtenBefore)).to.deep.equal([]);
    stop.abort(new Error("the test is over"));
    await running;
    client.close();
    await proxy.close();
  });
});

async function looksAtModels({ metrics }: Controller): Promise<number> {
  const { values } = await metrics.reconcileSeconds.get();
  const count = values.find(({ metricName, labels }) => metricName?.endsWith("_count") && labels.kind === "model");
  return count?.value ?? 0;
}
