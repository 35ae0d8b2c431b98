/** The ledger, over gRPC with mTLS, at whatever address the operator named last. */
import { closeClient } from "@grpc/grpc-js";
import type { Judgement__Output } from "../../core/gen/proto/tessellate/ledger/v1/Judgement.ts";
import { LEDGER } from "../../core/identity.ts";
import { ok, refuse } from "../../core/result.ts";
import { ask, dial } from "../../core/wire/door.ts";
import type { Client } from "../../core/wire/proto.ts";
import type { Tls } from "../../core/wire/tls.ts";
import type { Submission } from "./seal.ts";
import type { Submit } from "./spool.ts";

const SUBMIT_TIMEOUT_MS = 15_000;

export class LedgerClient {
  readonly #tls: Tls;
  readonly #address: () => string;
  #client: { readonly address: string; readonly client: Client<"Ledger"> } | undefined;

  /** `address`: host:port as known now, "" while there is no ledger. */
  constructor(tls: Tls, address: () => string) {
    this.#tls = tls;
    this.#address = address;
  }

  readonly submit: Submit = async (submission: Submission) => {
    const address = this.#address();
    if (address === "") return refuse("NoLedger", "the operator has named no ledger yet");
    const client = this.#clientAt(address);
    const message = {
      usage: Buffer.from(submission.usage),
      receipts: submission.receipts.map((receipt) => Buffer.from(receipt)),
    };
    const judged = await ask<Judgement__Output>(`the ledger at ${address}`, SUBMIT_TIMEOUT_MS, (options, callback) =>
      client.Submit(message, options, callback),
    );
    if (!judged.ok) return judged;
    const { verdicts } = judged.value;
    const rejected = verdicts
      .filter((one) => one.verdict === "reject")
      .map((one) => `${one.code}: ${one.detail} (blame: ${one.blame || "nobody"})`);
    return ok({ accepted: verdicts.filter((one) => one.verdict === "accept").length, rejected });
  };

  close(): void {
    if (this.#client !== undefined) closeClient(this.#client.client);
    this.#client = undefined;
  }

  #clientAt(address: string): Client<"Ledger"> {
    if (this.#client?.address === address) return this.#client.client;
    this.close();
    const client = dial("Ledger", address, this.#tls, LEDGER);
    this.#client = { address, client };
    return client;
  }
}
