import { expect } from "chai";
import fc from "fast-check";
import { compactJson } from "./canonical-json.ts";
import { isJsonObject } from "./json.ts";
import { aSession } from "./session-fixture.ts";
import { parseReceipt, parseUsage, receiptStatement, usageStatement } from "./statement.ts";

const { receipts, usage } = aSession();
const textOf = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const bytesOf = (text: string) => new TextEncoder().encode(text);

/** The statement as JSON, with one field set (or, for undefined, taken away) at a path in its predicate. */
function changed(payload: Uint8Array, path: string, value: unknown): Uint8Array {
  const statement: unknown = JSON.parse(textOf(payload));
  const keys = ["predicate", ...path.split(".")];
  let at: unknown = statement;
  for (const key of keys.slice(0, -1)) at = isJsonObject(at) ? at[key] : undefined;
  const last = keys.at(-1) ?? "";
  if (isJsonObject(at)) Object.assign(at, { [last]: value });
  return compactJson(statement);
}

describe("statements", () => {
  it("reads back every receipt and the usage as they were written", () => {
    for (const receipt of receipts)
      expect(parseReceipt(receiptStatement(receipt))).to.deep.equal({ ok: true, value: receipt });
    expect(parseUsage(usageStatement(usage))).to.deep.equal({ ok: true, value: usage });
  });

  it("is an in-toto Statement v1 whose subject is what was handed off", () => {
    const [first] = receipts;
    const statement = JSON.parse(textOf(receiptStatement(first ?? receipts[0] ?? expect.fail("a receipt"))));
    expect(statement).to.include({
      _type: "https://in-toto.io/Statement/v1",
      predicateType: "https://tessellate.dev/receipt/v1",
    });
    expect(statement.subject).to.deep.equal([
      { name: "hand-offs-out", digest: { sha256: first?.handOffsOut.slice(7) } },
    ]);
  });

  const receipt = receiptStatement(receipts[0] ?? expect.fail("a receipt"));
  const table: readonly (readonly [string, unknown, string])[] = [
    ["surprise", 1, 'predicate: has the unknown field "surprise"'],
    ["epoch", undefined, "predicate: lacks the field epoch"],
    ["epoch", 1.5, "epoch: must be an integer, not 1.5"],
    ["epoch", -1, "epoch: must be within 0..4294967295, not -1"],
    ["model.root", "sha256:AB", 'model.root: must be sha256: and 64 lower-case hexadecimal digits, not "sha256:AB"'],
    ["shard.layers", [4, 4], "shard.layers: must be [start, end) with start below end, not [4,4]"],
    ["shard.layers", [0, 4, 8], "shard.layers: has 3 items, more than the 2 allowed"],
    ["shard.rankIndex", 1, "shard.rankIndex: must be within 0..0, not 1"],
    ["shard.shareMillionths", "1000001", "shard.shareMillionths: must be at most 1000000, not 1000001"],
    ["shard.shareMillionths", "01", 'shard.shareMillionths: must be an integer in decimal, not "01"'],
    ["shard.shareMillionths", 7, "shard.shareMillionths: must be a text, not 7"],
    ["session.nonce", "00", 'session.nonce: must be 32 bytes in lower-case hexadecimal, not "00"'],
    ["span", { start: 5, end: 4 }, "span.end: must be within 5..2147483647, not 4"],
    ["tokens.positions", 4, "tokens.positions: must be the span's 5, not 4"],
    ["segmentIndex", 3, "segmentIndex: must be within 0..2, not 3"],
    ["handOffsIn", "", 'handOffsIn: must be sha256: and 64 lower-case hexadecimal digits, not ""'],
    ["provider", "Campus", "provider: must be a name of lower-case letters, digits, '-', '.' and '/', not \"Campus\""],
    ["driftClass", "", 'driftClass: must be 1 to 200 printable characters, not ""'],
    [
      "sampler",
      { temperature: 1, topP: 0, seedCommitment: "" },
      "sampler.topP: must be a number within 5e-324..1, not 0",
    ],
  ];
  for (const [path, value, detail] of table) {
    it(`refuses ${path} = ${JSON.stringify(value)}, and says so`, () => {
      expect(parseReceipt(changed(receipt, path, value))).to.include({ ok: false, detail });
    });
  }

  it("refuses one kind of statement in the place of another", () => {
    expect(parseReceipt(usageStatement(usage))).to.include({ code: "WrongPredicate" });
    expect(parseUsage(receipt)).to.include({
      code: "WrongPredicate",
      detail: 'predicateType must be https://tessellate.dev/usage/v1, not "https://tessellate.dev/receipt/v1"',
    });
  });

  it("refuses a second spelling: blanks, other key order, the same key twice, another subject", () => {
    const text = textOf(receipt);
    for (const other of [
      ` ${text}`,
      text.replace('"stepCount":3', '"stepCount":3.0'),
      text.replace('"epoch":', '"epoch":1,"epoch":'),
      text.replace("hand-offs-out", "hand-offs-in"),
    ]) {
      expect(parseReceipt(bytesOf(other)), other.slice(0, 60)).to.include({ code: "NotCanonical" });
    }
  });

  it("never throws on junk, and never takes a receipt with a byte changed for the same receipt", () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.uint8Array(), fc.json().map(bytesOf)),
        (junk) => !parseReceipt(junk).ok && !parseUsage(junk).ok,
      ),
    );
    fc.assert(
      fc.property(fc.nat(receipt.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
        const other = receipt.slice();
        other[at] = (other[at] ?? 0) ^ change;
        const read = parseReceipt(other);
        return !read.ok || Buffer.compare(receiptStatement(read.value), other) === 0;
      }),
    );
  });
});
