/**
 * The certificate of one process, written byte by byte (X.690 DER, RFC 5280). A library that can write any certificate
 * takes five milliseconds of the operator's only thread for each, and a thousand models of eight ranks need eight
 * thousand: this one shape takes a twentieth of that. What comes out is compared with the library's in a test.
 */
import { type KeyObject, createHash, sign } from "node:crypto";

export type LeafCertificate = {
  readonly serial: Uint8Array; // 16 bytes, the top bits 01
  readonly issuer: Uint8Array; // its Name, as DER
  readonly issuerKeyId: Uint8Array;
  readonly commonName: string; // letters, digits and spaces
  readonly notBefore: Date;
  readonly notAfter: Date;
  readonly publicKey: Uint8Array; // SubjectPublicKeyInfo, as DER
  /** What the certificate is good for, besides the URI: `ips` as GeneralNames in DER. */
  readonly uri: string;
  readonly dns: readonly string[];
  readonly ips: readonly Uint8Array[];
};

const SEQUENCE = 0x30;
const SET = 0x31;
const INTEGER = 0x02;
const BIT_STRING = 0x03;
const OCTET_STRING = 0x04;
const OBJECT_ID = 0x06;
const PRINTABLE_STRING = 0x13;
const UTC_TIME = 0x17;
const GENERALIZED_TIME = 0x18;
const TRUE = Buffer.from([0x01, 0x01, 0xff]);
/** [n], primitive or constructed: IMPLICIT strings are the former. */
const tagged = (number: number, constructed = false): number => 0x80 | (constructed ? 0x20 : 0) | number;

function der(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const bytes: number[] = [];
  for (let rest = length; rest > 0; rest = Math.floor(rest / 256)) bytes.unshift(rest % 256);
  const head = length < 128 ? [tag, length] : [tag, 0x80 | bytes.length, ...bytes];
  return Buffer.concat([Buffer.from(head), ...parts]);
}

const objectId = (hex: string): Buffer => der(OBJECT_ID, Buffer.from(hex, "hex"));
const ECDSA_WITH_SHA256 = der(SEQUENCE, objectId("2a8648ce3d040302"));
const COMMON_NAME = objectId("550403");
const extension = (idHex: string, value: Uint8Array, critical = false): Buffer =>
  der(SEQUENCE, objectId(idHex), ...(critical ? [TRUE] : []), der(OCTET_STRING, value));

const BASIC_CONSTRAINTS = extension("551d13", der(SEQUENCE), true); // no authority
const DIGITAL_SIGNATURE = extension("551d0f", der(BIT_STRING, Buffer.from([7, 0x80])), true);
const SERVER_AND_CLIENT = extension(
  "551d25",
  der(SEQUENCE, objectId("2b06010505070301"), objectId("2b06010505070302")),
);

/** How keys are named in certificates: SHA-1 of the key's bits, which is a name and protects nothing (RFC 5280, 4.2.1.2). */
export function keyIdOf(publicKey: Uint8Array): Uint8Array {
  // The key is the BIT STRING at the end, after its count of unused bits: 65 bytes, a point of P-256.
  return createHash("sha1").update(publicKey.subarray(-65)).digest();
}

/** As DER, signed with the issuer's P-256 key. */
export function leafCertificate(leaf: LeafCertificate, issuerKey: KeyObject): Buffer {
  const name = der(SEQUENCE, COMMON_NAME, der(PRINTABLE_STRING, Buffer.from(leaf.commonName)));
  const names = [
    der(tagged(6), Buffer.from(leaf.uri)),
    ...leaf.dns.map((each) => der(tagged(2), Buffer.from(each))),
    ...leaf.ips,
  ];
  const extensions = [
    BASIC_CONSTRAINTS,
    DIGITAL_SIGNATURE,
    SERVER_AND_CLIENT,
    extension("551d11", der(SEQUENCE, ...names)),
    extension("551d0e", der(OCTET_STRING, keyIdOf(leaf.publicKey))),
    extension("551d23", der(SEQUENCE, der(tagged(0), leaf.issuerKeyId))),
  ];
  const body = der(
    SEQUENCE,
    der(tagged(0, true), der(INTEGER, Buffer.from([2]))), // version 3
    der(INTEGER, leaf.serial),
    ECDSA_WITH_SHA256,
    leaf.issuer,
    der(SEQUENCE, timeOf(leaf.notBefore), timeOf(leaf.notAfter)),
    der(SEQUENCE, der(SET, name)),
    leaf.publicKey,
    der(tagged(3, true), der(SEQUENCE, ...extensions)),
  );
  const signature = sign("sha256", body, issuerKey);
  return der(SEQUENCE, body, ECDSA_WITH_SHA256, der(BIT_STRING, Buffer.from([0]), signature));
}

/** Two digits of the year through 2049, four after (RFC 5280, 4.1.2.5); whole seconds. */
function timeOf(date: Date): Buffer {
  const digits = `${date.toISOString().slice(0, 19).replace(/[-:T]/g, "")}Z`;
  if (date.getUTCFullYear() < 2050) return der(UTC_TIME, Buffer.from(digits.slice(2)));
  return der(GENERALIZED_TIME, Buffer.from(digits));
}
