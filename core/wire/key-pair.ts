/**
 * A fresh key of P-256. Making one takes twenty microseconds and OpenSSL's way of writing it down two hundred, and every
 * rank of a thousand models gets one: so both forms are written here (RFC 5480, RFC 5958), around the same bytes.
 */
import { createECDH } from "node:crypto";

/** Both as DER. */
export type KeyPair = {
  readonly publicKey: Buffer; // SubjectPublicKeyInfo
  readonly privateKey: Buffer; // PKCS8
};

const SCALAR_LENGTH = 32;
/** Algorithm (EC, P-256), and the head of the BIT STRING that holds the point. */
const SPKI_HEAD = Buffer.from("3059301306072a8648ce3d020106082a8648ce3d030107034200", "hex");
/** Version 0, the algorithm, and the ECPrivateKey (RFC 5915) up to its scalar; then up to its point. */
const PKCS8_HEAD = Buffer.from("308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420", "hex");
const PKCS8_POINT_HEAD = Buffer.from("a144034200", "hex");

export function newKeyPair(): KeyPair {
  const pair = createECDH("prime256v1");
  const point = pair.generateKeys(); // uncompressed: 65 bytes
  return { publicKey: Buffer.concat([SPKI_HEAD, point]), privateKey: privateKeyOf(pair.getPrivateKey(), point) };
}

/** `scalar`: of any length up to 32, as OpenSSL leaves leading zeros away. */
export const privateKeyOf = (scalar: Uint8Array, point: Uint8Array): Buffer =>
  Buffer.concat([PKCS8_HEAD, Buffer.alloc(SCALAR_LENGTH - scalar.length), scalar, PKCS8_POINT_HEAD, point]);
