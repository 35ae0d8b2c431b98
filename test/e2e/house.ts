/** The chart installed: operator, gateway and ledger, found by pod IP, since loopback pods have no Services. */
import { join } from "node:path";
import { REPOSITORY } from "../cluster/container-process.ts";
import type { ControlPlane } from "../cluster/control-plane.ts";
import type { KubeList, Pod } from "../cluster/kube-types.ts";
import { until } from "../until.ts";
import type { Stage } from "./stage.ts";

export const HOUSE_NAMESPACE = "tessellate-system";
export const CHART = join(REPOSITORY, "charts/tessellate");

/** Resolves with the gateway's URL when operator, gateway and ledger are Ready. */
export async function installHouse({ controlPlane }: Stage): Promise<string> {
  const values = [
    "podMonitors.enabled=true",
    "operator.replicas=1",
    "gateway.replicas=1",
    "operator.requireOffers=false",
  ].map((value) => `--set=${value}`);
  const where = ["-n", HOUSE_NAMESPACE, "--create-namespace"];
  await controlPlane.helm(["install", "tessellate", CHART, ...where, ...values, "--wait", "--timeout=90s"]);
  const gateway = await housePod(controlPlane, "gateway");
  return `http://${gateway.address("http")}`;
}

/** The one pod of a component, and `host:port` of its ports by name. */
export async function housePod(
  { api }: ControlPlane,
  component: "operator" | "gateway" | "ledger",
): Promise<{ readonly pod: Pod; address(portName: string): string }> {
  const path = `/api/v1/namespaces/${HOUSE_NAMESPACE}/pods?labelSelector=app.kubernetes.io/component=${component}`;
  let pods: readonly Pod[] = [];
  await until(`one ${component} pod with an address`, async () => {
    pods = (await api.get<KubeList<Pod>>(path)).items;
    return pods.length === 1 && pods[0]?.status?.podIP !== undefined;
  });
  const [pod] = pods;
  if (pod === undefined) throw new Error(`no ${component} pod`);
  return {
    pod,
    address: (portName) => {
      const ports = pod.spec.containers.flatMap((container) => container.ports ?? []);
      const port = ports.find(({ name }) => name === portName);
      if (port === undefined) throw new Error(`pod ${pod.metadata.name} names no port ${portName}`);
      return `${pod.status?.podIP}:${port.containerPort}`;
    },
  };
}
