import "reflect-metadata"; // what @peculiar/x509's container needs before it is loaded
import { X509Certificate, createPrivateKey, webcrypto } from "node:crypto";
import * as x509 from "@peculiar/x509";
import { expect } from "chai";
import { type Authority, createAuthority, loadAuthority } from "./authority.ts";

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const RANK = { kind: "rank", name: "models/a-0-0-0" } as const;

/** What is signed, less the signature, which is another one each time: see RFC 5280, 4.1. */
const signed = ({ rawData }: x509.X509Certificate): string => {
  const bytes = Buffer.from(rawData);
  return bytes.subarray(4, 8 + bytes.readUInt16BE(6)).toString("hex");
};

describe("a process's certificate", () => {
  let authority: Authority;
  before(async () => {
    authority = await createAuthority();
  });

  /** The same certificate as a library writes it. */
  async function byTheLibrary(pem: string): Promise<x509.X509Certificate> {
    const ours = new x509.X509Certificate(pem);
    const issuer = new x509.X509Certificate(authority.certificatePem);
    const key = createPrivateKey(authority.keyPem).export({ type: "pkcs8", format: "der" });
    const { serialNumber, subject, notBefore, notAfter, publicKey } = ours;
    const names = ours.getExtension(x509.SubjectAlternativeNameExtension)?.names.toJSON() ?? [];
    return x509.X509CertificateGenerator.create({
      ...{ serialNumber, subject, issuer: issuer.subject, notBefore, notAfter, publicKey },
      signingKey: await webcrypto.subtle.importKey("pkcs8", key, ALGORITHM, true, ["sign"]),
      signingAlgorithm: ALGORITHM,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth]),
        new x509.SubjectAlternativeNameExtension(names),
        await x509.SubjectKeyIdentifierExtension.create(publicKey),
        await x509.AuthorityKeyIdentifierExtension.create(issuer.publicKey),
      ],
    });
  }

  for (const { name, options } of [
    { name: "of a rank", options: {} },
    { name: "with many names", options: { dns: ["a.example.org", "b".repeat(60)], ips: ["127.0.0.1", "2001:db8::7"] } },
    { name: "that ends after 2049", options: { days: 365 * 40 } },
    { name: "that has expired", options: { days: -3 } },
  ])
    it(`${name} is byte for byte what the library writes`, async () => {
      const { certificatePem } = await authority.issue(RANK, options);
      const wanted = await byTheLibrary(certificatePem);
      expect(signed(new x509.X509Certificate(certificatePem))).to.equal(signed(wanted));
    });

  it("holds under its authority, also one that was kept, and has the key beside it", async () => {
    const kept = await loadAuthority(authority);
    for (const each of [authority, kept]) {
      const { certificatePem, keyPem, caPem } = await each.issue(RANK);
      const certificate = new X509Certificate(certificatePem);
      const issuer = new X509Certificate(caPem);
      expect(certificate.checkIssued(issuer)).to.equal(true);
      expect(certificate.verify(issuer.publicKey)).to.equal(true);
      expect(certificate.checkPrivateKey(createPrivateKey(keyPem))).to.equal(true);
      expect(certificate.ca).to.equal(false);
      expect(certificate.subjectAltName).to.match(/URI:.*rank.*DNS:tessellate/);
    }
  });
});
