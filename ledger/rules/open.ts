/**
 * The first half of judging: bytes become signed statements, or are rejected with whoever sent them to blame. Attacker:
 * anybody can write a name and a key they do not own, so until a signature holds nobody who is named can be blamed.
 */
import { digestOf } from "../../core/digest.ts";
import { type Envelope, IN_TOTO_PAYLOAD_TYPE, envelopeHolds, parseEnvelope, payloadDigest } from "../../core/dsse.ts";
import { type PublicKey, parsePublicKey } from "../../core/keys.ts";
import { type Blame, SENDER } from "../../core/receipt-chain.ts";
import type { Result } from "../../core/result.ts";
import { type Receipt, type Usage, parseReceipt, parseUsage } from "../../core/statement.ts";
import type { Facts } from "./facts.ts";

export type Submission = { readonly usage: Uint8Array; readonly receipts: readonly Uint8Array[] };

/** `ignore`: nobody's fault. `reject`: somebody's, and `blame` says whose. */
export type Verdict =
  | { readonly verdict: "accept" }
  | { readonly verdict: "ignore"; readonly code: string; readonly detail: string }
  | { readonly verdict: "reject"; readonly code: string; readonly detail: string; readonly blame: Blame };

export const ACCEPT: Verdict = { verdict: "accept" };
export const ignore = (code: string, detail: string): Verdict => ({ verdict: "ignore", code, detail });
export const reject = (code: string, detail: string, blame: Blame): Verdict => ({
  verdict: "reject",
  code,
  detail,
  blame,
});

/** A statement whose signature holds, or why it is none. */
export type Opened<T> = {
  readonly digest: string; // of the payload; of the bytes where they are no envelope
  readonly bytes: Uint8Array;
  readonly statement: { readonly ok: true; readonly value: T } | { readonly ok: false; readonly verdict: Verdict };
};

export type OpenedSubmission = { readonly usage: Opened<Usage>; readonly receipts: readonly Opened<Receipt>[] };

/** Receipts of one session that are looked at; a chain has hundreds of ranks at most. */
export const RECEIPTS_LIMIT = 4096;

type Holder = { readonly name: string; readonly key: PublicKey };

/** Checks form and signature of everything in a submission, by the keys that were ever told. */
export function open(submission: Submission, facts: Facts): OpenedSubmission {
  const providers = holdersOf(facts.providers.map(({ fact }) => fact));
  const gateways = holdersOf(facts.gateways.map(({ fact }) => fact));
  return {
    usage: openOne(submission.usage, gateways, parseUsage, (usage) => usage.gateway, "gateway"),
    receipts: submission.receipts
      .slice(0, RECEIPTS_LIMIT)
      .map((bytes) => openOne(bytes, providers, parseReceipt, (receipt) => receipt.provider, "provider")),
  };
}

function holdersOf(facts: readonly { readonly name: string; readonly publicKey: string }[]): readonly Holder[] {
  return facts.flatMap(({ name, publicKey }) => {
    const key = parsePublicKey(publicKey, name);
    return key.ok ? [{ name, key: key.value }] : [];
  });
}

function openOne<T>(
  bytes: Uint8Array,
  holders: readonly Holder[],
  parse: (payload: Uint8Array) => Result<T>,
  claimedBy: (value: T) => string,
  kind: "provider" | "gateway",
): Opened<T> {
  const envelope = parseEnvelope(bytes);
  if (!envelope.ok) {
    return {
      digest: digestOf(bytes),
      bytes,
      statement: { ok: false, verdict: reject(envelope.code, envelope.detail, SENDER) },
    };
  }
  return {
    digest: payloadDigest(envelope.value),
    bytes,
    statement: openEnvelope(envelope.value, holders, parse, claimedBy, kind),
  };
}

function openEnvelope<T>(
  envelope: Envelope,
  holders: readonly Holder[],
  parse: (payload: Uint8Array) => Result<T>,
  claimedBy: (value: T) => string,
  kind: "provider" | "gateway",
): Opened<T>["statement"] {
  const no = (code: string, detail: string, blame: Blame) =>
    ({ ok: false, verdict: reject(code, detail, blame) }) as const;
  // The key id only says which key to try; who signed is whoever holds the key under which the signature holds.
  const hinted = holders.filter(({ key }) => key.keyId === envelope.keyId);
  const [first] = hinted;
  if (first === undefined) return no("UnknownKey", `no ${kind} ever had the key ${envelope.keyId}`, SENDER);
  if (!envelopeHolds(envelope, first.key))
    return no("BadSignature", `the signature does not hold under the key of ${kind} ${first.name}`, SENDER);
  const names = [...new Set(hinted.map(({ name }) => name))];
  const signer: Blame = { kind: "signer", names: names.map((name) => `${kind}/${name}`) };
  if (envelope.payloadType !== IN_TOTO_PAYLOAD_TYPE)
    return no("WrongPayloadType", `payloadType must be ${IN_TOTO_PAYLOAD_TYPE}`, signer);
  const value = parse(envelope.payload);
  if (!value.ok) return no(value.code, value.detail, signer);
  const claimed = claimedBy(value.value);
  if (!names.includes(claimed))
    return no("WrongSigner", `speaks for ${kind} ${claimed} and is signed by ${names.join(", ")}`, signer);
  return { ok: true, value: value.value };
}
