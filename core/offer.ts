/**
 * What makes a ShardNode count: its provider says, signed with the provider's key, that it offers this node, on this
 * machine, to this installation, until then. It names the installation, so that an operator elsewhere cannot show it
 * around; and a day on which it ends, so that a provider who is gone does not offer for ever.
 */
import { IN_TOTO_PAYLOAD_TYPE, openEnvelope, parseEnvelope } from "./dsse.ts";
import { DIGEST_FORM, NAME_FORM, objectWith, textOf } from "./fields.ts";
import { parseStatement, statementBytes } from "./in-toto.ts";
import type { PublicKey } from "./keys.ts";
import { type Result, ok, refuse } from "./result.ts";

export const OFFER_TYPE = "https://tessellate.dev/offer/v1";

export type Offer = {
  readonly provider: string;
  readonly node: string; // the ShardNode
  readonly machine: string; // the Kubernetes Node
  readonly installation: string; // sha256:… of the authority's certificate, see installationOf in wire/authority.ts
  readonly validUntil: string; // ISO 8601, in whole seconds
};

export type OfferCode = "OfferMalformed" | "OfferNotSigned" | "OfferElsewhere" | "OfferExpired";

const TIME_FORM = {
  pattern: /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$/,
  is: "a time such as 2026-03-01T00:00:00Z",
} as const;

/** The signed payload: compact JSON in UTF-8, one form per offer. */
export function offerStatement({ provider, node, machine, installation, validUntil }: Offer): Uint8Array {
  const predicate = { provider, node, machine, installation, validUntil };
  return statementBytes({ name: `shardnode/${node}`, digest: installation }, OFFER_TYPE, predicate);
}

/** Refused as {@link parseStatement} refuses. Parse only what a signature was found to hold for, or is to be made for. */
export const parseOffer = (payload: Uint8Array): Result<Offer> =>
  parseStatement(payload, OFFER_TYPE, readOffer, offerStatement);

/**
 * Whether an envelope, as text, offers just this: signed by `key`, for this node and machine, here, and still at `now`
 * (ISO 8601). Gives the offer.
 */
export function checkOffer(
  envelopeText: string,
  key: PublicKey,
  expected: Omit<Offer, "validUntil">,
  now: string,
): Result<Offer, OfferCode> {
  const envelope = parseEnvelope(new TextEncoder().encode(envelopeText));
  if (!envelope.ok) return refuse("OfferMalformed", `the offer is no envelope: ${envelope.detail}`);
  const payload = openEnvelope(envelope.value, key, IN_TOTO_PAYLOAD_TYPE);
  if (!payload.ok)
    return refuse("OfferNotSigned", `the offer is not signed with the key of Provider ${expected.provider}`);
  const offer = parseOffer(payload.value);
  if (!offer.ok) return refuse("OfferMalformed", `what was signed is no offer: ${offer.detail}`);
  const fields = ["provider", "node", "machine", "installation"] as const;
  const wrong = fields.find((field) => offer.value[field] !== expected[field]);
  // Attacker: an offer of the same provider, for another of its machines or to somebody else's cluster, shown here.
  if (wrong !== undefined)
    return refuse("OfferElsewhere", `the offer is for ${wrong} ${offer.value[wrong]}, and here is ${expected[wrong]}`);
  // Both are ISO 8601 in UTC, which sorts as time does.
  if (offer.value.validUntil <= now) return refuse("OfferExpired", `the offer ended at ${offer.value.validUntil}`);
  return ok(offer.value);
}

function readOffer(value: unknown): Offer {
  const fields = objectWith(value, "predicate", ["provider", "node", "machine", "installation", "validUntil"]);
  return {
    provider: textOf(fields["provider"], "provider", NAME_FORM),
    node: textOf(fields["node"], "node", NAME_FORM),
    machine: textOf(fields["machine"], "machine", NAME_FORM),
    installation: textOf(fields["installation"], "installation", DIGEST_FORM),
    validUntil: textOf(fields["validUntil"], "validUntil", TIME_FORM),
  };
}
