/** A gateway and a ledger that take what the operator tells them and say what a test wants. Real doors, real mTLS. */
import { generateKeyPairSync } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { DemandReport } from "../../core/gen/proto/tessellate/control/v1/DemandReport.ts";
import type { ModelDemand } from "../../core/gen/proto/tessellate/control/v1/ModelDemand.ts";
import type { State__Output } from "../../core/gen/proto/tessellate/control/v1/State.ts";
import { envelopeBytes, IN_TOTO_PAYLOAD_TYPE, signEnvelope } from "../../core/dsse.ts";
import { GATEWAY, LEDGER } from "../../core/identity.ts";
import { signingKeyOf, type SigningKey } from "../../core/keys.ts";
import { merkleRoot } from "../../core/merkle.ts";
import { digestText } from "../../core/digest.ts";
import { ok, refuse, valueOrThrow } from "../../core/result.ts";
import { settlementStatement } from "../../core/settlement.ts";
import { type Authority, writeCertificate } from "../../core/wire/authority.ts";
import { type Door, openDoor } from "../../core/wire/door.ts";
import { answer, stream } from "../../core/wire/peer.ts";
import { loadService } from "../../core/wire/proto.ts";
import { openTls, serverCredentials, type Tls } from "../../core/wire/tls.ts";

export type FakeHouse = {
  readonly gateway: Door;
  readonly ledger: Door;
  readonly gatewayKey: SigningKey;
  /** What each was told last. */
  readonly told: { gateway: State__Output | undefined; ledger: State__Output | undefined };
  /** What probes answer: undefined passes, a text is why not. */
  probeFailure: string | undefined;
  readonly probes: { readonly model: string; readonly chain: number }[];
  /** What the gateway says is asked of a model, `<namespace>/<name>`; whether it sleeps it says as it was told. */
  say(
    model: string,
    demand: { readonly waiting?: number; readonly sessions?: number; readonly idleSeconds?: number },
  ): void;
  close(): Promise<void>;
};

const newKey = (): SigningKey => valueOrThrow(signingKeyOf(generateKeyPairSync("ed25519").privateKey, "a test"));

/** Each on its own loopback address, as a pod would be. */
export async function startFakeHouse(
  authority: Authority,
  /** Where several operators tell it things side by side, each in its own epochs, it must not mind the fence. */
  hosts: { readonly gateway: string; readonly ledger: string; readonly unfenced?: true },
): Promise<FakeHouse> {
  const directory = await mkdtemp(join(tmpdir(), "tessellate-house-"));
  const opened: Tls[] = [];
  const credentials = async (identity: typeof GATEWAY) => {
    await writeCertificate(join(directory, identity.kind), await authority.issue(identity));
    const tls = valueOrThrow(openTls(join(directory, identity.kind)));
    opened.push(tls);
    return serverCredentials(tls);
  };
  const gatewayKey = newKey();
  const ledgerKey = newKey();
  const fromOperator = ({ kind }: { readonly kind: string }) => kind === "operator";
  const told: FakeHouse["told"] = { gateway: undefined, ledger: undefined };
  const house = {
    told,
    gatewayKey,
    probeFailure: undefined as string | undefined,
    probes: [] as { model: string; chain: number }[],
  };
  const said = new Map<string, ModelDemand>();
  const sessionsOf = (namespace: string, name: string) => said.get(`${namespace}/${name}`)?.sessionCount ?? 0;
  const listeners = new Set<{ write(report: DemandReport): unknown }>();
  const known = new Map<string, State__Output["models"][number]>(); // of all operators that tell it things
  const report = (): void => {
    const models = hosts.unfenced === undefined ? (told.gateway?.models ?? []) : [...known.values()];
    // As a gateway does: of those that may sleep or do; nobody asks unless a test says so.
    const demand = models
      .filter(({ asleep, wakeTimeoutSeconds }) => asleep || wakeTimeoutSeconds > 0)
      .map(({ namespace, name, asleep }) => {
        const { waitingCount = 0, sessionCount = 0, idleSeconds = 0 } = said.get(`${namespace}/${name}`) ?? {};
        return { namespace, name, asleep, waitingCount, sessionCount, idleSeconds };
      });
    for (const listener of listeners) listener.write({ models: demand });
  };
  const control = (who: "gateway" | "ledger") => ({
    Put: answer<State__Output, object>(fromOperator, (state) => {
      if (hosts.unfenced === undefined && state.fence < (told[who]?.fence ?? 0))
        return refuse("StaleFence", "another operator leads");
      told[who] = state;
      for (const model of state.models) known.set(`${model.namespace}/${model.name}`, model);
      if (who === "gateway") report();
      // Nobody asks it anything unless a test says so, so all that drains is quiet.
      const draining = state.models.flatMap(({ namespace, name, chains }) =>
        chains.flatMap((chain) =>
          chain.draining
            ? [{ namespace, model: name, chain: chain.index, sessionCount: sessionsOf(namespace, name) }]
            : [],
        ),
      );
      return ok({ name: `${who}-0`, publicKey: who === "gateway" ? gatewayKey.publicKey.spki : "", draining });
    }),
    Demand: stream<object, DemandReport>(fromOperator, (call) => {
      listeners.add(call);
      call.on("cancelled", () => listeners.delete(call));
      report();
    }),
    Probe: answer<{ readonly model: string; readonly chain: number }, object>(fromOperator, ({ model, chain }) => {
      house.probes.push({ model, chain });
      return ok(
        house.probeFailure === undefined
          ? { passed: true }
          : { passed: false, code: "RankLost", detail: house.probeFailure },
      );
    }),
  });
  const gateway = await openDoor({
    host: hosts.gateway,
    port: 0,
    credentials: await credentials(GATEWAY),
    services: ["Control"],
    add: (server) => server.addService(loadService("Control").service, control("gateway")),
  });
  const ledger = await openDoor({
    host: hosts.ledger,
    port: 0,
    credentials: await credentials(LEDGER),
    services: ["Control", "Ledger"],
    add: (server) => {
      server.addService(loadService("Control").service, control("ledger"));
      server.addService(loadService("Ledger").service, {
        Submit: answer(fromOperator, () => refuse("BadRequest", "not here")),
        Balance: answer(fromOperator, () => refuse("BadRequest", "not here")),
        Settle: answer<{ readonly epoch: number }, object>(fromOperator, ({ epoch }) =>
          epoch === 0
            ? refuse("NothingToSettle", "epoch 0 has no work; wait for sessions to end")
            : ok({ settlement: Buffer.from(settlementOf(epoch, ledgerKey)) }),
        ),
      });
    },
  });
  return Object.assign(house, {
    gateway,
    ledger,
    say(model: string, { waiting = 0, sessions = 0, idleSeconds = 0 }: Parameters<FakeHouse["say"]>[1]) {
      said.set(model, { waitingCount: waiting, sessionCount: sessions, idleSeconds });
      report();
    },
    async close() {
      await Promise.all([gateway.close(0), ledger.close(0)]);
      for (const tls of opened) tls.close();
      await rm(directory, { recursive: true, force: true });
    },
  });
}

function settlementOf(epoch: number, key: SigningKey): Uint8Array {
  const pool = "pool/411.0/default/tiny@0000000000000000@150000";
  const payload = settlementStatement({
    sequence: 0,
    previous: null,
    epoch,
    part: 0,
    sessionCount: 1,
    receipts: { count: 0, root: digestText(merkleRoot([])) },
    pools: [],
    entries: [
      { id: `${pool}/from/gateway/gw`, debit: "gateway/gw", credit: pool, amount: 1_500_000n },
      { id: `${pool}/to/provider/campus`, debit: pool, credit: "provider/campus", amount: 1_499_999n },
    ],
    totals: { collected: 1_500_000n, paid: 1_499_999n, withheld: 0n, dust: 1n },
  });
  return envelopeBytes(signEnvelope(IN_TOTO_PAYLOAD_TYPE, payload, key));
}
