/** What `tessellate balance` says of the ledger in a cluster, asked as the operator, whose certificate a test can make. */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import type { EpochBalance__Output } from "../../core/gen/proto/tessellate/ledger/v1/EpochBalance.ts";
import { OPERATOR } from "../../core/identity.ts";
import { loadAuthority, writeCertificate } from "../../core/wire/authority.ts";
import { REPOSITORY } from "../cluster/container-process.ts";
import type { ControlPlane } from "../cluster/control-plane.ts";
import type { KubeObject } from "../cluster/kube-types.ts";
import { HOUSE_NAMESPACE, housePod } from "./house.ts";

interface Secret extends KubeObject {
  readonly data: Readonly<Record<string, string>>;
}

/** Every provider's epochs, in order. */
export async function balances(controlPlane: ControlPlane): Promise<readonly EpochBalance__Output[]> {
  const secret = await controlPlane.api.get<Secret>(`/api/v1/namespaces/${HOUSE_NAMESPACE}/secrets/tessellate-ca`);
  const pem = (key: string) => Buffer.from(secret.data[key] ?? "", "base64").toString("utf8");
  const authority = await loadAuthority({ certificatePem: pem("ca.crt"), keyPem: pem("ca.key") });
  const directory = mkdtempSync(join(tmpdir(), "tessellate-e2e-tls-"));
  try {
    await writeCertificate(directory, await authority.issue(OPERATOR, { days: 1 }));
    const ledger = (await housePod(controlPlane, "ledger")).address("grpc");
    const line = [join(REPOSITORY, "cli/main.ts"), "balance", "--ledger", ledger, "--tls", directory, "-o", "json"];
    const { stdout } = await promisify(execFile)(process.execPath, line);
    const said: { readonly rows: readonly EpochBalance__Output[] } = JSON.parse(stdout);
    return said.rows;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
