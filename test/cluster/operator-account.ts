/** The operator's service account as the chart makes it: its rights and no more, its token, and the fence around it. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { ControlPlane } from "./control-plane.ts";

export type OperatorAccount = {
  /** A kubeconfig file that bears the account's token. */
  readonly kubeconfig: string;
  /** What `--fence-as` wants. */
  readonly user: string;
};

const CHART = fileURLToPath(new URL("../../charts/tessellate", import.meta.url));
const [NAMESPACE, NAME] = ["tessellate", "tessellate-operator"];
const TEMPLATES = ["rbac", "fence"].map((name) => `--show-only=templates/${name}.yaml`);
const TOKEN_SECONDS = 86_400;

/** The namespace `tessellate` must be there. */
export async function installOperatorAccount(cluster: ControlPlane): Promise<OperatorAccount> {
  const rendered = await cluster.helm(["template", "tessellate", CHART, "-n", NAMESPACE, ...TEMPLATES]);
  await cluster.kubectl(["apply", "-f", "-"], rendered);
  const { status } = await cluster.api.request<{ readonly status: { readonly token: string } }>(
    "POST",
    `/api/v1/namespaces/${NAMESPACE}/serviceaccounts/${NAME}/token`,
    { spec: { expirationSeconds: TOKEN_SECONDS } },
  );
  const ca = Buffer.from(cluster.authority.certificate).toString("base64");
  const kubeconfig = join(cluster.directory, `${NAME}.kubeconfig`);
  const text = JSON.stringify({
    apiVersion: "v1",
    kind: "Config",
    "current-context": "test",
    clusters: [{ name: "test", cluster: { server: cluster.url, "certificate-authority-data": ca } }],
    users: [{ name: "test", user: { token: status.token } }],
    contexts: [{ name: "test", context: { cluster: "test", user: "test" } }],
  });
  writeFileSync(kubeconfig, text, { mode: 0o600 });
  return { kubeconfig, user: `system:serviceaccount:${NAMESPACE}:${NAME}` };
}
