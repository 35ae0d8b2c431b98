/**
 * PodMonitors as Prometheus' own operator would turn them into targets, for a cluster without one: which pods they
 * select, and the addresses of the ports that they name.
 */
import type { ControlPlane } from "../cluster/control-plane.ts";
import type { KubeList, KubeObject, Pod } from "../cluster/kube-types.ts";

type Selector = {
  readonly matchLabels?: Readonly<Record<string, string>>;
  readonly matchExpressions?: readonly unknown[];
};

interface PodMonitor extends KubeObject {
  readonly spec: {
    readonly selector: Selector;
    readonly namespaceSelector?: { readonly any?: boolean; readonly matchNames?: readonly string[] };
    readonly podMetricsEndpoints: readonly { readonly port: string; readonly path?: string }[];
  };
}

/** Everything that such an object may hold: the schema is Prometheus' operator's business, not ours. */
const definitionOf = (kind: string) => ({
  apiVersion: "apiextensions.k8s.io/v1",
  kind: "CustomResourceDefinition",
  metadata: { name: `${kind.toLowerCase()}s.monitoring.coreos.com` },
  spec: {
    group: "monitoring.coreos.com",
    scope: "Namespaced",
    names: { kind, plural: `${kind.toLowerCase()}s`, singular: kind.toLowerCase() },
    versions: [
      {
        name: "v1",
        served: true,
        storage: true,
        schema: { openAPIV3Schema: { type: "object", "x-kubernetes-preserve-unknown-fields": true } },
      },
    ],
  },
});

/** Makes the cluster know PodMonitors. */
export const definePodMonitors = (controlPlane: ControlPlane): Promise<void> => define(controlPlane, ["PodMonitor"]);

/** Makes the cluster know all that the chart has for Prometheus. */
export const defineMonitoring = (controlPlane: ControlPlane): Promise<void> =>
  define(controlPlane, ["PodMonitor", "ServiceMonitor", "PrometheusRule"]);

async function define({ kubectl }: ControlPlane, kinds: readonly string[]): Promise<void> {
  const definitions = kinds.map(definitionOf);
  await kubectl(["apply", "-f", "-"], JSON.stringify({ apiVersion: "v1", kind: "List", items: definitions }));
  const names = definitions.map(({ metadata }) => `crd/${metadata.name}`);
  await kubectl(["wait", "--for=condition=Established", ...names, "--timeout=30s"]);
}

/** `host:port` of every target, by the name of the PodMonitor that asks for it. */
export async function scrapeTargets({ api }: ControlPlane): Promise<Readonly<Record<string, readonly string[]>>> {
  const monitors = await api.get<KubeList<PodMonitor>>("/apis/monitoring.coreos.com/v1/podmonitors");
  const pods = await api.get<KubeList<Pod>>("/api/v1/pods");
  return Object.fromEntries(monitors.items.map((monitor) => [monitor.metadata.name, targetsOf(monitor, pods.items)]));
}

function targetsOf({ metadata, spec }: PodMonitor, pods: readonly Pod[]): readonly string[] {
  const { selector, namespaceSelector, podMetricsEndpoints } = spec;
  if (selector.matchExpressions !== undefined) throw new Error(`${metadata.name}: matchExpressions are not known here`);
  const wanted = Object.entries(selector.matchLabels ?? {});
  const namespaces = namespaceSelector?.matchNames ?? [metadata.namespace ?? ""];
  return pods
    .filter((pod) => namespaceSelector?.any === true || namespaces.includes(pod.metadata.namespace ?? ""))
    .filter((pod) => wanted.every(([key, value]) => pod.metadata.labels?.[key] === value))
    .flatMap((pod) => podMetricsEndpoints.flatMap((endpoint) => addressOf(metadata.name, endpoint, pod)));
}

function addressOf(
  monitor: string,
  { port, path }: { readonly port: string; readonly path?: string },
  pod: Pod,
): string {
  if (path !== undefined && path !== "/metrics") throw new Error(`${monitor}: the path ${path} is not known here`);
  const ports = pod.spec.containers.flatMap((container) => container.ports ?? []);
  const found = ports.find(({ name }) => name === port);
  if (found === undefined)
    throw new Error(`${monitor} wants port ${port}, which pod ${pod.metadata.name} does not name`);
  return `${pod.status?.podIP}:${found.containerPort}`;
}
