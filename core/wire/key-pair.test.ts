import { createECDH, createPrivateKey, createPublicKey, sign, verify } from "node:crypto";
import { expect } from "chai";
import { newKeyPair, privateKeyOf } from "./key-pair.ts";

const privateIn = (der: Buffer) => createPrivateKey({ key: der, format: "der", type: "pkcs8" });

describe("a fresh key pair", () => {
  it("is read by OpenSSL, written by it as the same bytes, and signs what its public key verifies", () => {
    for (let round = 0; round < 300; round += 1) {
      const { publicKey, privateKey } = newKeyPair();
      const [secret, open] = [privateIn(privateKey), createPublicKey({ key: publicKey, format: "der", type: "spki" })];
      expect(secret.export({ format: "der", type: "pkcs8" }).equals(privateKey)).to.equal(true);
      expect(createPublicKey(secret).export({ format: "der", type: "spki" }).equals(publicKey)).to.equal(true);
      const text = Buffer.from("hand-off");
      expect(verify("sha256", text, open, sign("sha256", text, secret))).to.equal(true);
    }
  });

  it("has a scalar of 32 bytes also where it begins with zeros", () => {
    const pair = createECDH("prime256v1");
    pair.setPrivateKey(Buffer.from("07", "hex"));
    const der = privateKeyOf(Buffer.from([7]), pair.getPublicKey());
    expect(privateIn(der).export({ format: "der", type: "pkcs8" }).equals(der)).to.equal(true);
  });
});
