/** How late the event loop is while ten thousand objects are listed anew, and how long they take. */
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { systemClock } from "../../operator/clock.ts";
import { clusterAccess } from "../../operator/kube/access.ts";
import { KubeClient } from "../../operator/kube/client.ts";
import { type KubeObject, PODS } from "../../operator/kube/objects.ts";
import { Reflector } from "../../operator/kube/reflector.ts";
import type { ControlPlane } from "../cluster/control-plane.ts";
import { type BenchResult, atMost, rounded } from "./figures.ts";

const OBJECT_COUNT = 10_000;
const CONNECTIONS = 16;
const NAMESPACE = "relist";

export async function relisted(cluster: ControlPlane): Promise<Pick<BenchResult, "requirements" | "table" | "notes">> {
  await cluster.kubectl(["create", "namespace", NAMESPACE]);
  while ((await cluster.api.find(`/api/v1/namespaces/${NAMESPACE}/serviceaccounts/default`)) === undefined)
    await sleep(50);
  const client = new KubeClient(clusterAccess(cluster.kubeconfig));
  const stop = new AbortController();
  try {
    const createSeconds = await createPods(client);
    const delay = monitorEventLoopDelay({ resolution: 1 });
    const reflector = new Reflector({ client, clock: systemClock(), resource: PODS, onChange: () => undefined });
    delay.enable();
    const startMs = performance.now();
    const running = reflector.run(stop.signal);
    await reflector.firstList;
    const listSeconds = (performance.now() - startMs) / 1000;
    delay.disable();
    stop.abort(new Error("the bench is over"));
    await running;
    return {
      requirements: [
        atMost(`event loop late, p99, while ${OBJECT_COUNT} pods are listed`, delay.percentile(99) / 1e6, 50, "ms"),
      ],
      table: [
        [`${OBJECT_COUNT} pods listed in`, `${rounded(listSeconds)} s`],
        ["the latest the loop was meanwhile", `${rounded(delay.max / 1e6)} ms`],
        [`bare pods created by ${CONNECTIONS} connections`, `${rounded(OBJECT_COUNT / createSeconds)} a second`],
      ],
      notes: [],
    };
  } finally {
    client.close();
  }
}

/** Resolves to the seconds that it took. */
async function createPods(client: KubeClient): Promise<number> {
  let next = 0;
  const startMs = performance.now();
  const work = async () => {
    for (let index = next++; index < OBJECT_COUNT; index = next++) await client.create(PODS, podOf(index));
  };
  await Promise.all(Array.from({ length: CONNECTIONS }, work));
  return (performance.now() - startMs) / 1000;
}

/** About as large as a rank's. */
const podOf = (index: number): KubeObject => ({
  metadata: {
    name: `pod-${index}`,
    namespace: NAMESPACE,
    annotations: { "tessellate.dev/assignment": "x".repeat(400) },
  },
  spec: {
    schedulerName: "nobody",
    automountServiceAccountToken: false,
    containers: [{ name: "rank", image: "none", command: ["node", "shard-runtime/main.ts"] }],
  },
});
