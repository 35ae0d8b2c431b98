/**
 * Paying: fees of an epoch to those whose work is verified. Double entry in whole micro-credits, rounded down, so that no
 * more is paid than was collected; the dust stays in the pool. Sums only, so the order of arrival does not matter, and
 * whoever splits into two is rounded down twice.
 */
import { assert } from "../../core/assert.ts";
import type { Receipt, Usage } from "../../core/statement.ts";
import { type MicroCredits, type WorkUnits, microCredits, workUnits } from "../../core/units.ts";

/** `verified`: paid for. `withheld`: its share stays in an account of its own; nobody else gains by it. */
export type WorkState = "verified" | "withheld";
export type Work = { readonly provider: string; readonly units: WorkUnits; readonly state: WorkState };

/** What a gateway owes: tokens × price per million, in millionths of a micro-credit, so that sums do not round. */
export type Fee = { readonly gateway: string; readonly tokenPrices: bigint };

/** All sessions of a period for which the same price was paid for the same model. Price per unit of work is one. */
export type Pool = {
  readonly model: string; // <namespace>/<name>
  readonly root: string;
  readonly price: bigint; // micro-credits per million tokens
  readonly fees: readonly Fee[];
  readonly work: readonly Work[];
};

export type Entry = {
  readonly id: string; // the same for the same payment: posting twice is posting once
  readonly debit: string; // the account that gives
  readonly credit: string; // the account that gets
  readonly amount: MicroCredits;
};

/** Positions that a usage bills for: every token but the last one sampled, which is fed to no rank. */
export const billedPositions = ({ tokens }: Usage): number => tokens.prompt + Math.max(0, tokens.generated - 1);

/**
 * layers × positions × share. Layers and share are the plan's, positions the gateway's countersigned count: nothing in it
 * is a number that only the payee wrote.
 */
export const workOf = (receipt: Receipt, positionCount: number, state: WorkState): Work => ({
  provider: receipt.provider,
  units: workUnits(
    BigInt(receipt.shard.layers.end - receipt.shard.layers.start) *
      BigInt(positionCount) *
      receipt.shard.shareMillionths,
  ),
  state,
});

/** Account names: who gives and who gets. */
export const account = {
  gateway: (name: string) => `gateway/${name}`,
  pool: (period: string, pool: Pool) => `pool/${period}/${poolName(pool)}`,
  provider: (name: string) => `provider/${name}`,
  withheld: (name: string) => `withheld/${name}`,
} as const;

/** `default/assistant@3fb2a1c09d7e5a10@150000`: model, start of its root, price. */
export const poolName = ({ model, root, price }: Pool): string =>
  `${model}@${root.slice("sha256:".length, "sha256:".length + 16)}@${price}`;

/** Every entry of a period (`411.1`: epoch and part), sorted by id. Entries of nothing are left out. */
export function settle(period: string, pools: readonly Pool[]): readonly Entry[] {
  return merged(pools)
    .flatMap((pool) => settlePool(period, pool))
    .sort((a, b) => (a.id < b.id ? -1 : 1));
}

function settlePool(period: string, pool: Pool): readonly Entry[] {
  const own = account.pool(period, pool);
  const collected = sumBy(
    pool.fees,
    ({ gateway }) => account.gateway(gateway),
    ({ tokenPrices }) => tokenPrices,
  ).map(([debit, prices]) => ({
    id: `${own}/from/${debit}`,
    debit,
    credit: own,
    amount: microCredits(prices / 1_000_000n),
  }));
  const fees = collected.reduce((sum, { amount }) => sum + amount, 0n);
  const total = pool.work.reduce((sum, { units }) => sum + units, 0n);
  const paid = sumBy(
    pool.work,
    ({ provider, state }) => (state === "verified" ? account.provider(provider) : account.withheld(provider)),
    ({ units }) => units,
  ).map(([credit, units]) => ({
    id: `${own}/to/${credit}`,
    debit: own,
    credit,
    amount: microCredits(total === 0n ? 0n : (fees * units) / total),
  }));
  const out = paid.reduce((sum, { amount }) => sum + amount, 0n);
  assert(
    out <= fees && (total === 0n || fees - out < BigInt(Math.max(1, paid.length))),
    "a pool pays out its fees, less dust",
  );
  return [...collected, ...paid].filter(({ amount }) => amount > 0n);
}

/** Pools of the same name become one, whoever cut them. */
function merged(pools: readonly Pool[]): readonly Pool[] {
  const byName = new Map<string, Pool>();
  for (const pool of pools) {
    const name = `${pool.model}@${pool.root}@${pool.price}`;
    const before = byName.get(name);
    byName.set(
      name,
      before === undefined
        ? pool
        : { ...pool, fees: [...before.fees, ...pool.fees], work: [...before.work, ...pool.work] },
    );
  }
  return [...byName.values()];
}

/** Sums by key, sorted by key. */
function sumBy<T>(
  items: readonly T[],
  keyOf: (item: T) => string,
  amountOf: (item: T) => bigint,
): readonly (readonly [string, bigint])[] {
  const sums = new Map<string, bigint>();
  for (const item of items) sums.set(keyOf(item), (sums.get(keyOf(item)) ?? 0n) + amountOf(item));
  return [...sums].sort(([a], [b]) => (a < b ? -1 : 1));
}
