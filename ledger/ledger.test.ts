/** The ledger over a real database (PGlite in memory), with a stopped clock. */
import { expect } from "chai";
import fc from "fast-check";
import { type SessionOptions, aSession, keyNamed } from "../core/session-fixture.ts";
import { openSettlement } from "../core/settlement.ts";
import { digestOf } from "../core/digest.ts";
import { valueOrThrow } from "../core/result.ts";
import type { Balance } from "./balances.ts";
import { Ledger } from "./ledger.ts";
import { ledgerMetrics } from "./metrics.ts";
import { EPOCH_SECONDS, NOW_SECONDS, type PictureOptions, aPicture, stateOf } from "./rules/picture-fixture.ts";
import { checkSettlement } from "./rules/settlement.ts";
import { openMemory } from "./store/pglite-database.ts";
import type { Database } from "./store/database.ts";
import { migrate } from "./store/migrations.ts";
import { Store } from "./store/store.ts";

const TABLES = [
  "entries",
  "settled_sessions",
  "settlements",
  "equivocations",
  "verdicts",
  "receipts",
  "sessions",
  "facts",
];
const key = keyNamed("ledger");
/** Worth 900 micro-credits: six tokens at 150 credits a million. */
const price = 150_000_000n;
const other = digestOf(new TextEncoder().encode("something else"));

describe("ledger", () => {
  let database: Database;
  let store: Store;
  let ledger: Ledger;
  let nowSeconds = NOW_SECONDS;

  before(async () => {
    database = await openMemory();
    await migrate(database);
    store = new Store(database);
  });
  after(() => database.close());

  const reopen = async () => {
    ledger = await Ledger.open({ store, clock: { nowSeconds: () => nowSeconds }, key, log: () => {} });
  };
  const empty = async () => {
    await database.transaction(async (query) => {
      await query("set local session_replication_role = replica"); // past the triggers: a test's right, not the ledger's
      for (const table of TABLES) await query(`delete from ${table}`);
    });
    nowSeconds = NOW_SECONDS;
    await reopen();
  };
  const fresh = async () => {
    await empty();
    nowSeconds = 410 * EPOCH_SECONDS;
    await told();
    nowSeconds = NOW_SECONDS;
  };
  beforeEach(fresh);

  const told = (options: PictureOptions = {}) => ledger.put(stateOf(aPicture({ price, ...options })));
  const session = (options: SessionOptions = {}) => aSession({ price, ...options });
  const submit = async (options: SessionOptions = {}) =>
    (await ledger.submit(session(options).submission)).map(({ verdict }) =>
      verdict.verdict === "accept" ? "accept" : verdict.code,
    );
  const show = ({ provider, epoch, units, receiptCount, rejectedCount, ...amounts }: Balance) => {
    const { pending, payable, paid, withheld } = amounts;
    const accepted = `${receiptCount - rejectedCount} of ${receiptCount}`;
    return `${provider} ${epoch} work ${units} pending ${pending} payable ${payable} paid ${paid} withheld ${withheld}, ${accepted}`;
  };
  const balances = async () => (await ledger.balances("")).map(show);
  const settled = async (epoch: number | "latest" = "latest") => {
    const bytes = valueOrThrow(await ledger.settle(epoch));
    return valueOrThrow(openSettlement(bytes, key.publicKey)).settlement;
  };
  const earned = async () =>
    Object.fromEntries(
      (await ledger.balances("")).map(({ provider, pending, payable, paid }) => [provider, pending + payable + paid]),
    );

  it("follows work from pending over payable to paid", async () => {
    expect(await submit()).to.deep.equal(["accept", "accept", "accept", "accept", "accept"]);
    const row = (amounts: string, provider: string, units: number, count: number) =>
      `${provider} 411 work ${units} ${amounts} withheld 0, ${count} of ${count}`;
    const rows = (amountsOf: (amount: number) => string) => [
      row(amountsOf(675), "campus", 30_000_000, 2),
      row(amountsOf(135), "garage", 6_000_000, 1),
      row(amountsOf(90), "studio", 4_000_000, 1),
    ];
    expect(await balances()).to.deep.equal(rows((amount) => `pending ${amount} payable 0 paid 0`));
    nowSeconds = 412 * EPOCH_SECONDS;
    expect(await balances()).to.deep.equal(rows((amount) => `pending 0 payable ${amount} paid 0`));
    const settlement = await settled();
    expect(settlement.totals).to.deep.equal({ collected: 900n, paid: 900n, withheld: 0n, dust: 0n });
    expect(await balances()).to.deep.equal(rows((amount) => `pending 0 payable 0 paid ${amount}`));
  });

  it("counts the same bytes once, however often they come, also after a restart", async () => {
    await submit();
    const before = await balances();
    expect(await submit()).to.deep.equal(Array(5).fill("AlreadyCounted"));
    await reopen();
    expect(await submit()).to.deep.equal(Array(5).fill("AlreadyCounted"));
    expect(await balances()).to.deep.equal(before);
    await settled();
    expect(await submit()).to.deep.equal(Array(5).fill("AlreadyCounted"));
    expect((await settled()).part).to.equal(0);
    expect((await store.entries()).length).to.equal(4);
  });

  it("remembers what it was told, and judges by it without the operator", async () => {
    await reopen();
    expect(await submit()).to.deep.equal(Array(5).fill("accept"));
    await told({ segments: [{ layers: [0, 8], ranks: [{ provider: "campus" }] }] });
    await reopen();
    expect(await submit({ id: "s-2" }), "by the plan of its epoch").to.deep.equal(Array(5).fill("accept"));
  });

  it("listens to no operator of an older lease", async () => {
    expect(valueOrThrow(await told({ fence: 7 })).fence).to.equal(7);
    expect(await told({ fence: 6 })).to.include({ ok: false, code: "StaleFence" });
    expect(
      await ledger.put({
        ...stateOf(aPicture()),
        fence: 7,
        providers: [{ name: "x", publicKey: "junk", admitted: true }],
      }),
    ).to.include({ code: "BadRequest" });
  });

  it("settles what came since in a further part, chained to the one before", async () => {
    await submit();
    const first = await settled(411);
    await submit({ id: "s-2" });
    const second = await settled(411);
    await submit({ id: "s-3", epoch: 410 });
    const third = await settled(410);
    expect([first, second, third].map(({ epoch, part, sequence }) => `${epoch}.${part} #${sequence}`)).to.deep.equal([
      "411.0 #0",
      "411.1 #1",
      "410.0 #2",
    ]);
    expect(first.previous).to.equal(null);
    const rows = await database.query("select digest, previous from settlements order by sequence");
    expect(rows.slice(1).map((row) => row["previous"])).to.deep.equal(rows.slice(0, -1).map((row) => row["digest"]));
    for (const settlement of [first, second, third]) expect(checkSettlement(settlement).ok).to.equal(true);
    expect(await settled(411)).to.deep.equal(second);
    expect(await ledger.settle(5)).to.include({ code: "NoWork" });
  });

  it("has nothing to settle before any work", async () => {
    expect(await ledger.settle("latest")).to.include({ ok: false, code: "NoWork" });
  });

  it("withholds what is rejected, and pays nobody else more for it", async () => {
    await submit({
      alter: (receipt, index) =>
        index === 1 ? { ...receipt, shard: { ...receipt.shard, shareMillionths: 1n } } : receipt,
    });
    expect(await balances()).to.deep.equal([
      "campus 411 work 30000000 pending 675 payable 0 paid 0 withheld 0, 2 of 2",
      "garage 411 work 0 pending 0 payable 0 paid 0 withheld 135, 0 of 1",
      "studio 411 work 4000000 pending 90 payable 0 paid 0 withheld 0, 1 of 1",
    ]);
    const { totals } = await settled();
    expect(totals).to.deep.equal({ collected: 900n, paid: 765n, withheld: 135n, dust: 0n });
  });

  it("does not pay a rank that signed its span twice, whichever receipt came first", async () => {
    const honest = session();
    const second = session({ alter: (receipt, index) => (index === 0 ? { ...receipt, handOffsOut: other } : receipt) });
    const evidence = second.submission.receipts[0] ?? expect.fail("a receipt");
    await ledger.submit(honest.submission);
    await ledger.submit({ usage: honest.submission.usage, receipts: [evidence] });
    const late = await balances();
    expect(late[0]).to.equal("campus 411 work 10000000 pending 225 payable 0 paid 0 withheld 450, 1 of 3");
    await fresh();
    await ledger.submit({ usage: honest.submission.usage, receipts: [...honest.submission.receipts, evidence] });
    expect((await balances())[0]?.replace(/, .*/, "")).to.equal(late[0]?.replace(/, .*/, ""));
    expect((await database.query("select 1 from equivocations")).length).to.equal(1);
  });

  it("comes to the same sums in whatever order sessions arrive", async () => {
    const lies: readonly SessionOptions[] = [
      { id: "a" },
      { id: "b", epoch: 410 },
      { id: "c", price: 1n },
      { id: "d", alter: (receipt) => ({ ...receipt, handOffsIn: other }) },
      { id: "e", generated: [] },
    ];
    let want: unknown;
    await fc.assert(
      fc.asyncProperty(fc.shuffledSubarray([...lies], { minLength: 5 }), async (order) => {
        await empty();
        await told();
        for (const options of order) await submit(options);
        const sums = await earned();
        want ??= sums;
        expect(sums).to.deep.equal(want);
      }),
      { numRuns: 6 },
    );
  });

  it("keeps its history: the database refuses to change or remove what was judged and paid", async () => {
    await submit();
    await settled();
    const refused = async (statement: string) => {
      const outcome = await database.query(statement).then(
        () => "done",
        (error: unknown) => String(error),
      );
      expect(outcome, statement).to.contain("only ever added to");
    };
    await refused("update entries set amount = amount * 2");
    await refused("delete from receipts");
    await refused("update settlements set envelope = ''");
    await refused("truncate verdicts");
  });

  it("writes all of a submission or nothing", async () => {
    const broken: Database = {
      ...database,
      transaction: (work) =>
        database.transaction((query) =>
          work((text, values) =>
            text.includes("into verdicts") ? Promise.reject(new Error("the disk is full")) : query(text, values),
          ),
        ),
    };
    const frail = await Ledger.open({
      store: new Store(broken),
      clock: { nowSeconds: () => nowSeconds },
      key,
      log: () => {},
    });
    const failed = await frail.submit(session().submission).then(
      () => "done",
      (error: unknown) => String(error),
    );
    expect(failed).to.contain("the disk is full");
    expect((await database.query("select 1 from sessions")).length).to.equal(0);
    expect(await submit(), "and it is taken when it comes again").to.deep.equal(Array(5).fill("accept"));
  });

  it("shows Prometheus what it stored", async () => {
    await submit();
    await submit();
    await submit({ id: "s-2", alter: (receipt, index) => (index === 1 ? { ...receipt, node: "elsewhere" } : receipt) });
    await settled();
    const text = await ledgerMetrics(ledger, { processMetrics: false }).metrics();
    expect(
      text.split("\n").filter((line) => line !== "" && !line.startsWith("#") && !line.endsWith(" 0")),
    ).to.deep.equal([
      'tessellate_rewards_credits_total{provider="campus",state="paid"} 0.00135',
      'tessellate_rewards_credits_total{provider="garage",state="paid"} 0.000135',
      'tessellate_rewards_credits_total{provider="garage",state="withheld"} 0.000135',
      'tessellate_rewards_credits_total{provider="studio",state="paid"} 0.00018',
      'tessellate_verified_work_units_total{provider="campus"} 60000000',
      'tessellate_verified_work_units_total{provider="garage"} 6000000',
      'tessellate_verified_work_units_total{provider="studio"} 8000000',
      'tessellate_receipts_total{verdict="accept",code=""} 7',
      'tessellate_receipts_total{verdict="reject",code="WrongShard"} 1',
      'tessellate_receipts_total{verdict="ignore",code="AlreadyCounted"} 4',
    ]);
  });
});
