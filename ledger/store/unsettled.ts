/** What no settlement holds yet, summed by the database. */
import { Bug } from "../../core/assert.ts";
import { workUnits } from "../../core/units.ts";
import type { Fee, Pool, Work } from "../rules/settle.ts";
import type { Unsettled } from "../rules/settlement.ts";
import type { Query, Row } from "./database.ts";
import { integer, text } from "./rows.ts";

/** Sums of one epoch that no settlement holds yet. */
export type UnsettledEpoch = Unsettled & { readonly epochSeconds: number }; // the longest among its models

/** A receipt `r` that is paid for: accepted, and its rank has not been found to have signed the span twice. */
export const PAID = "(r.accepted and not exists (select 1 from equivocations e where e.place = r.place))";
const UNSETTLED =
  "not exists (select 1 from settled_sessions d where d.usage_digest = s.usage_digest) and ($1::bigint is null or s.epoch = $1)";

/** Of every epoch, or of one; newest last. Without `digests` the lists of receipts are empty, which is enough to show balances. */
export async function unsettledIn(
  query: Query,
  epoch: number | undefined,
  { digests: wanted }: { readonly digests: boolean },
): Promise<readonly UnsettledEpoch[]> {
  const one = [epoch ?? null];
  const fees = await query(
    `select epoch::text as epoch, model, model_root, price::text as price, gateway, sum((prompt_tokens + generated_tokens) * price)::text as prices,
       count(*)::text as sessions, max(epoch_seconds)::text as seconds
     from sessions s where ${UNSETTLED} group by s.epoch, model, model_root, s.price, gateway order by s.epoch, model, model_root, s.price, gateway`,
    one,
  );
  const work = await query(
    `select s.epoch::text as epoch, model, model_root, s.price::text as price, r.provider, ${PAID} as paid, sum(r.units)::text as units
     from sessions s join receipts r using (usage_digest) where ${UNSETTLED} group by s.epoch, model, model_root, s.price, r.provider, ${PAID}`,
    one,
  );
  const digests = wanted
    ? await query(
        `select s.epoch::text as epoch, r.digest from sessions s join receipts r using (usage_digest) where ${UNSETTLED}`,
        one,
      )
    : [];
  const keyOf = (row: Row) =>
    [text(row, "epoch"), text(row, "model"), text(row, "model_root"), text(row, "price")].join(" ");
  const pools = new Map<string, { readonly epoch: number; readonly pool: Pool }>();
  for (const row of fees) {
    const { pool } = pools.get(keyOf(row)) ?? {
      pool: {
        model: text(row, "model"),
        root: text(row, "model_root"),
        price: BigInt(text(row, "price")),
        fees: [],
        work: [],
      },
    };
    const fee: Fee = { gateway: text(row, "gateway"), tokenPrices: BigInt(text(row, "prices")) };
    pools.set(keyOf(row), { epoch: integer(row, "epoch"), pool: { ...pool, fees: [...pool.fees, fee] } });
  }
  for (const row of work) {
    const found = pools.get(keyOf(row));
    if (found === undefined) throw new Bug("every receipt belongs to a session of the same pool");
    const done: Work = {
      provider: text(row, "provider"),
      state: row["paid"] === true ? "verified" : "withheld",
      units: workUnits(BigInt(text(row, "units"))),
    };
    pools.set(keyOf(row), { ...found, pool: { ...found.pool, work: [...found.pool.work, done] } });
  }
  const epochs = [...new Set(fees.map((row) => integer(row, "epoch")))];
  return epochs.map((number) => {
    const own = fees.filter((row) => integer(row, "epoch") === number);
    return {
      epoch: number,
      epochSeconds: Math.max(...own.map((row) => integer(row, "seconds"))),
      sessionCount: own.reduce((sum, row) => sum + integer(row, "sessions"), 0),
      receipts: digests.filter((row) => integer(row, "epoch") === number).map((row) => text(row, "digest")),
      pools: [...pools.values()].filter((entry) => entry.epoch === number).map((entry) => entry.pool),
    };
  });
}
