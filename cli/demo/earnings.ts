/** What the ledger has for every provider, as it judged it from the receipts. */
import { setTimeout as after } from "node:timers/promises";
import { closeClient } from "@grpc/grpc-js";
import type { BalanceReply__Output } from "../../core/gen/proto/tessellate/ledger/v1/BalanceReply.ts";
import { LEDGER } from "../../core/identity.ts";
import { valueOrThrow } from "../../core/result.ts";
import { ask, dial } from "../../core/wire/door.ts";
import { openTls } from "../../core/wire/tls.ts";

export type Earning = {
  readonly provider: string;
  readonly workUnits: string;
  readonly microCredits: bigint;
  readonly receiptCount: number;
};

const PATIENCE_MS = 20_000;

/**
 * Every provider's verified work and what it has coming, as soon as the ledger has judged `receiptCount` receipts; what
 * it has after 20 s otherwise.
 */
export async function earnings(
  address: string,
  tlsDirectory: string,
  receiptCount: number,
): Promise<readonly Earning[]> {
  const client = dial("Ledger", address, valueOrThrow(openTls(tlsDirectory)), LEDGER);
  try {
    const deadline = performance.now() + PATIENCE_MS;
    for (;;) {
      const reply = valueOrThrow(
        await ask<BalanceReply__Output>("the ledger", 10_000, (options, callback) =>
          client.Balance({ provider: "" }, options, callback),
        ),
      );
      const rows = reply.rows.map((row) => ({
        provider: row.provider,
        workUnits: row.work,
        microCredits: [row.pendingMicroCredits, row.payableMicroCredits, row.paidMicroCredits].reduce(
          (sum, amount) => sum + BigInt(amount),
          0n,
        ),
        receiptCount: row.receiptCount,
      }));
      const judgedCount = rows.reduce((sum, row) => sum + row.receiptCount, 0);
      if (judgedCount >= receiptCount || performance.now() > deadline) return rows;
      await after(100); // the gateway hands receipts over after the answer has been sent
    }
  } finally {
    closeClient(client);
  }
}
