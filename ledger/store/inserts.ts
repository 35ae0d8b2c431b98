/** Writing down a judgement, row by row, inside a transaction of the caller's. */
import { Bug } from "../../core/assert.ts";
import { type CountedSession, type Equivocation, type JudgedReceipt, type Judgement, placeOf } from "../rules/judge.ts";
import type { Query, Row } from "./database.ts";
import { bytes } from "./rows.ts";

const DETAIL_LENGTH_MAX = 500;

export async function insertSession(
  query: Query,
  counted: CountedSession,
  receipts: readonly JudgedReceipt[],
): Promise<void> {
  const { usage, usageDigest } = counted;
  await insertRows(query, "sessions", [
    {
      usage_digest: usageDigest,
      session: usage.session.id,
      nonce: usage.session.nonce,
      gateway: usage.gateway,
      model: usage.model.name,
      model_root: usage.model.root,
      epoch: usage.epoch,
      epoch_seconds: counted.epochSeconds,
      price: usage.priceMicroCreditsPerMillionTokens.toString(),
      prompt_tokens: usage.tokens.prompt,
      generated_tokens: usage.tokens.generated,
      positions: counted.positionCount,
      usage: counted.usageBytes,
    },
  ]);
  const rows = counted.work.map(({ provider, units, state, digest }) => {
    const judged = receipts.find((one) => one.digest === digest);
    if (judged?.receipt === undefined) throw new Bug("counted work comes from judged receipts");
    return {
      digest,
      usage_digest: usageDigest,
      place: placeOf(judged.receipt),
      provider,
      units: units.toString(),
      accepted: state === "verified",
      receipt: judged.bytes,
    };
  });
  await insertRows(query, "receipts", rows);
}

export async function insertEquivocation(
  query: Query,
  { place, provider, digests }: Equivocation,
  receipts: readonly JudgedReceipt[],
): Promise<void> {
  const [first, second] = digests;
  const bytesOf = async (digest: string): Promise<Uint8Array> => {
    const judged = receipts.find((one) => one.digest === digest);
    if (judged !== undefined) return judged.bytes;
    const [row] = await query("select receipt from receipts where digest = $1", [digest]);
    if (row === undefined) throw new Bug("a receipt that contradicts another one is here or in the store");
    return bytes(row, "receipt");
  };
  await query(
    `insert into equivocations (place, provider, first_digest, second_digest, first_receipt, second_receipt)
     values ($1, $2, $3, $4, $5, $6) on conflict do nothing`,
    [place, provider, first, second, await bytesOf(first), await bytesOf(second)],
  );
}

/** Of a usage and its receipts; those that are ignored leave no trace. */
export async function insertVerdicts(query: Query, { usage, receipts, equivocations }: Judgement): Promise<void> {
  const rows = [
    { subject: "usage", ...usage, receipt: undefined },
    ...receipts.map((receipt) => ({ subject: "receipt", ...receipt })),
    // Also of the one that was accepted before the other came.
    ...equivocations.flatMap(({ digests, verdict, ...receipt }) =>
      digests.map((digest) => ({ subject: "receipt", digest, verdict, receipt })),
    ),
  ];
  const told = rows.flatMap(({ subject, digest, verdict, receipt }) => {
    if (verdict.verdict === "ignore") return [];
    const { code, detail, blame } =
      verdict.verdict === "accept"
        ? { code: "", detail: "", blame: "" }
        : { ...verdict, blame: sayBlame(verdict.blame) };
    const row = { digest, subject, verdict: verdict.verdict, code, detail: detail.slice(0, DETAIL_LENGTH_MAX), blame };
    return [{ ...row, provider: receipt?.provider ?? null, epoch: receipt?.epoch ?? null }];
  });
  await insertRows(query, "verdicts", told, "on conflict do nothing");
}

/** One statement for all rows, which have the same columns. Names come from this file, values are parameters. */
async function insertRows(query: Query, table: string, rows: readonly Row[], then = ""): Promise<void> {
  const columns = Object.keys(rows[0] ?? {});
  const places = rows.map(
    (_, row) => `(${columns.map((_, column) => `$${row * columns.length + column + 1}`).join(", ")})`,
  );
  if (rows.length === 0) return;
  await query(
    `insert into ${table} (${columns.join(", ")}) values ${places.join(", ")} ${then}`,
    rows.flatMap((row) => columns.map((column) => row[column])),
  );
}

/** `provider/campus`, `unclear: provider/campus, gateway/gateway-0`, `sender`, or nothing. */
export const sayBlame = ({ kind, names }: { readonly kind: string; readonly names: readonly string[] }): string =>
  kind === "sender"
    ? "sender"
    : kind === "nobody"
      ? ""
      : kind === "unclear"
        ? `unclear: ${names.join(", ")}`
        : names.join(", ");
