/**
 * DSSE v1: what is signed is the type and the body with their lengths in front, so a receipt can never pass for another
 * message. One envelope holds one signature here, and has one byte form. The signature is checked over the payload as
 * received, before anybody parses it; key ids are hints.
 */
import { base64Of, parseBase64 } from "./base64.ts";
import { firstDifference } from "./bytes.ts";
import { compactJson, parseJsonBytes } from "./canonical-json.ts";
import { digestOf } from "./digest.ts";
import { DIGEST_FORM, fits, listOf, misfit, objectWith, strictly, textOf } from "./fields.ts";
import { type PublicKey, type SigningKey, signBytes, signatureHolds } from "./keys.ts";
import { type Result, ok, refuse } from "./result.ts";

export const IN_TOTO_PAYLOAD_TYPE = "application/vnd.in-toto+json";

/** Bytes of an envelope: receipts are about 2 KiB, a settlement of a thousand providers 300 KiB. */
export const ENVELOPE_BYTES_LIMIT = 4 << 20;

export type Envelope = {
  readonly payloadType: string;
  readonly payload: Uint8Array;
  readonly keyId: string; // sha256:… of the signer's SPKI DER, as the sender says
  readonly signature: Uint8Array; // 64 bytes
};

/** The envelope as it stands in JSON, for documents that hold envelopes. Keys in this order. */
export type EnvelopeDocument = {
  readonly payloadType: string;
  readonly payload: string;
  readonly signatures: readonly { readonly keyid: string; readonly sig: string }[];
};

/** Pre-authentication encoding: `DSSEv1 <length> <type> <length> <body>`, lengths in bytes, in decimal. */
export function pae(payloadType: string, body: Uint8Array): Uint8Array {
  const type = new TextEncoder().encode(payloadType);
  const head = new TextEncoder().encode(`DSSEv1 ${type.length} ${payloadType} ${body.length} `);
  const whole = new Uint8Array(head.length + body.length);
  whole.set(head);
  whole.set(body, head.length);
  return whole;
}

export const signEnvelope = (payloadType: string, payload: Uint8Array, key: SigningKey): Envelope => ({
  payloadType,
  payload,
  keyId: key.publicKey.keyId,
  signature: signBytes(key, pae(payloadType, payload)),
});

/** True only if `key` signed exactly this payload under exactly this type. The key id plays no part. */
export const envelopeHolds = (envelope: Envelope, key: PublicKey): boolean =>
  signatureHolds(key, pae(envelope.payloadType, envelope.payload), envelope.signature);

export const envelopeDocument = (envelope: Envelope): EnvelopeDocument => ({
  payloadType: envelope.payloadType,
  payload: base64Of(envelope.payload),
  signatures: [{ keyid: envelope.keyId, sig: base64Of(envelope.signature) }],
});

/** The envelope's bytes as they travel and are stored: compact JSON. */
export const envelopeBytes = (envelope: Envelope): Uint8Array => compactJson(envelopeDocument(envelope));

/** `sha256:…` of the payload: the name by which usage, verdicts and settlements call a receipt. */
export const payloadDigest = (envelope: Envelope): string => digestOf(envelope.payload);

/** Refused as `MalformedField`, `MalformedBase64`, `NotJson`, `NotUtf8`, `NotCanonical` or `TooLarge`; never throws on input. */
export function parseEnvelope(bytes: Uint8Array): Result<Envelope> {
  if (bytes.length > ENVELOPE_BYTES_LIMIT)
    return refuse("TooLarge", `envelope of ${bytes.length} bytes; at most ${ENVELOPE_BYTES_LIMIT} are read`);
  const json = parseJsonBytes(bytes);
  if (!json.ok) return json;
  const envelope = parseEnvelopeDocument(json.value, "envelope");
  if (!envelope.ok) return envelope;
  const at = firstDifference(bytes, envelopeBytes(envelope.value));
  if (at >= 0) return refuse("NotCanonical", `envelope: byte ${at} is not as the one form of this envelope has it`);
  return envelope;
}

/** An envelope inside another document; `path` names its place there. */
export function parseEnvelopeDocument(value: unknown, path: string): Result<Envelope> {
  return strictly(() => {
    const envelope = objectWith(value, path, ["payloadType", "payload", "signatures"]);
    const payloadType = textOf(envelope["payloadType"], `${path}.payloadType`);
    const payload = fits(parseBase64(textOf(envelope["payload"], `${path}.payload`)), `${path}.payload`);
    const signatures = listOf(envelope["signatures"], `${path}.signatures`, 1, parseSignature);
    const [only] = signatures;
    if (only === undefined) misfit(`${path}.signatures`, "is empty");
    return { payloadType, payload, ...only };
  });
}

function parseSignature(value: unknown, path: string): { readonly keyId: string; readonly signature: Uint8Array } {
  const fields = objectWith(value, path, ["keyid", "sig"]);
  const keyId = textOf(fields["keyid"], `${path}.keyid`, DIGEST_FORM);
  const signature = fits(parseBase64(textOf(fields["sig"], `${path}.sig`)), `${path}.sig`);
  if (signature.length !== 64) misfit(`${path}.sig`, `has ${signature.length} bytes; an Ed25519 signature has 64`);
  return { keyId, signature };
}

/** The payload of an envelope whose signature holds under `key`; otherwise `BadSignature`. The only way to read a payload. */
export function openEnvelope(
  envelope: Envelope,
  key: PublicKey,
  payloadType = IN_TOTO_PAYLOAD_TYPE,
): Result<Uint8Array, "BadSignature" | "WrongPayloadType"> {
  if (!envelopeHolds(envelope, key))
    return refuse("BadSignature", `the signature does not hold under key ${key.keyId}`);
  if (envelope.payloadType !== payloadType)
    return refuse("WrongPayloadType", `payloadType is ${JSON.stringify(envelope.payloadType)}, not ${payloadType}`);
  return ok(envelope.payload);
}
