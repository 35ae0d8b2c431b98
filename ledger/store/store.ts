/** What the ledger remembers. Every write is one transaction; writing the same again changes nothing. */
import { microCredits } from "../../core/units.ts";
import type { Change, Facts, GatewayFact, Kind, ModelFact, ProviderFact, RankFact, Sighting } from "../rules/facts.ts";
import type { History, Judgement } from "../rules/judge.ts";
import { readBody } from "../rules/parse-picture.ts";
import type { Entry } from "../rules/settle.ts";
import type { Unsettled } from "../rules/settlement.ts";
import type { Database } from "./database.ts";
import { insertEquivocation, insertSession, insertVerdicts } from "./inserts.ts";
import { bytes, integer, text } from "./rows.ts";
import { PAID, type UnsettledEpoch, unsettledIn } from "./unsettled.ts";

/** The settlement before the next one, and how many parts the epoch already has. */
export type LastSettlement = { readonly sequence: number; readonly digest: string };

export type SignedSettlement = {
  readonly sequence: number;
  readonly part: number;
  readonly digest: string;
  readonly previous: string | null;
  readonly envelope: Uint8Array;
  readonly entries: readonly Entry[];
};

/** What one provider did in one epoch, as judged. */
export type ProviderEpoch = {
  readonly provider: string;
  readonly epoch: number;
  readonly units: bigint; // verified
  readonly receiptCount: number; // judged with a signature that holds
  readonly rejectedCount: number;
};

export class Store {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** Rejects where the database cannot be reached. */
  async ping(): Promise<void> {
    await this.#database.query("select 1");
  }

  close(): Promise<void> {
    return this.#database.close();
  }

  /** Everything the operator ever told. */
  async facts(): Promise<Facts> {
    const rows = await this.#database.query(
      "select kind, body, first_seconds::text as first, gone_seconds::text as gone from facts order by id",
    );
    const of = <T>(kind: Kind): readonly Sighting<T>[] =>
      rows
        .filter((row) => row["kind"] === kind)
        .map((row) => ({
          fact: readBody(kind, text(row, "body")) as T, // written from that very type, by told()
          firstSeconds: integer(row, "first"),
          goneSeconds: row["gone"] === null ? undefined : integer(row, "gone"),
        }));
    return {
      providers: of<ProviderFact>("providers"),
      gateways: of<GatewayFact>("gateways"),
      models: of<ModelFact>("models"),
      ranks: of<RankFact>("ranks"),
    };
  }

  async told(changes: readonly Change[]): Promise<void> {
    await this.#database.transaction(async (query) => {
      for (const { kind, body, seconds, what } of changes) {
        if (what === "begins")
          await query("insert into facts (kind, body, first_seconds) values ($1, $2, $3) on conflict do nothing", [
            kind,
            body,
            seconds,
          ]);
        else
          await query("update facts set gone_seconds = $3 where kind = $1 and body = $2 and gone_seconds is null", [
            kind,
            body,
            seconds,
          ]);
      }
    });
  }

  /** Payload digests of the receipts that were counted with exactly this usage; undefined where it was not counted. */
  async countedWith(usageDigest: string): Promise<ReadonlySet<string> | undefined> {
    const rows = await this.#database.query(
      "select r.digest from sessions s left join receipts r using (usage_digest) where s.usage_digest = $1",
      [usageDigest],
    );
    return rows.length === 0 ? undefined : new Set(rows.map((row) => text(row, "digest")));
  }

  async historyOf(session: { readonly id: string; readonly nonce: string }): Promise<History> {
    const rows = await this.#database.query(
      `select s.usage_digest, r.place, r.digest from sessions s left join receipts r using (usage_digest)
       where s.session = $1 and s.nonce = $2`,
      [session.id, session.nonce],
    );
    const [first] = rows;
    return {
      countedUsage: first === undefined ? undefined : text(first, "usage_digest"),
      receipts: new Map(
        rows.filter((row) => row["place"] !== null).map((row) => [text(row, "place"), text(row, "digest")]),
      ),
    };
  }

  /** Writes down what was judged: all of it, or nothing. */
  async record(judgement: Judgement): Promise<void> {
    const { counted, equivocations, receipts } = judgement;
    await this.#database.transaction(async (query) => {
      if (counted !== undefined) await insertSession(query, counted, receipts);
      for (const equivocation of equivocations) await insertEquivocation(query, equivocation, receipts);
      await insertVerdicts(query, judgement);
    });
  }

  /** Sums of every epoch with sessions that no settlement holds, newest last, without their receipts' digests. */
  unsettled(): Promise<readonly UnsettledEpoch[]> {
    return unsettledIn(this.#database.query, undefined, { digests: false });
  }

  /**
   * Closes an epoch: `make` turns its unsettled sums into a signed settlement, which is written with its entries in the
   * same transaction. Undefined where there is nothing to settle.
   */
  async settle(
    epoch: number,
    make: (unsettled: Unsettled, last: LastSettlement | undefined, part: number) => SignedSettlement,
  ): Promise<SignedSettlement | undefined> {
    return this.#database.transaction(async (query) => {
      const [unsettled] = await unsettledIn(query, epoch, { digests: true });
      if (unsettled === undefined) return undefined;
      const [last] = await query(
        "select sequence::text as sequence, digest from settlements order by settlements.sequence desc limit 1",
      );
      const [parts] = await query("select count(*)::text as count from settlements where epoch = $1", [epoch]);
      const made = make(
        unsettled,
        last && { sequence: integer(last, "sequence"), digest: text(last, "digest") },
        parts === undefined ? 0 : integer(parts, "count"),
      );
      await query(
        "insert into settlements (sequence, epoch, part, digest, previous, envelope) values ($1, $2, $3, $4, $5, $6)",
        [made.sequence, epoch, made.part, made.digest, made.previous, made.envelope],
      );
      await query(
        `insert into settled_sessions (usage_digest, sequence)
         select usage_digest, $2 from sessions s where epoch = $1 and not exists (select 1 from settled_sessions d where d.usage_digest = s.usage_digest)`,
        [epoch, made.sequence],
      );
      for (const { id, debit, credit, amount } of made.entries) {
        await query(
          "insert into entries (id, sequence, epoch, debit, credit, amount) values ($1, $2, $3, $4, $5, $6)",
          [id, made.sequence, epoch, debit, credit, amount.toString()],
        );
      }
      return made;
    });
  }

  /** The newest settlement of an epoch, as signed. */
  async settlementOf(epoch: number): Promise<Uint8Array | undefined> {
    const [row] = await this.#database.query(
      "select envelope from settlements where epoch = $1 order by part desc limit 1",
      [epoch],
    );
    return row === undefined ? undefined : bytes(row, "envelope");
  }

  /** The newest epoch that has counted sessions, settled or not. */
  async newestEpoch(): Promise<number | undefined> {
    const [row] = await this.#database.query("select max(epoch)::text as epoch from sessions");
    return row === undefined || row["epoch"] === null ? undefined : integer(row, "epoch");
  }

  async providerEpochs(): Promise<readonly ProviderEpoch[]> {
    const rows = await this.#database.query(
      `with judged as (
         select provider, epoch, count(distinct digest) as receipts, count(distinct digest) filter (where verdict = 'reject') as rejected
         from verdicts where subject = 'receipt' and provider is not null group by provider, epoch
       ), worked as (
         select r.provider, s.epoch, sum(r.units) as units from receipts r join sessions s using (usage_digest) where ${PAID} group by r.provider, s.epoch
       )
       select provider, epoch::text as epoch, coalesce(units, 0)::text as units,
         coalesce(receipts, 0)::text as receipts, coalesce(rejected, 0)::text as rejected
       from judged full join worked using (provider, epoch) order by provider, judged.epoch`,
    );
    return rows.map((row) => ({
      provider: text(row, "provider"),
      epoch: integer(row, "epoch"),
      units: BigInt(text(row, "units")),
      receiptCount: integer(row, "receipts"),
      rejectedCount: integer(row, "rejected"),
    }));
  }

  /** What accounts whose names begin with `prefix` were credited, by epoch. */
  async credited(
    prefix: "provider/" | "withheld/",
  ): Promise<readonly { readonly name: string; readonly epoch: number; readonly amount: bigint }[]> {
    const rows = await this.#database.query(
      "select credit, epoch::text as epoch, sum(amount)::text as amount from entries where starts_with(credit, $1) group by credit, epoch",
      [prefix],
    );
    return rows.map((row) => ({
      name: text(row, "credit").slice(prefix.length),
      epoch: integer(row, "epoch"),
      amount: BigInt(text(row, "amount")),
    }));
  }

  async verdictCounts(): Promise<
    readonly { readonly verdict: string; readonly code: string; readonly count: number }[]
  > {
    const rows = await this.#database.query(
      "select verdict, code, count(*)::text as count from verdicts where subject = 'receipt' group by verdict, code",
    );
    return rows.map((row) => ({
      verdict: text(row, "verdict"),
      code: text(row, "code"),
      count: integer(row, "count"),
    }));
  }

  /** Every entry, for audits and tests. */
  async entries(): Promise<readonly Entry[]> {
    const rows = await this.#database.query(
      "select id, debit, credit, amount::text as amount from entries order by id",
    );
    return rows.map((row) => ({
      id: text(row, "id"),
      debit: text(row, "debit"),
      credit: text(row, "credit"),
      amount: microCredits(BigInt(text(row, "amount"))),
    }));
  }
}
