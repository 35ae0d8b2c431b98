/**
 * Ed25519 keys and what is done with them. A public key travels as SPKI DER in base64; its id is the digest of that DER
 * and only ever a hint: who signed is decided by the signature, under the key that the caller trusts.
 */
import { type KeyObject, createPrivateKey, createPublicKey, sign, verify } from "node:crypto";
import { base64Of, parseBase64 } from "./base64.ts";
import { digestOf } from "./digest.ts";
import { type Result, ok, refuse } from "./result.ts";

/** An Ed25519 private key; holds no text of the key that a log could show. */
export type SigningKey = { readonly privateKey: KeyObject; readonly publicKey: PublicKey };

/** An Ed25519 public key, ready to verify with. */
export type PublicKey = {
  readonly spki: string; // SPKI DER in base64, 44 bytes
  readonly keyId: string; // sha256:… of the DER
  readonly keyObject: KeyObject;
};

/** RFC 8410: SEQUENCE { SEQUENCE { OID 1.3.101.112 }, BIT STRING of 32 bytes }. */
const SPKI_PREFIX = "302a300506032b6570032100";
const SPKI_LENGTH = 44;

/** A public key from SPKI DER in canonical base64. Refused as `MalformedKey`; `whose` names the holder in the detail. */
export function parsePublicKey(spki: string, whose: string): Result<PublicKey, "MalformedKey"> {
  const bytes = parseBase64(spki);
  if (!bytes.ok) return refuse("MalformedKey", `the key of ${whose} is not canonical base64: ${bytes.detail}`);
  const der = Buffer.from(bytes.value);
  if (der.length !== SPKI_LENGTH || !der.toString("hex").startsWith(SPKI_PREFIX)) {
    return refuse(
      "MalformedKey",
      `the key of ${whose} is no Ed25519 public key in SPKI form (${der.length} bytes; ${SPKI_LENGTH} expected)`,
    );
  }
  return ok({ spki, keyId: digestOf(der), keyObject: createPublicKey({ key: der, format: "der", type: "spki" }) });
}

/** A signing key from PKCS #8 PEM, the form in which keys lie in files. Refused as `MalformedKey`. */
export function parseSigningKey(pem: string, whose: string): Result<SigningKey, "MalformedKey"> {
  try {
    return signingKeyOf(createPrivateKey({ key: pem, format: "pem" }), whose);
  } catch {
    // OpenSSL's own message is left out: it can quote what it was given.
    return refuse("MalformedKey", `the private key of ${whose} is no PKCS #8 PEM`);
  }
}

/** A signing key from a key object that somebody else made or read. Refused as `MalformedKey` where it is not Ed25519. */
export function signingKeyOf(privateKey: KeyObject, whose: string): Result<SigningKey, "MalformedKey"> {
  if (privateKey.type !== "private" || privateKey.asymmetricKeyType !== "ed25519") {
    return refuse(
      "MalformedKey",
      `the private key of ${whose} is ${privateKey.asymmetricKeyType ?? "no asymmetric key"}, not ed25519`,
    );
  }
  const der = createPublicKey(privateKey).export({ format: "der", type: "spki" });
  const publicKey = parsePublicKey(base64Of(der), whose);
  return publicKey.ok ? ok({ privateKey, publicKey: publicKey.value }) : publicKey;
}

/** The 64-byte Ed25519 signature over `message`. */
export const signBytes = (key: SigningKey, message: Uint8Array): Uint8Array => sign(null, message, key.privateKey);

/** True only if `signature` is `key`'s over exactly `message`. */
export const signatureHolds = (key: PublicKey, message: Uint8Array, signature: Uint8Array): boolean =>
  signature.length === 64 && verify(null, message, key.keyObject, signature);
