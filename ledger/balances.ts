/** What every provider has in every epoch, from what is stored. Balances are derived, never kept. */
import { periodOf } from "./rules/facts.ts";
import { makeSettlement } from "./rules/settlement.ts";
import type { ProviderEpoch } from "./store/store.ts";
import type { UnsettledEpoch } from "./store/unsettled.ts";

/** Micro-credits. Pending: of an epoch that still runs. Payable: of one that is over. Paid: settled. Withheld: by a verdict, settled or not. */
export type Balance = {
  readonly provider: string;
  readonly epoch: number;
  readonly units: bigint; // verified work
  readonly pending: bigint;
  readonly payable: bigint;
  readonly paid: bigint;
  readonly withheld: bigint;
  readonly receiptCount: number;
  readonly rejectedCount: number;
};

export type Stored = {
  readonly judged: readonly ProviderEpoch[];
  readonly unsettled: readonly UnsettledEpoch[];
  readonly paid: readonly Credited[];
  readonly withheld: readonly Credited[];
};

type Credited = { readonly name: string; readonly epoch: number; readonly amount: bigint };
type Amount = "pending" | "payable" | "paid" | "withheld";

/** Sorted by provider, then epoch. What is not settled counts as if it were settled now, as it is. */
export function balancesOf(stored: Stored, nowSeconds: number): readonly Balance[] {
  const rows = new Map<string, Balance>();
  const rowOf = (provider: string, epoch: number): Balance =>
    rows.get(`${provider} ${epoch}`) ?? {
      provider,
      epoch,
      units: 0n,
      pending: 0n,
      payable: 0n,
      paid: 0n,
      withheld: 0n,
      receiptCount: 0,
      rejectedCount: 0,
    };
  const add = (provider: string, epoch: number, what: Amount, amount: bigint) => {
    const row = rowOf(provider, epoch);
    rows.set(`${provider} ${epoch}`, { ...row, [what]: row[what] + amount });
  };
  for (const { provider, epoch, units, receiptCount, rejectedCount } of stored.judged) {
    rows.set(`${provider} ${epoch}`, { ...rowOf(provider, epoch), units, receiptCount, rejectedCount });
  }
  for (const { name, epoch, amount } of stored.paid) add(name, epoch, "paid", amount);
  for (const { name, epoch, amount } of stored.withheld) add(name, epoch, "withheld", amount);
  for (const unsettled of stored.unsettled) {
    const { epoch, epochSeconds } = unsettled;
    const over = periodOf(epoch, epochSeconds).endSeconds <= nowSeconds;
    const { entries } = makeSettlement(unsettled, { sequence: 0, previous: null, part: 0 });
    for (const { credit, amount } of entries) {
      const [kind, name] = [credit.slice(0, credit.indexOf("/")), credit.slice(credit.indexOf("/") + 1)];
      if (kind === "provider") add(name, epoch, over ? "payable" : "pending", amount);
      if (kind === "withheld") add(name, epoch, "withheld", amount);
    }
  }
  return [...rows.values()].sort((a, b) =>
    a.provider === b.provider ? a.epoch - b.epoch : a.provider < b.provider ? -1 : 1,
  );
}
