/** What pods may do: by their service account at the API server, and by their security context on their machine. */
import { CommandFailed, type ControlPlane } from "../cluster/control-plane.ts";
import type { Pod, PodSpec } from "../cluster/kube-types.ts";

const STRICT_NAMESPACE = "strict";

/** A namespace that takes only pods which keep the restricted Pod Security Standard. Pods are tried, none is made. */
export async function makeStrictNamespace({ kubectl }: ControlPlane): Promise<void> {
  await kubectl(["create", "namespace", STRICT_NAMESPACE]);
  const label = "pod-security.kubernetes.io/enforce=restricted";
  await kubectl(["label", "namespace", STRICT_NAMESPACE, label]);
  await kubectl(["create", "serviceaccount", "nobody", "-n", STRICT_NAMESPACE]);
}

/** Why the restricted standard would refuse a pod like this one, or undefined where it would not. */
export async function whyNotRestricted(
  { kubectl }: ControlPlane,
  { metadata, spec }: Pod,
): Promise<string | undefined> {
  // What the API server filled in for the real one: where it runs, and as whom under the field's old name.
  const {
    nodeName: _,
    serviceAccount: __,
    ...kept
  }: PodSpec & { readonly serviceAccount?: string } = {
    ...spec,
    serviceAccountName: "nobody",
  };
  return whyNotAdmitted({ kubectl }, STRICT_NAMESPACE, kept, metadata.name);
}

/** Why an API server takes no such pod in the namespace, or undefined where it would. None is made. */
export async function whyNotAdmitted(
  { kubectl }: Pick<ControlPlane, "kubectl">,
  namespace: string,
  spec: object,
  name = "tried",
): Promise<string | undefined> {
  const pod = { apiVersion: "v1", kind: "Pod", metadata: { name, namespace }, spec };
  try {
    await kubectl(["create", "--dry-run=server", "-f", "-"], JSON.stringify(pod));
    return undefined;
  } catch (error) {
    if (error instanceof CommandFailed) return error.stderr.trim();
    throw error;
  }
}

/** `kubectl auth can-i --list` as a service account, one rule per line, sorted. */
export async function rightsOf(
  { kubectl }: ControlPlane,
  namespace: string,
  serviceAccount: string,
  where: string = namespace,
): Promise<readonly string[]> {
  const user = `system:serviceaccount:${namespace}:${serviceAccount}`;
  const groups = ["system:serviceaccounts", `system:serviceaccounts:${namespace}`, "system:authenticated"];
  const table = await kubectl([
    ...["auth", "can-i", "--list", "--no-headers", "-n", where, `--as=${user}`],
    ...groups.map((group) => `--as-group=${group}`),
  ]);
  return table
    .split("\n")
    .map((line) => line.trim().replace(/\s+/g, " "))
    .filter(Boolean)
    .sort();
}

type Account = { readonly namespace: string; readonly account: string };

/** What a service account may do in a namespace beyond what everybody who is known to the cluster may. */
export async function rightsBeyond(
  controlPlane: ControlPlane,
  { namespace, account }: Account,
  where: string,
): Promise<readonly string[]> {
  const everybody = new Set(await rightsOf(controlPlane, "nowhere", "nobody", where));
  const own = await rightsOf(controlPlane, namespace, account, where);
  return own.filter((line) => !everybody.has(line));
}
