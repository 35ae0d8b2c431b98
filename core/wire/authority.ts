/**
 * The certificate authority of one installation: the operator's in a cluster (kept in a Secret), local mode's own in its
 * state directory, a throwaway one in tests. P-256, because every TLS library speaks it.
 */
import "reflect-metadata"; // what @peculiar/x509's container needs before it is loaded
import { createPrivateKey, randomBytes, webcrypto } from "node:crypto";
import { mkdir, rename, writeFile } from "node:fs/promises";
import { isIP } from "node:net";
import { join } from "node:path";
import * as x509 from "@peculiar/x509";
import { type Identity, identityUri } from "../identity.ts";
import { keyIdOf, leafCertificate } from "./leaf-certificate.ts";
import { newKeyPair } from "./key-pair.ts";
import { SERVER_NAME } from "./options.ts";

export type IssuedCertificate = {
  readonly caPem: string;
  readonly certificatePem: string;
  readonly keyPem: string; // PKCS8
};

export type IssueOptions = {
  readonly ips?: readonly string[];
  readonly dns?: readonly string[]; // besides `tessellate`
  readonly days?: number; // 0 or less: already expired, for tests
};

export type Authority = {
  readonly certificatePem: string;
  readonly keyPem: string; // PKCS8; whoever has it can be anybody
  issue(identity: Identity, options?: IssueOptions): Promise<IssuedCertificate>;
};

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const DAY_MS = 86_400_000;
/** Clocks of machines of many owners disagree; a certificate is valid a little before it was made. */
const SKEW_MS = 3_600_000;

/** A new authority, valid for `days`. */
export async function createAuthority({ days = 3650 }: { readonly days?: number } = {}): Promise<Authority> {
  const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: Buffer.from(serialNumber()).toString("hex"),
    name: "CN=tessellate authority",
    ...validity(days),
    keys,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return authorityOf(certificate, await exportKey(keys.privateKey));
}

/** An authority that was kept as PEM. Throws weather where either is no PEM of the kind. */
export async function loadAuthority(pem: {
  readonly certificatePem: string;
  readonly keyPem: string;
}): Promise<Authority> {
  return authorityOf(new x509.X509Certificate(pem.certificatePem), pem.keyPem);
}

/** Writes ca.crt, tls.crt and tls.key (readable by the owner only); each replaced whole, the key first. */
export async function writeCertificate(directory: string, issued: IssuedCertificate): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  await replace(join(directory, "tls.key"), issued.keyPem, 0o600);
  await replace(join(directory, "tls.crt"), issued.certificatePem, 0o644);
  await replace(join(directory, "ca.crt"), issued.caPem, 0o644);
}

function authorityOf(certificate: x509.X509Certificate, caKeyPem: string): Authority {
  const certificatePem = `${certificate.toString("pem")}\n`;
  const issuerKey = createPrivateKey(caKeyPem);
  const issuer = new Uint8Array(certificate.subjectName.toArrayBuffer());
  const issuerKeyId = keyIdOf(new Uint8Array(certificate.publicKey.rawData));
  return {
    certificatePem,
    keyPem: caKeyPem,
    issue: async (identity, { ips = [], dns = [], days = 365 } = {}) => {
      const { publicKey, privateKey } = newKeyPair();
      const leaf = leafCertificate(
        {
          serial: serialNumber(),
          issuer,
          issuerKeyId,
          commonName: `tessellate ${identity.kind}`, // names may be longer than the 64 characters of a CN; the URI counts
          ...validity(days),
          publicKey,
          uri: identityUri(identity),
          dns: [SERVER_NAME, ...dns],
          ips: ips
            .filter((ip) => isIP(ip) !== 0)
            .map((value) => new Uint8Array(new x509.GeneralNames([{ type: "ip", value }]).rawData).subarray(2)), // less its head
        },
        issuerKey,
      );
      return {
        caPem: certificatePem,
        certificatePem: pemOf("CERTIFICATE", leaf),
        keyPem: pemOf("PRIVATE KEY", privateKey),
      };
    },
  };
}

/** RFC 7468: the library's way takes longer than the signature. */
const pemOf = (label: string, der: Buffer): string =>
  `-----BEGIN ${label}-----\n${der.toString("base64").replace(/.{1,64}/g, "$&\n")}-----END ${label}-----\n`;

function validity(days: number): { readonly notBefore: Date; readonly notAfter: Date } {
  const notAfter = Date.now() + days * DAY_MS;
  return { notBefore: new Date(Math.min(Date.now(), notAfter) - SKEW_MS), notAfter: new Date(notAfter) };
}

/** 16 random bytes with the top bits 01: positive, and never shortened in DER. */
function serialNumber(): Uint8Array {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
  return bytes;
}

async function exportKey(key: webcrypto.CryptoKey): Promise<string> {
  return `${x509.PemConverter.encode(await webcrypto.subtle.exportKey("pkcs8", key), "PRIVATE KEY")}\n`;
}

async function replace(path: string, text: string, mode: number): Promise<void> {
  const next = `${path}.${randomBytes(4).toString("hex")}`;
  await writeFile(next, text, { mode });
  await rename(next, path);
}
