/** The demo's machines as a cluster: a control plane, nodes whose pods are processes, and the providers' node agents. */
import { readdirSync, readFileSync } from "node:fs";
import { type ControlPlane, startControlPlane } from "../cluster/control-plane.ts";
import { type ProcessKubelet, startProcessKubelet } from "../cluster/process-kubelet.ts";
import { definePodMonitors } from "./pod-monitors.ts";
import { type Machines, type Providers, startProviders } from "./providers.ts";

/** As in examples/demo/nodes.yaml. */
export const MACHINES: Machines = { campus: ["campus-a1"], garage: ["garage-3"], studio: ["studio-x1", "studio-x2"] };
/** Where operator, gateway and ledger run. */
const HOUSE_MACHINE = "house-1";

export type Stage = {
  readonly controlPlane: ControlPlane;
  readonly kubelet: ProcessKubelet;
  readonly providers: Providers;
  /** One more machine of a provider's, with its node agent; the ShardNode is the caller's business. */
  addMachine(provider: string, node: string): Promise<void>;
};

/** For shards alone, so that what else runs never shares the fate of a machine that goes. */
const providersNode = (name: string) => ({ name, taints: [{ key: "tessellate.dev/shards", effect: "NoSchedule" }] });

/** `controlPlane.stop()` ends all of it. */
export async function setStage(): Promise<Stage> {
  const controlPlane = await startControlPlane();
  try {
    const machines = Object.values(MACHINES).flat();
    const [kubelet, providers] = await Promise.all([
      startProcessKubelet(controlPlane, {
        nodes: [{ name: HOUSE_MACHINE }, ...machines.map(providersNode)],
        probeScale: 0.25,
        backOffScale: 0.01,
      }),
      startProviders(controlPlane, MACHINES),
      definePodMonitors(controlPlane),
    ]);
    return {
      controlPlane,
      kubelet,
      providers,
      addMachine: async (provider, node) => {
        await Promise.all([kubelet.addNode(providersNode(node)), providers.add(provider, node)]);
      },
    };
  } catch (error) {
    await controlPlane.stop();
    throw error;
  }
}

/** Command lines of processes that run in a pod of this cluster. */
export function podProcesses({ port }: ControlPlane): readonly string[] {
  const sign = `KUBERNETES_SERVICE_PORT=${port}\0`;
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        if (!readFileSync(`/proc/${pid}/environ`, "utf8").includes(sign)) return [];
        return [readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim()];
      } catch {
        return []; // it ended between the reads
      }
    })
    .filter((line) => line !== ""); // ended, and not waited for yet
}
