/** An operator for a test to watch, and what it finds around it. */
import { formatManifest, manifestOf } from "../../core/manifest.ts";
import { merkleLeaf } from "../../core/merkle.ts";
import { PlannerThread } from "../../operator/apply/planner-thread.ts";
import { systemClock } from "../../operator/clock.ts";
import { Controller } from "../../operator/controller.ts";
import { clusterAccess } from "../../operator/kube/access.ts";
import { KubeClient } from "../../operator/kube/client.ts";
import type { ControlPlane } from "./control-plane.ts";
import type { FakeHouse } from "./fake-house.ts";

/** Counts what changes the cluster; leases are renewed all the time and tell nothing. */
export class CountingClient extends KubeClient {
  readonly writes: string[] = [];
  override open(call: Parameters<KubeClient["open"]>[0]): ReturnType<KubeClient["open"]> {
    if (call.method !== "GET" && !call.path.includes("/leases")) this.writes.push(`${call.method} ${call.path}`);
    return super.open(call);
  }
}

export type Operator = {
  readonly client: CountingClient;
  readonly events: { readonly event: string; readonly [field: string]: unknown }[];
  /** Rejects where the operator gave up. */
  readonly ended: Promise<void>;
  /** What its metric says. */
  heldNodes(): Promise<number>;
  stop(): Promise<void>;
};

/** An operator in this process, whose own objects lie in the namespace `tessellate`. */
export async function startOperator(cluster: ControlPlane, identity: string): Promise<Operator> {
  const client = new CountingClient(clusterAccess(cluster.kubeconfig));
  const events: Operator["events"] = [];
  const stop = new AbortController();
  const clock = systemClock();
  const planner = new PlannerThread({ clock });
  const controller = new Controller({
    client,
    clock,
    planner,
    namespace: "tessellate",
    identity,
    image: "tessellate:test",
    log: (event, fields) => void events.push({ event, ...fields }),
  });
  const running = controller.run(stop.signal);
  running.catch((error: unknown) => events.push({ event: "crashed", error }));
  return {
    client,
    events,
    ended: running,
    async heldNodes() {
      const metric = controller.metrics.registry.getSingleMetric("tessellate_operator_brake_held_nodes");
      return (await metric?.get())?.values[0]?.value ?? 0;
    },
    async stop() {
      stop.abort(new Error("the test is over"));
      await running.catch(() => undefined);
      await planner.close();
      client.close();
    },
  };
}

/** The pods of gateway and ledger, as a chart would make them and a kubelet report them. */
export async function makeHousePods(cluster: ControlPlane, house: FakeHouse): Promise<void> {
  for (const [component, host, port, portName] of [
    ["gateway", house.gateway.host, house.gateway.port, "control"],
    ["ledger", house.ledger.host, house.ledger.port, "grpc"],
  ] as const) {
    const labels = { "app.kubernetes.io/part-of": "tessellate", "app.kubernetes.io/component": component };
    const containers = [{ name: component, image: "none", ports: [{ name: portName, containerPort: port }] }];
    const metadata = { name: component, namespace: "tessellate", labels };
    const pod = { apiVersion: "v1", kind: "Pod", metadata, spec: { nodeName: "campus-a1", containers } };
    await cluster.kubectl(["apply", "--validate=strict", "-f", "-"], JSON.stringify(pod));
    const status = { phase: "Running", podIP: host, podIPs: [{ ip: host }] };
    await cluster.api.request(
      "PATCH",
      `/api/v1/namespaces/tessellate/pods/${component}/status`,
      { status },
      "application/merge-patch+json",
    );
  }
}

const CONFIG = {
  model_type: "llama",
  architectures: ["LlamaForCausalLM"],
  hidden_size: 256,
  intermediate_size: 1024,
  num_hidden_layers: 12,
  num_attention_heads: 8,
  num_key_value_heads: 2,
  vocab_size: 1000,
  max_position_embeddings: 512,
};
/** The manifest of a model of which only the configuration is there: enough for planning. */
export function manifestText(): string {
  const text = JSON.stringify(CONFIG);
  const bytes = new TextEncoder().encode(text);
  return formatManifest(
    manifestOf([{ path: "config.json", sizeBytes: bytes.length, chunks: merkleLeaf(bytes) }], text),
  );
}
