/** How `balance` and `settle` find and ask the ledger. */
import { closeClient } from "@grpc/grpc-js";
import { type Command, Option } from "commander";
import { LEDGER } from "../core/identity.ts";
import { RefusalError, type Result, refuse, valueOrThrow } from "../core/result.ts";
import { dial } from "../core/wire/door.ts";
import type { Client } from "../core/wire/proto.ts";
import { openTls } from "../core/wire/tls.ts";

export type LedgerOptions = { readonly ledger: string; readonly tls: string };

/** Adds --ledger and --tls, which may also come from the environment. */
export function withLedgerOptions(command: Command): Command {
  return command
    .addOption(
      new Option("--ledger <host:port>", "the ledger's gRPC door").env("TESSELLATE_LEDGER").makeOptionMandatory(),
    )
    .addOption(
      new Option("--tls <directory>", "ca.crt, tls.crt and tls.key of the operator or a gateway")
        .env("TESSELLATE_TLS")
        .default(".tessellate/tls/operator"),
    );
}

/** One question to the ledger; its refusal is thrown as one. */
export async function askLedger<Reply>(
  { ledger, tls: directory }: LedgerOptions,
  ask: (client: Client<"Ledger">, who: string) => Promise<Result<Reply>>,
): Promise<Reply> {
  if (!/^.+:\d+$/.test(ledger)) throw new RefusalError(refuse("BadOption", `--ledger ${ledger}: must be host:port`));
  const tls = valueOrThrow(openTls(directory));
  const client = dial("Ledger", ledger, tls, LEDGER);
  try {
    return valueOrThrow(await ask(client, `the ledger at ${ledger}`));
  } finally {
    closeClient(client);
    tls.close();
  }
}
