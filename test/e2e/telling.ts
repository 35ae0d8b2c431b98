/** What processes and cluster say of themselves: figures, and everything for whoever has to find out why a step failed. */
import { untilFound } from "../until.ts";
import { lastLines } from "./expected.ts";
import type { Stage } from "./stage.ts";

/** The sum of a metric's series. `address`: host:port of a process's metrics. */
export async function metricAt(address: string, name: string): Promise<number> {
  const lines = (await (await fetch(`http://${address}/metrics`)).text()).split("\n");
  const values = lines
    .filter((line) => new RegExp(`^${name}[{ ]`).test(line))
    .map((line) => Number(line.split(" ").at(-1)));
  return values.reduce((sum, value) => sum + value, 0);
}

type Kubectl = (...args: string[]) => Promise<string>;

/** Waits until events of models give all these reasons: what is normal is written once there is time. */
export async function happened(kubectl: Kubectl, ...reasons: readonly string[]): Promise<void> {
  const path = "{range .items[*]}{.reason}{'\\n'}{end}";
  const options = ["--field-selector=involvedObject.kind=ShardedModel", "-o", `jsonpath=${path}`];
  await untilFound(
    `events ${reasons.join(", ")}`,
    async () => new Set((await kubectl("get", "events", ...options)).split("\n")),
    (found) => reasons.every((reason) => found.has(reason)),
  );
}

/** Which version every object has that the operator writes or could write. */
export async function versionsIn(kubectl: Kubectl): Promise<string> {
  const kinds = "shardedmodels,shardplans,providers,shardnodes,pods,secrets,services";
  const columns = "custom-columns=KIND:.kind,NAME:.metadata.name,VERSION:.metadata.resourceVersion";
  return kubectl("get", kinds, "-n", "default", "-o", columns, "--sort-by=.metadata.uid");
}

export async function tellWhatIsKnown(kubectl: Kubectl, stage: Stage | undefined): Promise<void> {
  const told = async (...args: string[]) => console.log(await kubectl(...args).catch(String));
  await told("get", "sm,sp,shn,prov,stl,pods", "-A", "-o", "wide");
  await told("get", "events", "-A", "--sort-by=.lastTimestamp");
  for (const pod of stage?.kubelet.podNames() ?? []) {
    const [namespace = "", name = ""] = pod.split("/");
    console.log(`── ${pod}\n${lastLines(() => stage?.kubelet.logs({ namespace, name }))}`);
  }
}
