/** The operator as the chart would start it, as a process here: its own arguments, its own account, its own rights. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { render, type Values, only } from "../chart/helm.ts";
import { startChild } from "../cluster/child.ts";
import { REPOSITORY } from "../cluster/container-process.ts";
import type { ControlPlane } from "../cluster/control-plane.ts";
import { HOUSE_NAMESPACE } from "./house.ts";

export type ChartOperator = {
  /** What it has logged so far, line by line. */
  log(): readonly Readonly<Record<string, unknown>>[];
  text(): string;
  stop(): Promise<void>;
};

/** Starts it with what the chart's Deployment says under these values. The release itself is the caller's business. */
export async function startChartOperator(
  { kubectl, directory, kubeconfig }: ControlPlane,
  values: Values,
): Promise<ChartOperator> {
  const { spec } = only(await render(values), "Deployment", "tessellate-operator").spec.template;
  const [container] = spec.containers;
  const name = `operator-${Object.keys(values).length}`;
  const folder = join(directory, name);
  const token = (await kubectl(["create", "token", spec.serviceAccountName, "-n", HOUSE_NAMESPACE])).trim();
  const config = JSON.parse(readFileSync(kubeconfig, "utf8"));
  const users = config.users.map((user: object) => ({ ...user, user: { token } }));
  writeFileSync(`${folder}.kubeconfig`, JSON.stringify({ ...config, users }));
  const args: readonly string[] = container.args.map((argument: string) =>
    argument.replace("$(POD_NAME)", name).replace("[$(POD_IP)]:8083", "127.0.0.1:0"),
  );
  const logFile = `${folder}.log`;
  const child = startChild({
    path: process.execPath,
    args: [join(REPOSITORY, container.command[1]), ...args, `--kubeconfig=${folder}.kubeconfig`],
    environment: { HOME: directory, PATH: process.env["PATH"] ?? "" },
    logFile,
    folder: directory,
  });
  const text = () => readFileSync(logFile, "utf8");
  return {
    text,
    log: () =>
      text()
        .split("\n")
        .filter((line) => line.startsWith("{"))
        .map((line) => JSON.parse(line)),
    stop: async () => void (await child.stop(10_000)),
  };
}
