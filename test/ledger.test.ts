/** The ledger as a process, over mTLS, on both stores: judged, restarted, killed, settled, scraped; and its commands. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { closeClient } from "@grpc/grpc-js";
import { expect } from "chai";
import { Client } from "pg";
import type { State } from "../core/gen/proto/tessellate/control/v1/State.ts";
import type { PutReply__Output } from "../core/gen/proto/tessellate/control/v1/PutReply.ts";
import type { BalanceReply__Output } from "../core/gen/proto/tessellate/ledger/v1/BalanceReply.ts";
import type { Judgement__Output } from "../core/gen/proto/tessellate/ledger/v1/Judgement.ts";
import type { SettleReply__Output } from "../core/gen/proto/tessellate/ledger/v1/SettleReply.ts";
import { GATEWAY, type Identity, LEDGER, OPERATOR } from "../core/identity.ts";
import { parsePublicKey } from "../core/keys.ts";
import { type Result, ok, valueOrThrow } from "../core/result.ts";
import { type SessionOptions, aSession, keyNamed } from "../core/session-fixture.ts";
import { openSettlement } from "../core/settlement.ts";
import { type Authority, createAuthority, writeCertificate } from "../core/wire/authority.ts";
import { ask, dial } from "../core/wire/door.ts";
import { type Tls, openTls } from "../core/wire/tls.ts";
import { aPicture, stateOf } from "../ledger/rules/picture-fixture.ts";
import type { Submission } from "../gateway/usage/seal.ts";
import { type Postgres, startPostgres, whyNoPostgres } from "./postgres.ts";
import { aState, startTestGateway } from "./gateway/start.ts";
import { tinyModel } from "./gateway/tiny-model.ts";
import { requireOrSkip } from "./requirement.ts";
import { tessellate } from "./tessellate-sync.ts";
import { until } from "./until.ts";

type LedgerProcess = {
  readonly child: ChildProcess;
  readonly address: string;
  readonly metrics: string;
  readonly key: string;
  readonly ended: Promise<number | string>;
  readonly errors: () => string;
};

const EPOCH_SECONDS = 3600;
const epochNow = () => Math.floor(Date.now() / 1000 / EPOCH_SECONDS);
let epoch = epochNow();
/** 900 micro-credits a session of six tokens. */
const price = 150_000_000n;
const gatewayKey = keyNamed("gateway/gw").publicKey.spki;
const session = (options: SessionOptions = {}) => aSession({ price, epoch, ...options });

for (const kind of ["pglite", "postgres"] as const) {
  describe(`the ledger process on ${kind}`, function () {
    this.timeout(180_000);
    let directory: string;
    let authority: Authority;
    let postgres: Postgres | undefined;
    let store: string;
    let ledger: LedgerProcess;
    let sessionCount = 3;
    const tlses: Tls[] = [];
    const started: LedgerProcess[] = [];

    before(async function () {
      epoch = epochNow(); // not as it was when all files of tests were read
      directory = mkdtempSync(join(tmpdir(), "tessellate-ledger-"));
      authority = await createAuthority();
      if (kind === "postgres") {
        requireOrSkip(this, whyNoPostgres());
        postgres = await startPostgres();
      }
      store = postgres?.url ?? `pglite:${join(directory, "store")}`;
      await writeCertificate(join(directory, "ledger-tls"), await authority.issue(LEDGER, { ips: ["127.0.0.1"] }));
      ledger = await start();
    });
    after(async () => {
      for (const each of started) {
        each.child.kill("SIGKILL");
        await each.ended;
      }
      for (const tls of tlses) tls.close();
      postgres?.stop();
      rmSync(directory, { recursive: true, force: true });
    });

    /** Resolves when the ledger listens; rejects with what it said where it ends before. */
    const start = async (): Promise<LedgerProcess> => {
      const flags = [
        "--listen",
        "127.0.0.1:0",
        "--metrics",
        "127.0.0.1:0",
        "--tls",
        join(directory, "ledger-tls"),
        "--key",
        join(directory, "ledger.pem"),
        "--store",
        store,
      ];
      const child = spawn(process.execPath, ["ledger/main.ts", ...flags], { stdio: ["ignore", "pipe", "pipe"] });
      let errors = "";
      child.stderr.on("data", (chunk: Buffer) => (errors += chunk.toString()));
      const ended = new Promise<number | string>((resolve) =>
        child.once("close", (code, signal) => resolve(signal ?? code ?? -1)),
      );
      const line = await Promise.race([
        new Promise<string>((resolve) => createInterface({ input: child.stdout }).once("line", resolve)),
        ended.then((code) => Promise.reject(new Error(`the ledger ended with ${code}: ${errors}`))),
      ]);
      const { address, metrics, key } = JSON.parse(line) as {
        readonly address: string;
        readonly metrics: string;
        readonly key: string;
      };
      const running = { child, address, metrics, key, ended, errors: () => errors };
      started.push(running);
      return running;
    };
    const restart = async (signal: "SIGTERM" | "SIGKILL") => {
      ledger.child.kill(signal);
      const code = await ledger.ended;
      ledger = await start();
      return code;
    };

    const known = new Map<string, Promise<Tls>>();
    const tlsOf = (identity: Identity): Promise<Tls> => {
      const issued = known.get(identity.kind) ?? issue(identity);
      known.set(identity.kind, issued);
      return issued;
    };
    const issue = async (identity: Identity): Promise<Tls> => {
      const where = join(directory, identity.kind);
      await writeCertificate(where, await authority.issue(identity, { ips: ["127.0.0.1"] }));
      const tls = valueOrThrow(openTls(where));
      tlses.push(tls);
      return tls;
    };
    const asked = async <Reply>(
      identity: Identity,
      question: (client: ReturnType<typeof dialLedger>) => Promise<Result<Reply>>,
    ): Promise<Result<Reply>> => {
      const client = dialLedger(ledger.address, await tlsOf(identity));
      try {
        return await question(client);
      } finally {
        closeClient(client);
      }
    };
    const dialLedger = (address: string, tls: Tls) => dial("Ledger", address, tls, LEDGER);
    const put = async (
      identity: Identity = OPERATOR,
      state: State = stateOf(aPicture({ price })),
    ): Promise<Result<PutReply__Output>> => {
      const client = dial("Control", ledger.address, await tlsOf(identity), LEDGER);
      try {
        return await ask<PutReply__Output>("the ledger", 10_000, (options, callback) =>
          client.Put(state, options, callback),
        );
      } finally {
        closeClient(client);
      }
    };
    const submit = (options: SessionOptions = {}, identity: Identity = GATEWAY) => {
      return submitted(session(options).submission, identity);
    };
    const submitted = ({ usage, receipts }: Submission, identity: Identity = GATEWAY) => {
      const message = { usage: Buffer.from(usage), receipts: receipts.map((receipt) => Buffer.from(receipt)) };
      return asked<Judgement__Output>(identity, (client) =>
        ask("the ledger", 10_000, (call, callback) => client.Submit(message, call, callback)),
      );
    };
    const verdicts = async (options: SessionOptions = {}) =>
      valueOrThrow(await submit(options)).verdicts.map(({ verdict, code, blame }) =>
        `${verdict} ${code} ${blame}`.trim(),
      );
    const balance = async () =>
      valueOrThrow(
        await asked<BalanceReply__Output>(OPERATOR, (client) =>
          ask("the ledger", 10_000, (call, callback) => client.Balance({ provider: "campus" }, call, callback)),
        ),
      ).rows;
    const settle = () =>
      asked<SettleReply__Output>(OPERATOR, (client) =>
        ask("the ledger", 10_000, (call, callback) => client.Settle({ latest: true }, call, callback)),
      );
    const http = async (path: string) => {
      const response = await fetch(`http://${ledger.metrics}${path}`);
      return { status: response.status, body: await response.text() };
    };

    it("is healthy, ready, and told what there is", async () => {
      expect((await http("/healthz")).status).to.equal(200);
      expect((await http("/readyz")).status).to.equal(200);
      const reply = valueOrThrow(await put());
      expect(reply).to.include({ name: "ledger", publicKey: ledger.key, readyModelCount: 1 });
    });

    it("judges what a gateway submits, once", async () => {
      expect(await verdicts()).to.deep.equal(Array(5).fill("accept"));
      expect(await verdicts()).to.deep.equal(Array(5).fill("ignore AlreadyCounted"));
    });

    it("says whose fault a bad receipt is", async () => {
      const lie = {
        id: "s-lie",
        alter: (receipt: ReturnType<typeof session>["receipts"][number], index: number) =>
          index === 1 ? { ...receipt, node: "elsewhere" } : receipt,
      };
      expect(await verdicts(lie)).to.deep.equal([
        "accept",
        "accept",
        "reject WrongShard provider/garage",
        "accept",
        "accept",
      ]);
    });

    it("lets only the operator tell and settle, and no rank submit", async () => {
      const rank: Identity = { kind: "rank", name: "default/assistant-0-0-0" };
      expect(await put(GATEWAY)).to.include({ ok: false, code: "NotMyNeighbour" });
      expect(await submit({ id: "s-r" }, rank)).to.include({ ok: false, code: "NotMyNeighbour" });
      expect(
        await asked(GATEWAY, (client) =>
          ask("the ledger", 10_000, (call, callback) => client.Settle({ latest: true }, call, callback)),
        ),
      ).to.include({ code: "NotMyNeighbour" });
    });

    it("refuses to share its store with a second ledger", async () => {
      const second = await start().then(
        () => "it started",
        (error: unknown) => String(error),
      );
      expect(second).to.contain("StoreInUse");
    });

    it("ends cleanly on SIGTERM and goes on where it was, without being told anew", async () => {
      const before = await balance();
      expect(await restart("SIGTERM")).to.equal(0);
      expect(await balance()).to.deep.equal(before);
      expect(await verdicts({ id: "s-3" })).to.deep.equal(Array(5).fill("accept"));
    });

    it("loses nothing that it answered, and keeps no halves, when it is killed at work", async () => {
      // Submitters go on until the ledger is gone, so that the kill falls into work however fast the machine is.
      const sent: string[] = [];
      const answered: string[] = [];
      const submitter = async () => {
        for (let alive = true; alive; ) {
          const id = `storm-${sent.length}`;
          sent.push(id);
          alive = (await submit({ id })).ok;
          if (alive) answered.push(id);
          if (answered.length === 10) ledger.child.kill("SIGKILL");
        }
      };
      await Promise.all(Array.from({ length: 8 }, submitter));
      await ledger.ended;
      expect(sent.length).to.be.above(answered.length);
      expect(answered.length).to.be.at.least(10);
      ledger = await start();
      for (const id of sent) {
        const again = await verdicts({ id });
        expect(new Set(again).size, `${id} is there whole or not at all`).to.equal(1);
        if (answered.includes(id)) expect(again[0]).to.equal("ignore AlreadyCounted");
      }
      sessionCount += sent.length;
      const [row] = await balance();
      expect(row?.receiptCount).to.equal(2 * sessionCount);
    });

    if (kind === "postgres") {
      it("ends when its hold on the store is gone, since another ledger may write from then on", async () => {
        const client = new Client({ connectionString: store });
        await client.connect();
        await client.query(
          "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'tessellate-ledger-lock'",
        );
        await client.end();
        expect(await ledger.ended).to.equal(1);
        expect(ledger.errors()).to.contain("store-lost");
        ledger = await start();
      });
    }

    it("settles, signs, and shows Prometheus the same", async () => {
      const reply = valueOrThrow(await settle());
      const key = valueOrThrow(parsePublicKey(ledger.key, "the ledger"));
      const { settlement } = valueOrThrow(openSettlement(reply.settlement, key));
      expect(settlement.sessionCount).to.equal(sessionCount);
      expect(settlement.totals).to.deep.equal({
        collected: BigInt(sessionCount) * 900n,
        paid: BigInt(sessionCount) * 900n - 135n,
        withheld: 135n,
        dust: 0n,
      });
      expect(Buffer.compare(valueOrThrow(await settle()).settlement, reply.settlement)).to.equal(0);
      const paid = /tessellate_rewards_credits_total\{provider="campus",state="paid"\} (\S+)/.exec(
        (await http("/metrics")).body,
      )?.[1];
      const [row] = await balance();
      expect(Math.round(Number(paid) * 1e6)).to.equal(Number(row?.paidMicroCredits));
      expect(row).to.include({ pendingMicroCredits: "0", payableMicroCredits: "0" });
    });

    it("is shown by tessellate balance and settle, and a settlement is checked offline", async () => {
      await tlsOf(OPERATOR);
      const door = ["--ledger", ledger.address, "--tls", join(directory, "operator")];
      const table = tessellate("balance", "garage", ...door);
      expect(table.status, table.stderr).to.equal(0);
      expect(table.stdout)
        .to.contain("verified work")
        .and.to.contain(String(epoch))
        .and.to.contain(`${sessionCount - 1} of ${sessionCount} accepted`);
      const rows: unknown = JSON.parse(tessellate("balance", "-o", "json", ...door).stdout);
      expect(rows).to.have.property("rows").with.length(3);
      const saved = join(directory, "settlement.json");
      const settled = tessellate("settle", "--epoch", String(epoch), "--save", saved, ...door);
      expect(settled.stdout).to.contain("provider/garage");
      const checked = tessellate("verify", "--settlement", saved, "--ledger-key", ledger.key);
      expect(checked.stdout, checked.stderr).to.contain(`verified: epoch ${epoch}`);
      writeFileSync(
        saved,
        readFileSync(saved).map((byte, index) => (index === 900 ? byte ^ 1 : byte)),
      );
      expect(tessellate("verify", "--settlement", saved, "--ledger-key", ledger.key)).to.include({ status: 1 });
      expect(tessellate("balance", "--ledger", "127.0.0.1:1", "--tls", join(directory, "operator"))).to.include({
        status: 1,
      });
    });

    if (kind === "postgres") {
      it("is away for as long as its database: gateways answer, and it has all of their usage afterwards", async () => {
        const model = tinyModel();
        const known = { ...aState([[model]]), fence: 2, gateways: [{ name: "gw", publicKey: gatewayKey }] };
        valueOrThrow(await put(OPERATOR, known));
        const gateway = await startTestGateway({ models: [model] });
        try {
          const judged: number[] = []; // receipts that were accepted, by submission
          gateway.judge = async ({ usage, receipts }) => {
            const judgement = await submitted({ usage, receipts });
            if (!judgement.ok) return judgement;
            const { verdicts: all } = judgement.value;
            const rejected = all.flatMap(({ verdict, code }) => (verdict === "accept" ? [] : [code]));
            judged.push(all.length - rejected.length);
            return ok({ accepted: all.length - rejected.length, rejected });
          };
          const answer = async () => {
            const body = JSON.stringify({ model: "tiny", prompt: "Once", max_tokens: 4 });
            const headers = { "content-type": "application/json" };
            return (await fetch(`${gateway.url}/v1/completions`, { method: "POST", headers, body })).status;
          };
          expect(await answer()).to.equal(200);
          await until("the first to be judged", () => judged.length === 1);
          postgres?.halt();
          expect(await ledger.ended).to.equal(1);
          expect(ledger.errors()).to.contain("store-lost");
          const again = await start().then(
            () => "it started",
            (error: unknown) => String(error),
          );
          expect(again).to.contain("cannot reach the ledger's database");
          for (let count = 0; count < 3; count++) expect(await answer(), "while the ledger is away").to.equal(200);
          expect(judged).to.have.length(1);
          postgres?.resume();
          ledger = await start();
          await until("all to be judged", () => judged.length === 4);
          expect(new Set(judged), "none is rejected").to.deep.equal(new Set([judged[0]]));
          expect(judged[0]).to.be.greaterThan(0);
        } finally {
          await gateway.close();
        }
      });
    }
  });
}
