import { expect } from "chai";
import fc from "fast-check";
import { type Trust, sayBlame, verifyAnswer } from "./answer-verification.ts";
import { parseAnswer, saveAnswer } from "./answer.ts";
import { digestOf } from "./digest.ts";
import { valueOrThrow } from "./result.ts";
import { type SessionFixture, type SessionOptions, aSession, keyNamed } from "./session-fixture.ts";

const bytesOf = (text: string) => new TextEncoder().encode(text);
const textOf = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const whole = aSession();
const small = aSession({
  text: "é",
  prompt: [1],
  generated: [2],
  segments: [{ layers: [0, 2], ranks: [{ provider: "ann" }] }],
});

const spkiOf = (holder: string) => keyNamed(holder).publicKey.spki;
const pinned: Trust = {
  keys: Object.fromEntries(
    ["provider/campus", "provider/garage", "provider/studio", "gateway/gateway-0"].map((holder) => [
      holder,
      spkiOf(holder),
    ]),
  ),
};

/** First problem as `code | where | blame`. */
function first(bytes: Uint8Array, trust?: Trust): string {
  const { problems } = verifyAnswer(bytes, trust);
  const [problem] = problems;
  return problem === undefined ? "verified" : `${problem.code} | ${problem.where} | ${sayBlame(problem.blame)}`;
}

describe("a saved answer", () => {
  it("verifies, and says by whom it was computed", () => {
    const verdict = verifyAnswer(whole.file, pinned);
    expect(verdict.problems).to.deep.equal([]);
    expect(verdict).to.deep.include({
      verified: true,
      providers: ["campus", "garage", "studio"],
      layerCount: 8,
      tokenCount: 6,
      segmentCount: 3,
      pinned: { providers: true, gateways: true },
    });
    expect(verifyAnswer(whole.file).pinned).to.deep.equal({ providers: false, gateways: false });
  });

  it("is one document with one form, and reads back as it was", () => {
    expect(saveAnswer(valueOrThrow(parseAnswer(whole.file)))).to.deep.equal(whole.file);
  });

  it("may be printed by the usual programs", () => {
    const document: unknown = JSON.parse(textOf(whole.file));
    const printed = [
      JSON.stringify(document),
      `${JSON.stringify(document, null, 2)}\n`,
      JSON.stringify(document, null, "\t"),
      JSON.stringify(document, null, 4).replace(/ö/g, "\\u00f6"),
    ];
    for (const text of printed) expect(first(bytesOf(text)), text.slice(0, 30)).to.equal("verified");
  });

  it("in any other spelling is refused with the place", () => {
    expect(first(bytesOf(textOf(whole.file).replace('"model": {', '"model":  {')))).to.equal(
      "NotCanonical | the file | blame: whoever handed over this file",
    );
    expect(verifyAnswer(bytesOf(JSON.stringify({ id: "x", tessellate: {} }))).problems[0]?.detail).to.contain(
      "jq .tessellate FILE",
    );
  });

  it("fails with any byte changed, wherever, and says where and why", () => {
    for (let at = 0; at < small.file.length; at += 1) {
      const file = small.file.slice();
      file[at] = (file[at] ?? 0) ^ (1 << (at % 8));
      const { verified, problems } = verifyAnswer(file);
      expect(verified, `byte ${at}`).to.equal(false);
      const [problem] = problems;
      expect(problem?.where, `byte ${at}`).to.match(/^(receipt 0|the (usage|file|keys|text|nonce|model)|tokenIds)/);
      expect(problem?.detail.length, `byte ${at}`).to.be.greaterThan(20);
      expect(problem?.blame.kind, `byte ${at}: ${problem?.detail}`).to.equal("sender");
    }
  });

  it("names the receipt in which a byte was changed", () => {
    const text = textOf(whole.file);
    whole.envelopes.forEach((envelope, index) => {
      const start = text.indexOf(Buffer.from(envelope.payload).toString("base64"));
      fc.assert(
        fc.property(
          fc.integer({ min: 0, max: envelope.payload.length }),
          fc.integer({ min: 1, max: 255 }),
          (offset, change) => {
            // The text before is ASCII but for one letter of two bytes.
            const at = bytesOf(text.slice(0, start + offset)).length;
            const file = whole.file.slice();
            file[at] = (file[at] ?? 0) ^ change;
            expect(verifyAnswer(file).problems[0]?.where).to.equal(`receipt ${index}`);
          },
        ),
        { numRuns: 40 },
      );
    });
  });

  it("fails with any bytes put in, taken out or changed", () => {
    fc.assert(
      fc.property(fc.nat(whole.file.length), fc.nat(8), fc.uint8Array({ maxLength: 8 }), (at, removed, put) => {
        const file = Buffer.concat([whole.file.subarray(0, at), put, whole.file.subarray(at + removed)]);
        // The newline at the end is the one byte that a program may leave out.
        const same = file.equals(whole.file) || file.equals(whole.file.subarray(0, -1));
        expect(verifyAnswer(file).verified).to.equal(same);
      }),
      { numRuns: 300 },
    );
  });

  const sender = "blame: whoever handed over this file";
  const rewritten = (change: (session: SessionFixture) => Parameters<typeof saveAnswer>[0]) =>
    saveAnswer(change(whole));
  const another = aSession({ id: "s-2", text: "Another." });
  const forged: readonly (readonly [string, Uint8Array, string])[] = [
    [
      "another text",
      rewritten((s) => ({ ...s.answer, text: "Goodbye", usage: s.usageEnvelope })),
      `AnswerMismatch | the text | ${sender}`,
    ],
    [
      "another token",
      rewritten((s) => ({
        ...s.answer,
        tokenIds: { ...s.answer.tokenIds, generated: [5, 9, 3] },
        usage: s.usageEnvelope,
      })),
      `TokensMismatch | tokenIds.generated | ${sender}`,
    ],
    [
      "another prompt",
      rewritten((s) => ({
        ...s.answer,
        tokenIds: { ...s.answer.tokenIds, prompt: [1, 17, 301] },
        usage: s.usageEnvelope,
      })),
      `TokensMismatch | tokenIds | ${sender}`,
    ],
    [
      "a token less",
      rewritten((s) => ({
        ...s.answer,
        tokenIds: { ...s.answer.tokenIds, generated: [5, 9] },
        usage: s.usageEnvelope,
      })),
      `CountMismatch | tokenIds.generated | ${sender}`,
    ],
    [
      "a receipt less",
      rewritten((s) => ({ ...s.answer, receipts: s.answer.receipts.slice(1), usage: s.usageEnvelope })),
      `ReceiptsMismatch | receipt 0 | ${sender}`,
    ],
    [
      "two receipts exchanged",
      rewritten((s) => ({ ...s.answer, receipts: [...s.answer.receipts].reverse(), usage: s.usageEnvelope })),
      `ReceiptsMismatch | receipt 0 | ${sender}`,
    ],
    [
      "a receipt of another session",
      rewritten((s) => ({
        ...s.answer,
        receipts: s.answer.receipts.with(2, another.envelopes[2] ?? expect.fail("a receipt")),
        usage: s.usageEnvelope,
      })),
      `ReceiptsMismatch | receipt 2 | ${sender}`,
    ],
    [
      "the usage of another session",
      rewritten((s) => ({ ...s.answer, usage: another.usageEnvelope })),
      `ReceiptsMismatch | receipt 0 | ${sender}`,
    ],
    [
      "a key that signed nothing",
      rewritten((s) => ({
        ...s.answer,
        keys: { ...s.answer.keys, "provider/zed": spkiOf("zed") },
        usage: s.usageEnvelope,
      })),
      `UnusedKey | the keys | ${sender}`,
    ],
  ];
  for (const [name, file, want] of forged) it(`with ${name} is refused`, () => expect(first(file)).to.equal(want));

  const lies: readonly (readonly [string, SessionOptions, Trust | undefined, string])[] = [
    [
      "a provider whose key is not pinned",
      { keyOf: (holder) => keyNamed(holder === "provider/garage" ? "mallory" : holder) },
      pinned,
      `KeyMismatch | the keys | ${sender}`,
    ],
    [
      "a gateway that signed for other token ids",
      { alterAnswer: (answer) => ({ ...answer, tokenIds: { ...answer.tokenIds, generated: [5, 9, 3] } }) },
      pinned,
      "TokensMismatch | tokenIds.generated | blame: gateway/gateway-0",
    ],
    [
      "a gateway that bills more than it shows",
      { alterUsage: (usage) => ({ ...usage, tokens: { ...usage.tokens, generated: 4 } }) },
      pinned,
      "CountMismatch | receipt 0 (provider campus, layers [0,4), rank 0 of 1) | blame: unclear, provider/campus or gateway/gateway-0",
    ],
    [
      "a rank that signed another hand-off",
      { alter: (receipt, index) => (index === 0 ? { ...receipt, handOffsOut: digestOf() } : receipt) },
      pinned,
      "BrokenChain | the chain | blame: unclear, provider/campus or provider/garage",
    ],
    [
      "another model than the one pinned",
      {},
      { ...pinned, modelRoot: digestOf() },
      "WrongModel | the usage | blame: gateway/gateway-0",
    ],
  ];
  for (const [name, options, trust, want] of lies) {
    it(`shows ${name}`, () => expect(first(aSession(options).file, trust)).to.equal(want));
  }

  it("says who spoke in whose name", () => {
    // garage signs a receipt that names studio: the key that holds is garage's.
    const session = aSession({
      keyOf: (holder) => keyNamed(holder === "provider/studio" ? "provider/garage" : holder),
      alterAnswer: (answer) => ({ ...answer, keys: { ...answer.keys, "provider/studio": spkiOf("provider/studio") } }),
    });
    expect(first(session.file, pinned)).to.equal("WrongSigner | receipt 2 | blame: provider/garage");
    expect(first(session.file)).to.equal(`WrongSigner | receipt 2 | ${sender}`);
  });
});
