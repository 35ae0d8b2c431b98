/** What the ledger of a house in a cluster has in its books, asked as the operator, whose certificate a test can make. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { closeClient } from "@grpc/grpc-js";
import type { BalanceReply__Output } from "../../core/gen/proto/tessellate/ledger/v1/BalanceReply.ts";
import { LEDGER, OPERATOR } from "../../core/identity.ts";
import { valueOrThrow } from "../../core/result.ts";
import { loadAuthority, writeCertificate } from "../../core/wire/authority.ts";
import { ask, dial } from "../../core/wire/door.ts";
import { openTls } from "../../core/wire/tls.ts";
import type { ControlPlane } from "../cluster/control-plane.ts";
import type { KubeObject } from "../cluster/kube-types.ts";
import { HOUSE_NAMESPACE, housePod } from "./house.ts";

export type LedgerRow = {
  readonly provider: string;
  readonly epoch: number;
  readonly pendingMicroCredits: bigint;
  readonly payableMicroCredits: bigint;
  readonly paidMicroCredits: bigint;
  readonly receiptCount: number;
  readonly rejectedCount: number;
};

interface Secret extends KubeObject {
  readonly data: Readonly<Record<string, string>>;
}

/** Calls `work` with the ledger's address and a folder with an operator's certificate, which is removed afterwards. */
export async function asOperator<T>(
  controlPlane: ControlPlane,
  work: (address: string, tlsDirectory: string) => Promise<T>,
): Promise<T> {
  const secret = await controlPlane.api.get<Secret>(`/api/v1/namespaces/${HOUSE_NAMESPACE}/secrets/tessellate-ca`);
  const pem = (key: string) => Buffer.from(secret.data[key] ?? "", "base64").toString("utf8");
  const authority = await loadAuthority({ certificatePem: pem("ca.crt"), keyPem: pem("ca.key") });
  const directory = mkdtempSync(join(tmpdir(), "tessellate-e2e-tls-"));
  try {
    await writeCertificate(directory, await authority.issue(OPERATOR, { days: 1 }));
    return await work((await housePod(controlPlane, "ledger")).address("grpc"), directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Every provider's epochs, in order. */
export function ledgerRows(controlPlane: ControlPlane): Promise<readonly LedgerRow[]> {
  return asOperator(controlPlane, async (address, tlsDirectory) => {
    const tls = valueOrThrow(openTls(tlsDirectory));
    const client = dial("Ledger", address, tls, LEDGER);
    try {
      const { rows } = valueOrThrow(
        await ask<BalanceReply__Output>("the ledger", 10_000, (options, callback) =>
          client.Balance({ provider: "" }, options, callback),
        ),
      );
      return rows.map((row) => ({
        provider: row.provider,
        epoch: row.epoch,
        pendingMicroCredits: BigInt(row.pendingMicroCredits),
        payableMicroCredits: BigInt(row.payableMicroCredits),
        paidMicroCredits: BigInt(row.paidMicroCredits),
        receiptCount: row.receiptCount,
        rejectedCount: row.rejectedCount,
      }));
    } finally {
      closeClient(client);
      tls.close();
    }
  });
}
