/** Helm on the chart, without a cluster: what its templates become. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { parseAllDocuments } from "yaml";
import { kubeBinaries } from "../../tools/kube/build.ts";

const run = promisify(execFile);
export const CHART = "charts/tessellate";
export const NAMESPACE = "tessellate-system";

/** APIs that clusters have where the chart's monitors and alerts are of use. */
export const MONITORING = ["PodMonitor", "ServiceMonitor", "PrometheusRule"].map(
  (kind) => `monitoring.coreos.com/v1/${kind}`,
);

// biome-ignore lint/suspicious/noExplicitAny: whatever the templates make; tests read what they know to be there
export type Rendered = any;

export type Values = Readonly<Record<string, unknown>>;

/** `helm template` with these values; throws with Helm's words where it refuses them. */
export async function render(values: Values = {}, apis: readonly string[] = MONITORING): Promise<readonly Rendered[]> {
  const { helm } = await kubeBinaries();
  const settings = Object.entries(values).map(([key, value]) => `--set-json=${key}=${JSON.stringify(value)}`);
  const versions = apis.map((api) => `--api-versions=${api}`);
  const { stdout } = await run(helm, ["template", "tessellate", CHART, "-n", NAMESPACE, ...settings, ...versions], {
    maxBuffer: 2 ** 26,
  });
  return parseAllDocuments(stdout).flatMap((document) => document.toJS() ?? []);
}

/** Helm's complaint about these values, or "nothing". */
export const complaintAbout = (values: Values): Promise<string> =>
  render(values).then(
    () => "nothing",
    (error: { readonly stderr?: string }) => error.stderr ?? String(error),
  );

/** The one object of this kind and name. */
export function only(objects: readonly Rendered[], kind: string, name: string): Rendered {
  const found = objects.filter((object) => object.kind === kind && object.metadata.name === name);
  if (found.length !== 1) throw new Error(`${found.length} objects are ${kind}/${name}, not one`);
  return found[0];
}

export const namesOf = (objects: readonly Rendered[]): readonly string[] =>
  objects.map(({ kind, metadata }) => `${kind}/${metadata.name}`);
