/** Makes the settlement that the ledger signs, and checks one that somebody hands over: anyone gets the same entries. */
import { digestText, parseDigest } from "../../core/digest.ts";
import { merkleLeaf, merkleRoot } from "../../core/merkle.ts";
import { type Result, ok, refuse, valueOrThrow } from "../../core/result.ts";
import { type Settlement, settlementStatement } from "../../core/settlement.ts";
import { workUnits } from "../../core/units.ts";
import { type Pool, settle } from "./settle.ts";

/** What is settled: the sums of sessions that no settlement holds yet, and the digests of their receipts. */
export type Unsettled = {
  readonly epoch: number;
  readonly sessionCount: number;
  readonly receipts: readonly string[]; // payload digests, in any order
  readonly pools: readonly Pool[];
};

/** Where in the chain of settlements the next one stands. */
export type Place = { readonly sequence: number; readonly previous: string | null; readonly part: number };

export function makeSettlement(unsettled: Unsettled, { sequence, previous, part }: Place): Settlement {
  const { epoch, sessionCount } = unsettled;
  const pools = sorted(unsettled.pools);
  const entries = settle(`${epoch}.${part}`, pools);
  const sum = (prefix: "gateway/" | "provider/" | "withheld/", side: "debit" | "credit") =>
    entries.filter((entry) => entry[side].startsWith(prefix)).reduce((total, { amount }) => total + amount, 0n);
  const [collected, paid, withheld] = [
    sum("gateway/", "debit"),
    sum("provider/", "credit"),
    sum("withheld/", "credit"),
  ];
  return {
    sequence,
    previous,
    epoch,
    part,
    sessionCount,
    receipts: { count: unsettled.receipts.length, root: receiptsRoot(unsettled.receipts) },
    pools,
    entries,
    totals: { collected, paid, withheld, dust: collected - paid - withheld },
  };
}

/** RFC 6962 over the 32-byte digests in ascending order: it does not depend on the order of arrival. */
export const receiptsRoot = (digests: readonly string[]): string =>
  digestText(merkleRoot([...digests].sort().map((digest) => merkleLeaf(valueOrThrow(parseDigest(digest, "receipt"))))));

/**
 * Whether a settlement's entries and totals follow from the sums it names; `WrongEntries` where not. That the sums are
 * those of the receipts is for whoever holds the receipts to check.
 */
export function checkSettlement(settlement: Settlement): Result<Settlement, "WrongEntries"> {
  const { epoch, sessionCount, receipts, sequence, previous, part } = settlement;
  const pools = settlement.pools.map((pool) => ({
    ...pool,
    work: pool.work.map((work) => ({ ...work, units: workUnits(work.units) })),
  }));
  const again = {
    ...makeSettlement({ epoch, sessionCount, receipts: [], pools }, { sequence, previous, part }),
    receipts,
  };
  const [said, computed] = [settlementStatement(settlement), settlementStatement(again)].map((bytes) =>
    new TextDecoder().decode(bytes),
  );
  if (said === computed) return ok(settlement);
  const wrong = settlement.entries.find(
    ({ id, amount }) => again.entries.find((entry) => entry.id === id)?.amount !== amount,
  );
  return refuse(
    "WrongEntries",
    `settlement ${sequence}: ${wrong === undefined ? "its entries or totals do" : `the entry ${wrong.id} does`} not follow from its sums`,
  );
}

/** One order for the same sums. */
function sorted(pools: readonly Pool[]): readonly Pool[] {
  const byKey = <T>(items: readonly T[], keyOf: (item: T) => string) =>
    [...items].sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
  return byKey(
    pools.map((pool) => ({
      ...pool,
      fees: byKey(pool.fees, ({ gateway }) => gateway),
      work: byKey(pool.work, ({ provider, state }) => `${provider} ${state}`),
    })),
    ({ model, root, price }) => `${model} ${root} ${price}`,
  );
}
