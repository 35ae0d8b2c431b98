/** `tessellate balance`: what providers have verified, and what it earned them, as the ledger has it. */
import type { Command } from "commander";
import type { BalanceReply__Output } from "../../core/gen/proto/tessellate/ledger/v1/BalanceReply.ts";
import type { EpochBalance__Output } from "../../core/gen/proto/tessellate/ledger/v1/EpochBalance.ts";
import { formatCredits } from "../../core/units.ts";
import { ask } from "../../core/wire/door.ts";
import { showTable } from "../../operator/plan/words/table.ts";
import { choice } from "../choice.ts";
import { type LedgerOptions, askLedger, withLedgerOptions } from "../ledger-door.ts";

const TIMEOUT_MS = 15_000;
const MILLION = 1_000_000n;

export function register(program: Command): void {
  const command = program
    .command("balance")
    .description("show verified work and credits by epoch, of one provider or of all")
    .argument("[provider]", "left out: every provider")
    .option("-o, --output <form>", "table or json", "table");
  withLedgerOptions(command).action(
    async (provider: string | undefined, options: LedgerOptions & { readonly output: string }) => {
      choice("-o", options.output, ["table", "json"]);
      const { rows } = await askLedger(options, (client, who) =>
        ask<BalanceReply__Output>(who, TIMEOUT_MS, (call, callback) =>
          client.Balance({ provider: provider ?? "" }, call, callback),
        ),
      );
      if (options.output === "json") console.log(JSON.stringify({ rows }, undefined, 2));
      else
        console.log(
          rows.length === 0
            ? `the ledger has judged nothing of ${provider ?? "any provider"} yet`
            : showBalances(rows, provider === undefined),
        );
    },
  );
}

/** Amounts in credits, work in layers × tokens; a dash where there is nothing. */
export function showBalances(rows: readonly EpochBalance__Output[], named: boolean): string {
  const amounts = ["verified work", "pending", "payable", "paid", "withheld"];
  const table = rows.map((row) => [
    ...(named ? [row.provider] : []),
    String(row.epoch),
    showWork(BigInt(row.work)),
    ...[row.pendingMicroCredits, row.payableMicroCredits, row.paidMicroCredits, row.withheldMicroCredits].map(
      (amount) => (amount === "0" ? "–" : formatCredits(BigInt(amount))),
    ),
    `${row.receiptCount - row.rejectedCount} of ${row.receiptCount} accepted`,
  ]);
  return showTable([...(named ? ["provider"] : []), "epoch", ...amounts, "receipts"], table, ["epoch", ...amounts]);
}

/** `12,024 layer-tokens`: work units are layers × positions × millionths of a segment. */
function showWork(units: bigint): string {
  const whole = (units / MILLION).toString().replace(/\B(?=(\d{3})+$)/g, ",");
  const tenths = (units % MILLION) / 100_000n;
  return `${whole}${tenths === 0n ? "" : `.${tenths}`} layer-tokens`;
}
