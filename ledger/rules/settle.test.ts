import { expect } from "chai";
import fc from "fast-check";
import { parseSettlement, settlementStatement } from "../../core/settlement.ts";
import { ROOT } from "../../core/session-fixture.ts";
import { workUnits } from "../../core/units.ts";
import { type Pool, type Work, settle } from "./settle.ts";
import { checkSettlement, makeSettlement } from "./settlement.ts";

const names = ["ann", "bea", "cid", "dan", "eve"];
const work = fc.record({
  provider: fc.constantFrom(...names),
  units: fc.bigInt(0n, 10n ** 15n).map(workUnits),
  state: fc.constantFrom("verified" as const, "withheld" as const),
});
const fee = fc.record({ gateway: fc.constantFrom("g-0", "g-1"), tokenPrices: fc.bigInt(0n, 10n ** 18n) });
const pool: fc.Arbitrary<Pool> = fc.record({
  model: fc.constantFrom("default/a", "default/b"),
  root: fc.constant(ROOT),
  price: fc.constantFrom(1n, 150_000n),
  fees: fc.array(fee, { maxLength: 6 }),
  work: fc.array(work, { maxLength: 12 }),
});
const pools = fc.array(pool, { maxLength: 5 });

const aPool = (fees: bigint, shares: readonly Work[]): Pool => ({
  model: "default/a",
  root: ROOT,
  price: 1n,
  fees: [{ gateway: "g-0", tokenPrices: fees * 1_000_000n }],
  work: shares,
});
const verified = (provider: string, units: bigint): Work => ({ provider, units: workUnits(units), state: "verified" });

/** What each account has after the entries, from nothing. */
function balances(entries: ReturnType<typeof settle>): ReadonlyMap<string, bigint> {
  const sums = new Map<string, bigint>();
  for (const { debit, credit, amount } of entries) {
    sums.set(debit, (sums.get(debit) ?? 0n) - amount);
    sums.set(credit, (sums.get(credit) ?? 0n) + amount);
  }
  return sums;
}
const earned = (entries: ReturnType<typeof settle>, provider: string) =>
  balances(entries).get(`provider/${provider}`) ?? 0n;

describe("settle", () => {
  it("pays an epoch's fees in proportion to verified work", () => {
    expect(
      settle("7.0", [aPool(1_000_000n, [verified("ann", 9n), verified("bob", 3n)])]).map(
        ({ id, debit, credit, amount }) =>
          `${id.split("/").slice(-3).join("/")} ${debit.split("/")[0]}→${credit.split("/")[0]} ${amount}`,
      ),
    ).to.deep.equal([
      `${"from/gateway/g-0"} gateway→pool 1000000`,
      "to/provider/ann pool→provider 750000",
      "to/provider/bob pool→provider 250000",
    ]);
  });

  it("conserves: every entry has two sides, no pool is overdrawn, paid and withheld never exceed what was collected", () => {
    fc.assert(
      fc.property(pools, (some) => {
        const sums = balances(settle("7.0", some));
        let total = 0n;
        for (const [name, amount] of sums) {
          total += amount;
          if (!name.startsWith("gateway/")) expect(amount >= 0n, name).to.equal(true);
        }
        expect(total).to.equal(0n);
      }),
    );
  });

  it("leaves less dust than there are payees", () => {
    fc.assert(
      fc.property(pools, (some) => {
        const { totals, pools: kept } = makeSettlement(
          { epoch: 7, sessionCount: 0, receipts: [], pools: some },
          { sequence: 0, previous: null, part: 0 },
        );
        const idle = kept.filter(({ work: shares }) => shares.every(({ units }) => units === 0n)).length;
        if (idle === 0) expect(totals.dust < BigInt(1 + 2 * names.length * Math.max(1, kept.length))).to.equal(true);
        expect(totals.collected).to.equal(totals.paid + totals.withheld + totals.dust);
      }),
    );
  });

  it("does not depend on the order in which work arrived", () => {
    fc.assert(
      fc.property(
        pools.chain((some) => fc.tuple(fc.constant(some), fc.shuffledSubarray(some, { minLength: some.length }))),
        ([some, shuffled]) => {
          const turned = shuffled.map((one) => ({
            ...one,
            fees: [...one.fees].reverse(),
            work: [...one.work].reverse(),
          }));
          expect(settle("7.0", turned)).to.deep.equal(settle("7.0", some));
        },
      ),
    );
  });

  it("posts the same ids for the same period, each once", () => {
    fc.assert(
      fc.property(pools, (some) => {
        const ids = settle("7.0", some).map(({ id }) => id);
        expect(new Set(ids).size).to.equal(ids.length);
        expect(settle("7.0", some).map(({ id }) => id)).to.deep.equal(ids);
        const others = new Set(settle("7.1", some).map(({ id }) => id));
        expect(ids.some((id) => others.has(id))).to.equal(false);
      }),
    );
  });

  it("never pays more to whoever splits into two", () => {
    fc.assert(
      fc.property(
        fc.bigInt(0n, 10n ** 12n),
        fc.array(work, { maxLength: 8 }),
        fc.bigInt(1n, 10n ** 9n),
        fc.bigInt(1n, 10n ** 9n),
        (fees, others, left, right) => {
          const whole = settle("7.0", [aPool(fees, [...others, verified("mal", left + right)])]);
          const split = settle("7.0", [aPool(fees, [...others, verified("mal-a", left), verified("mal-b", right)])]);
          expect(earned(split, "mal-a") + earned(split, "mal-b") <= earned(whole, "mal")).to.equal(true);
        },
      ),
    );
  });

  it("pays nobody more because somebody else's work is withheld", () => {
    fc.assert(
      fc.property(
        fc.bigInt(0n, 10n ** 12n),
        fc.array(work, { maxLength: 8 }),
        fc.bigInt(1n, 10n ** 9n),
        (fees, others, units) => {
          const before = settle("7.0", [aPool(fees, [...others, verified("mal", units)])]);
          const after = settle("7.0", [aPool(fees, [...others, { ...verified("mal", units), state: "withheld" }])]);
          for (const name of names) expect(earned(after, name)).to.equal(earned(before, name));
          expect(earned(after, "mal")).to.equal(0n);
        },
      ),
    );
  });

  it("pays nothing for no work, and nothing out of no fees", () => {
    expect(earned(settle("7.0", [aPool(0n, [verified("ann", 5n)])]), "ann")).to.equal(0n);
    expect(balances(settle("7.0", [aPool(9n, [])])).get("gateway/g-0")).to.equal(-9n);
  });

  it("never takes one model's fees for another model's work", () => {
    const rich = aPool(1_000_000n, [verified("ann", 1n)]);
    const poor: Pool = { ...aPool(1n, [verified("bob", 10n ** 12n)]), model: "default/b" };
    expect(earned(settle("7.0", [rich, poor]), "ann")).to.equal(1_000_000n);
    expect(earned(settle("7.0", [rich, poor]), "bob")).to.equal(1n);
  });
});

describe("a settlement", () => {
  const made = fc
    .tuple(pools, fc.nat(99))
    .map(([some, epoch]) =>
      makeSettlement(
        { epoch, sessionCount: some.length, receipts: [ROOT], pools: some },
        { sequence: 3, previous: ROOT, part: 1 },
      ),
    );

  it("reads back as it was written, and its entries follow from its sums", () => {
    fc.assert(
      fc.property(made, (settlement) => {
        const read = parseSettlement(settlementStatement(settlement));
        expect(read).to.deep.equal({ ok: true, value: settlement });
        expect(checkSettlement(settlement)).to.include({ ok: true });
      }),
    );
  });

  it("is refused with an entry, a sum or a total changed", () => {
    const settlement = makeSettlement(
      { epoch: 7, sessionCount: 1, receipts: [], pools: [aPool(100n, [verified("ann", 1n), verified("bob", 1n)])] },
      { sequence: 0, previous: null, part: 0 },
    );
    const [first, ...rest] = settlement.entries;
    expect(first).not.to.equal(undefined);
    expect(checkSettlement({ ...settlement, entries: rest })).to.include({ code: "WrongEntries" });
    expect(checkSettlement({ ...settlement, totals: { ...settlement.totals, dust: 1n } })).to.include({
      code: "WrongEntries",
    });
    expect(
      checkSettlement({
        ...settlement,
        entries: settlement.entries.map((entry) =>
          entry.credit === "provider/ann" ? { ...entry, amount: 51n } : entry,
        ),
      }),
    ).to.deep.include({ code: "WrongEntries" });
  });
});
