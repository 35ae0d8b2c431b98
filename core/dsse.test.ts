import { expect } from "chai";
import fc from "fast-check";
import { compactJson } from "./canonical-json.ts";
import {
  type Envelope,
  envelopeBytes,
  envelopeDocument,
  envelopeHolds,
  openEnvelope,
  pae,
  parseEnvelope,
  signEnvelope,
} from "./dsse.ts";
import { parsePublicKey, parseSigningKey, signBytes } from "./keys.ts";
import { valueOrThrow } from "./result.ts";
import { keyNamed } from "./session-fixture.ts";

const bytesOf = (text: string) => new TextEncoder().encode(text);
const textOf = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const key = keyNamed("provider/campus");
const envelope = signEnvelope("application/vnd.in-toto+json", bytesOf('{"a":1}'), key);

describe("DSSE", () => {
  it("encodes the official vector of DSSE v1's protocol.md", () => {
    expect(textOf(pae("http://example.com/HelloWorld", bytesOf("hello world")))).to.equal(
      "DSSEv1 29 http://example.com/HelloWorld 11 hello world",
    );
  });

  it("counts bytes, not characters", () => {
    expect(textOf(pae("ü", bytesOf("€")))).to.equal("DSSEv1 2 ü 3 €");
  });

  it("never encodes two pairs of type and body alike", () => {
    const pair = fc.tuple(fc.string(), fc.uint8Array());
    fc.assert(
      fc.property(pair, pair, ([typeA, bodyA], [typeB, bodyB]) => {
        const same = typeA === typeB && Buffer.compare(bodyA, bodyB) === 0;
        return same === (Buffer.compare(pae(typeA, bodyA), pae(typeB, bodyB)) === 0);
      }),
    );
  });

  it("signs as RFC 8032 does (§7.1, test 2)", () => {
    const seed = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
    const der = Buffer.from(`302e020100300506032b657004220420${seed}`, "hex").toString("base64");
    const signing = valueOrThrow(
      parseSigningKey(`-----BEGIN PRIVATE KEY-----\n${der}\n-----END PRIVATE KEY-----\n`, "the RFC"),
    );
    expect(Buffer.from(signing.publicKey.spki, "base64").subarray(12).toString("hex")).to.equal(
      "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
    );
    expect(Buffer.from(signBytes(signing, Uint8Array.of(0x72))).toString("hex")).to.equal(
      "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    );
  });

  it("reads back what it wrote, and opens it under the right key only", () => {
    const read = valueOrThrow(parseEnvelope(envelopeBytes(envelope)));
    expect(textOf(valueOrThrow(openEnvelope(read, key.publicKey)))).to.equal('{"a":1}');
    expect(openEnvelope(read, keyNamed("mallory").publicKey)).to.include({ ok: false, code: "BadSignature" });
    expect(openEnvelope(read, key.publicKey, "text/plain")).to.include({ ok: false, code: "WrongPayloadType" });
  });

  it("takes the key id as a hint: a false one changes nothing about who signed", () => {
    const renamed: Envelope = { ...envelope, keyId: keyNamed("mallory").publicKey.keyId };
    expect(envelopeHolds(renamed, key.publicKey)).to.equal(true);
    expect(envelopeHolds(renamed, keyNamed("mallory").publicKey)).to.equal(false);
  });

  const document = envelopeDocument(envelope);
  const [signature] = document.signatures;
  const refused: readonly (readonly [string, unknown, string])[] = [
    ["a list", [], "envelope: must be an object, not []"],
    ["a missing payload", { payloadType: "x", signatures: [] }, "envelope: lacks the field payload"],
    ["a field more", { ...document, extra: 1 }, 'envelope: has the unknown field "extra"'],
    ["no signature", { ...document, signatures: [] }, "envelope.signatures: is empty"],
    [
      "two signatures",
      { ...document, signatures: [signature, signature] },
      "envelope.signatures: has 2 items, more than the 1 allowed",
    ],
    [
      "base64 with spare bits",
      { ...document, payload: "QQ==".replace("Q=", "R=") },
      "envelope.payload: character 1 of 4 is not as base64 writes it",
    ],
    [
      "base64 for URLs",
      { ...document, signatures: [{ keyid: signature?.keyid, sig: "_".repeat(86) }] },
      "envelope.signatures[0].sig: character 0 of 86 is not as base64 writes it",
    ],
    [
      "a short signature",
      { ...document, signatures: [{ keyid: signature?.keyid, sig: "QUJD" }] },
      "envelope.signatures[0].sig: has 3 bytes; an Ed25519 signature has 64",
    ],
  ];
  for (const [name, value, detail] of refused) {
    it(`refuses ${name}, and says where`, () => {
      expect(parseEnvelope(compactJson(value))).to.include({ ok: false, detail });
    });
  }

  it("refuses blanks, twice the same key, and what is no JSON", () => {
    const text = textOf(envelopeBytes(envelope));
    expect(parseEnvelope(bytesOf(`${text}\n`))).to.include({ code: "NotCanonical" });
    expect(parseEnvelope(bytesOf(text.replace("{", '{"payload":"",')))).to.include({ code: "NotCanonical" });
    expect(parseEnvelope(bytesOf(text.slice(1)))).to.include({ code: "NotJson" });
    expect(parseEnvelope(Uint8Array.of(0xff))).to.include({ code: "NotUtf8" });
  });

  it("never throws on junk", () => {
    fc.assert(fc.property(fc.oneof(fc.uint8Array(), fc.json().map(bytesOf)), (junk) => !parseEnvelope(junk).ok));
  });
});

describe("keys", () => {
  it("refuses keys of other kinds and lengths, naming whose they are", () => {
    expect(parsePublicKey("QUJD", "provider/campus")).to.deep.include({
      code: "MalformedKey",
      detail: "the key of provider/campus is no Ed25519 public key in SPKI form (3 bytes; 44 expected)",
    });
    expect(parseSigningKey("-----BEGIN nothing", "node campus-1")).to.include({
      code: "MalformedKey",
      detail: "the private key of node campus-1 is no PKCS #8 PEM",
    });
  });
});
