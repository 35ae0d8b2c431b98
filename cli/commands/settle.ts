/** `tessellate settle`: has the ledger close an epoch and pay it, and checks what it signed. */
import { writeFileSync } from "node:fs";
import type { Command } from "commander";
import type { SettleReply__Output } from "../../core/gen/proto/tessellate/ledger/v1/SettleReply.ts";
import { payloadDigest } from "../../core/dsse.ts";
import { RefusalError, refuse, valueOrThrow } from "../../core/result.ts";
import { type Settlement, openSettlement } from "../../core/settlement.ts";
import { formatCredits } from "../../core/units.ts";
import { ask } from "../../core/wire/door.ts";
import { checkSettlement } from "../../ledger/rules/settlement.ts";
import { showTable } from "../../operator/plan/words/table.ts";
import { choice } from "../choice.ts";
import { type LedgerOptions, askLedger, withLedgerOptions } from "../ledger-door.ts";

const TIMEOUT_MS = 60_000;

type Options = LedgerOptions & { readonly epoch?: string; readonly save?: string; readonly output: string };

export function register(program: Command): void {
  const command = program
    .command("settle")
    .description("close an epoch and pay it; asking again shows what it was settled into")
    .option("--epoch <number>", "left out: the newest epoch with work")
    .option("--save <file>", "keep the signed settlement")
    .option("-o, --output <form>", "table or json", "table");
  withLedgerOptions(command).action(async (options: Options) => {
    choice("-o", options.output, ["table", "json"]);
    const { epoch } = options;
    if (epoch !== undefined && !/^\d{1,10}$/.test(epoch))
      throw new RefusalError(refuse("BadOption", `--epoch ${epoch}: must be a number`));
    const request = epoch === undefined ? { epoch: 0, latest: true } : { epoch: Number(epoch), latest: false };
    const reply = await askLedger(options, (client, who) =>
      ask<SettleReply__Output>(who, TIMEOUT_MS, (call, callback) => client.Settle(request, call, callback)),
    );
    const { envelope, settlement } = valueOrThrow(openSettlement(reply.settlement));
    valueOrThrow(checkSettlement(settlement));
    if (options.save !== undefined) writeFileSync(options.save, reply.settlement);
    console.log(
      options.output === "json"
        ? JSON.stringify(settlementDocument(settlement, payloadDigest(envelope)), undefined, 2)
        : showSettlement(settlement, payloadDigest(envelope)),
    );
  });
}

/** The headline and every entry. */
export function showSettlement(
  { epoch, part, sequence, sessionCount, receipts, totals, entries }: Settlement,
  digest: string,
): string {
  const { collected, paid, withheld, dust } = totals;
  const sums = `collected ${formatCredits(collected)} · paid ${formatCredits(paid)} · withheld ${formatCredits(withheld)} · dust ${formatCredits(dust)}`;
  const rows = entries.map(({ debit, credit, amount }) => [debit, credit, formatCredits(amount)]);
  const headline = `epoch ${epoch}, part ${part} · settlement ${sequence} · ${sessionCount} sessions, ${receipts.count} receipts · ${sums}`;
  return [headline, digest, "", showTable(["from", "to", "credits"], rows, ["credits"])].join("\n");
}

/** As data: amounts in micro-credits, as text. */
function settlementDocument(settlement: Settlement, digest: string): unknown {
  return JSON.parse(
    JSON.stringify({ digest, ...settlement }, (_, value: unknown) =>
      typeof value === "bigint" ? value.toString() : value,
    ),
  );
}
