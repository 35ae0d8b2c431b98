/**
 * What the ledger signs when it closes an epoch, or the part of it that came since it was closed before: the sums it
 * paid from, every entry, and the digest of the settlement before, so that history cannot be rewritten quietly. All
 * amounts are integers in decimal text.
 */
import { IN_TOTO_PAYLOAD_TYPE, type Envelope, openEnvelope, parseEnvelope } from "./dsse.ts";
import { DIGEST_FORM, NAME_FORM, bigintOf, integerOf, listOf, objectWith, textOf } from "./fields.ts";
import { parseStatement, statementBytes } from "./in-toto.ts";
import type { PublicKey } from "./keys.ts";
import type { Result } from "./result.ts";

export const SETTLEMENT_TYPE = "https://tessellate.dev/settlement/v1";

export type SettlementEntry = {
  readonly id: string;
  readonly debit: string;
  readonly credit: string;
  readonly amount: bigint;
};

/** Sums that entries follow from: sessions of one model at one price. */
export type SettlementPool = {
  readonly model: string; // <namespace>/<name>
  readonly root: string; // sha256:…
  readonly price: bigint; // micro-credits per million tokens
  readonly fees: readonly { readonly gateway: string; readonly tokenPrices: bigint }[]; // tokens × price: millionths of micro-credits
  readonly work: readonly {
    readonly provider: string;
    readonly state: "verified" | "withheld";
    readonly units: bigint;
  }[];
};

export type Settlement = {
  readonly sequence: number; // 0 for the first that this ledger signed
  readonly previous: string | null; // sha256:… of the payload of the settlement before
  readonly epoch: number;
  readonly part: number; // 0 for the first settlement of this epoch
  readonly sessionCount: number;
  readonly receipts: { readonly count: number; readonly root: string }; // RFC 6962 over their payload digests, sorted
  readonly pools: readonly SettlementPool[];
  readonly entries: readonly SettlementEntry[];
  readonly totals: {
    readonly collected: bigint;
    readonly paid: bigint;
    readonly withheld: bigint;
    readonly dust: bigint;
  }; // micro-credits
};

const COUNT_MAX = 2 ** 32 - 1;
const LIST_MAX = 1 << 20;
const AMOUNT_MAX = 10n ** 30n;
const ACCOUNT_FORM = { pattern: /^[a-z0-9@][-a-z0-9./@]{0,600}$/, is: "an account or entry name" } as const;

/** The signed payload: compact JSON in UTF-8, one form per settlement. */
export function settlementStatement(settlement: Settlement): Uint8Array {
  const { receipts, totals } = settlement;
  return statementBytes({ name: "receipts", digest: receipts.root }, SETTLEMENT_TYPE, {
    sequence: settlement.sequence,
    previous: settlement.previous,
    epoch: settlement.epoch,
    part: settlement.part,
    sessionCount: settlement.sessionCount,
    receipts: { count: receipts.count, root: receipts.root },
    pools: settlement.pools.map(({ model, root, price, fees, work }) => ({
      model,
      root,
      price: price.toString(),
      fees: fees.map(({ gateway, tokenPrices }) => ({ gateway, tokenPrices: tokenPrices.toString() })),
      work: work.map(({ provider, state, units }) => ({ provider, state, units: units.toString() })),
    })),
    entries: settlement.entries.map(({ id, debit, credit, amount }) => ({
      id,
      debit,
      credit,
      amount: amount.toString(),
    })),
    totals: {
      collected: totals.collected.toString(),
      paid: totals.paid.toString(),
      withheld: totals.withheld.toString(),
      dust: totals.dust.toString(),
    },
  });
}

/** The settlement in a payload; refused by the path of the first field that does not fit. */
export const parseSettlement = (payload: Uint8Array): Result<Settlement> =>
  parseStatement(payload, SETTLEMENT_TYPE, readSettlement, settlementStatement);

/** The settlement in an envelope's bytes. With `key`, only if its signature holds. */
export function openSettlement(
  bytes: Uint8Array,
  key?: PublicKey,
): Result<{ readonly envelope: Envelope; readonly settlement: Settlement }> {
  const envelope = parseEnvelope(bytes);
  if (!envelope.ok) return envelope;
  const payload =
    key === undefined
      ? ({ ok: true, value: envelope.value.payload } as const)
      : openEnvelope(envelope.value, key, IN_TOTO_PAYLOAD_TYPE);
  if (!payload.ok) return payload;
  const settlement = parseSettlement(payload.value);
  return settlement.ok ? { ok: true, value: { envelope: envelope.value, settlement: settlement.value } } : settlement;
}

function readSettlement(value: unknown): Settlement {
  const fields = objectWith(value, "predicate", [
    "sequence",
    "previous",
    "epoch",
    "part",
    "sessionCount",
    "receipts",
    "pools",
    "entries",
    "totals",
  ]);
  const receipts = objectWith(fields["receipts"], "receipts", ["count", "root"]);
  const totals = objectWith(fields["totals"], "totals", ["collected", "paid", "withheld", "dust"]);
  const total = (name: string) => bigintOf(totals[name], `totals.${name}`, AMOUNT_MAX);
  return {
    sequence: integerOf(fields["sequence"], "sequence", 0, COUNT_MAX),
    previous: fields["previous"] === null ? null : textOf(fields["previous"], "previous", DIGEST_FORM),
    epoch: integerOf(fields["epoch"], "epoch", 0, COUNT_MAX),
    part: integerOf(fields["part"], "part", 0, COUNT_MAX),
    sessionCount: integerOf(fields["sessionCount"], "sessionCount", 0, COUNT_MAX),
    receipts: {
      count: integerOf(receipts["count"], "receipts.count", 0, COUNT_MAX),
      root: textOf(receipts["root"], "receipts.root", DIGEST_FORM),
    },
    pools: listOf(fields["pools"], "pools", LIST_MAX, readPool),
    entries: listOf(fields["entries"], "entries", LIST_MAX, readEntry),
    totals: { collected: total("collected"), paid: total("paid"), withheld: total("withheld"), dust: total("dust") },
  };
}

function readPool(value: unknown, path: string): SettlementPool {
  const fields = objectWith(value, path, ["model", "root", "price", "fees", "work"]);
  return {
    model: textOf(fields["model"], `${path}.model`, NAME_FORM),
    root: textOf(fields["root"], `${path}.root`, DIGEST_FORM),
    price: bigintOf(fields["price"], `${path}.price`, AMOUNT_MAX),
    fees: listOf(fields["fees"], `${path}.fees`, LIST_MAX, (item, at) => {
      const fee = objectWith(item, at, ["gateway", "tokenPrices"]);
      return {
        gateway: textOf(fee["gateway"], `${at}.gateway`, NAME_FORM),
        tokenPrices: bigintOf(fee["tokenPrices"], `${at}.tokenPrices`, AMOUNT_MAX),
      };
    }),
    work: listOf(fields["work"], `${path}.work`, LIST_MAX, (item, at) => {
      const work = objectWith(item, at, ["provider", "state", "units"]);
      const state = textOf(work["state"], `${at}.state`, {
        pattern: /^(verified|withheld)$/,
        is: "verified or withheld",
      });
      return {
        provider: textOf(work["provider"], `${at}.provider`, NAME_FORM),
        state: state === "verified" ? "verified" : "withheld",
        units: bigintOf(work["units"], `${at}.units`, AMOUNT_MAX),
      } as const;
    }),
  };
}

function readEntry(value: unknown, path: string): SettlementEntry {
  const fields = objectWith(value, path, ["id", "debit", "credit", "amount"]);
  return {
    id: textOf(fields["id"], `${path}.id`, ACCOUNT_FORM),
    debit: textOf(fields["debit"], `${path}.debit`, ACCOUNT_FORM),
    credit: textOf(fields["credit"], `${path}.credit`, ACCOUNT_FORM),
    amount: bigintOf(fields["amount"], `${path}.amount`, AMOUNT_MAX),
  };
}
