/** The certificate authority of one test cluster; its keys never leave the run's folder. */
import "reflect-metadata";
import { webcrypto } from "node:crypto";
import {
  BasicConstraintsExtension,
  cryptoProvider,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  SubjectAlternativeNameExtension,
  type X509Certificate,
  X509CertificateGenerator,
} from "@peculiar/x509";

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const SERVER_AUTH = "1.3.6.1.5.5.7.3.1";
const CLIENT_AUTH = "1.3.6.1.5.5.7.3.2";
const LIFETIME_MS = 30 * 24 * 3_600_000;
/** Clocks in containers lag at times. */
const BACKDATE_MS = 3_600_000;

/** PEM texts. */
export interface KeyPair {
  readonly certificate: string;
  readonly key: string;
}

export interface Subject {
  /** Kubernetes' user name in a client certificate. */
  readonly commonName: string;
  /** Kubernetes' groups in a client certificate. */
  readonly organizations?: readonly string[];
  readonly dnsNames?: readonly string[];
  readonly addresses?: readonly string[];
}

export interface Authority extends KeyPair {
  /** A certificate good for servers and clients alike, valid for thirty days. */
  issue(subject: Subject): Promise<KeyPair>;
}

export async function createAuthority(commonName: string): Promise<Authority> {
  cryptoProvider.set(webcrypto);
  const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
  const certificate = await X509CertificateGenerator.createSelfSigned({
    name: [{ CN: [commonName] }],
    keys,
    ...validity(),
    signingAlgorithm: ALGORITHM,
    extensions: [
      new BasicConstraintsExtension(true, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.digitalSignature, true),
    ],
  });
  return {
    certificate: certificate.toString("pem"),
    key: await privateKeyPem(keys),
    issue: (subject) => issue(certificate, keys, subject),
  };
}

async function issue(issuer: X509Certificate, issuerKeys: CryptoKeyPair, subject: Subject): Promise<KeyPair> {
  const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
  const names = [
    ...(subject.dnsNames ?? []).map((value) => ({ type: "dns", value }) as const),
    ...(subject.addresses ?? []).map((value) => ({ type: "ip", value }) as const),
  ];
  const certificate = await X509CertificateGenerator.create({
    subject: [...(subject.organizations ?? []).map((name) => ({ O: [name] })), { CN: [subject.commonName] }],
    issuer: issuer.subject,
    publicKey: keys.publicKey,
    signingKey: issuerKeys.privateKey,
    ...validity(),
    signingAlgorithm: ALGORITHM,
    extensions: [
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      new ExtendedKeyUsageExtension([SERVER_AUTH, CLIENT_AUTH]),
      ...(names.length > 0 ? [new SubjectAlternativeNameExtension(names)] : []),
    ],
  });
  return { certificate: certificate.toString("pem"), key: await privateKeyPem(keys) };
}

type CryptoKeyPair = webcrypto.CryptoKeyPair;

function validity() {
  return { notBefore: new Date(Date.now() - BACKDATE_MS), notAfter: new Date(Date.now() + LIFETIME_MS) };
}

/** Kubernetes' service-account tokens are signed with such a key too. */
export async function privateKeyPem(keys: CryptoKeyPair): Promise<string> {
  return PemConverter.encode(await webcrypto.subtle.exportKey("pkcs8", keys.privateKey), "PRIVATE KEY");
}
