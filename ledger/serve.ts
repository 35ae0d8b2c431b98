/** The ledger's gRPC doors: Ledger for gateways and the operator, Control for the operator alone. */
import type { Server } from "@grpc/grpc-js";
import type { PutReply } from "../core/gen/proto/tessellate/control/v1/PutReply.ts";
import type { State__Output } from "../core/gen/proto/tessellate/control/v1/State.ts";
import type { BalanceReply } from "../core/gen/proto/tessellate/ledger/v1/BalanceReply.ts";
import type { BalanceRequest__Output } from "../core/gen/proto/tessellate/ledger/v1/BalanceRequest.ts";
import type { Judgement } from "../core/gen/proto/tessellate/ledger/v1/Judgement.ts";
import type { SettleReply } from "../core/gen/proto/tessellate/ledger/v1/SettleReply.ts";
import type { SettleRequest__Output } from "../core/gen/proto/tessellate/ledger/v1/SettleRequest.ts";
import type { Submission__Output } from "../core/gen/proto/tessellate/ledger/v1/Submission.ts";
import type { Identity } from "../core/identity.ts";
import { ok, refuse } from "../core/result.ts";
import { type Door, openDoor } from "../core/wire/door.ts";
import { answer } from "../core/wire/peer.ts";
import { loadService } from "../core/wire/proto.ts";
import { type Tls, serverCredentials } from "../core/wire/tls.ts";
import type { Log } from "./doors.ts";
import type { JudgedPart, Ledger } from "./ledger.ts";
import { sayBlame } from "./store/inserts.ts";

const isOperator = ({ kind }: Identity): boolean => kind === "operator";
const isOperatorOrGateway = ({ kind }: Identity): boolean => kind === "operator" || kind === "gateway";

/** Binds `host:port` (port 0: any free one). Health says SERVING from the start: the store was opened before. */
export async function openLedgerDoor(options: {
  readonly host: string;
  readonly port: number;
  readonly tls: Tls;
  readonly ledger: Ledger;
  readonly name: string;
  readonly log: Log;
}): Promise<Door> {
  const { host, port, tls, log } = options;
  const door = await openDoor({
    host,
    port,
    credentials: serverCredentials(tls),
    services: ["Ledger", "Control"],
    add: (server) => addServices(server, options.ledger, options.name, log),
  });
  door.setServing(true);
  return door;
}

function addServices(server: Server, ledger: Ledger, name: string, log: Log): void {
  /** Weather is told to the log with its cause; the caller only hears that there was some. */
  const logged = async <T>(what: string, work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      log("failed", { what, detail: causesOf(error) });
      throw error;
    }
  };
  server.addService(loadService("Ledger").service, {
    Submit: answer<Submission__Output, Judgement>(isOperatorOrGateway, (submission) =>
      logged("Submit", async () => ok({ verdicts: (await ledger.submit(submission)).map(verdictMessage) })),
    ),
    Settle: answer<SettleRequest__Output, SettleReply>(isOperator, ({ epoch, latest }) =>
      logged("Settle", async () => {
        const settled = await ledger.settle(latest ? "latest" : epoch);
        return settled.ok ? ok({ settlement: Buffer.from(settled.value) }) : settled;
      }),
    ),
    Balance: answer<BalanceRequest__Output, BalanceReply>(isOperatorOrGateway, ({ provider }) =>
      logged("Balance", async () => ok({ rows: (await ledger.balances(provider)).map(balanceMessage) })),
    ),
  });
  server.addService(loadService("Control").service, {
    Put: answer<State__Output, PutReply>(isOperator, (state) =>
      logged("Put", async () => {
        const taken = await ledger.put(state);
        if (!taken.ok) return taken;
        const readyModelCount = state.models.filter(({ chains }) => chains.some(({ ready }) => ready)).length;
        return ok({ name, publicKey: ledger.publicKey, readyModelCount });
      }),
    ),
    Probe: answer(isOperator, () => refuse("BadRequest", "a ledger has no chain to probe; ask a gateway")),
  });
}

const verdictMessage = ({ digest, verdict }: JudgedPart) => ({
  receipt: digest,
  verdict: verdict.verdict,
  code: verdict.verdict === "accept" ? "" : verdict.code,
  detail: verdict.verdict === "accept" ? "" : verdict.detail,
  blame: verdict.verdict === "reject" ? sayBlame(verdict.blame) : "",
});

const balanceMessage = (balance: Awaited<ReturnType<Ledger["balances"]>>[number]) => ({
  provider: balance.provider,
  epoch: balance.epoch,
  work: balance.units.toString(),
  pendingMicroCredits: balance.pending.toString(),
  payableMicroCredits: balance.payable.toString(),
  paidMicroCredits: balance.paid.toString(),
  withheldMicroCredits: balance.withheld.toString(),
  receiptCount: balance.receiptCount,
  rejectedCount: balance.rejectedCount,
});

/** An error and what caused it, in one line. */
export function causesOf(error: unknown): string {
  const parts: string[] = [];
  for (let at: unknown = error; at instanceof Error; at = at.cause) parts.push(at.message);
  return parts.join(": ") || String(error);
}
