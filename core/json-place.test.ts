import { expect } from "chai";
import fc from "fast-check";
import { departure, placeIn, syntaxErrorAt } from "./json-place.ts";

const bytesOf = (text: string) => new TextEncoder().encode(text);

const parses = (text: string): boolean => {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
};

describe("places in JSON", () => {
  it("runs through whatever JSON.parse takes, and ends within whatever it does not", () => {
    const spoilt = fc
      .tuple(
        fc.json(),
        fc.nat(),
        fc.constantFrom('"', "{", "}", "[", "]", ",", ":", "\\", "0", "-", "e", "t", " ", "\u0001", ""),
      )
      .map(([text, at, put]) => text.slice(0, at % (text.length + 1)) + put + text.slice((at % (text.length + 1)) + 1));
    fc.assert(
      fc.property(fc.oneof(fc.json(), spoilt, fc.string()), (text) => {
        const at = syntaxErrorAt(text);
        if (parses(text)) expect(at).to.equal(text.length);
        else if (at < text.length)
          expect(parses(`${text.slice(0, at)}`) && text.slice(at).trim() === "", JSON.stringify(text)).to.equal(false);
      }),
      { numRuns: 2000 },
    );
  });

  const table: readonly (readonly [string, string, string])[] = [
    ['{"a": [1, {"b": 22}]}', "22", "a[1].b"],
    ['{"a": "x,}]", "b": 7}', "7", "b"],
    ['{"a": "\\"", "b": 7}', "7", "b"],
    ['{"receipts": [{"payload": "AA"}, {"payload": "BB"}]}', "BB", "receipts[1].payload"],
    ['{"receipts": [{"payload": "A', "A", "receipts[0].payload"],
    ["[1, 2", "2", "[1]"],
    ["7", "7", "the document"],
  ];
  for (const [text, at, place] of table)
    it(`finds ${place} in ${text}`, () => expect(placeIn(bytesOf(text), text.indexOf(at))).to.equal(place));

  it("knows the usual spellings, and how far any other follows one of them", () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.constantFrom(0, 1, 2, 4, "\t"), (value, indent) => {
        const text = JSON.stringify(value, null, indent);
        expect(departure(bytesOf(text), value)).to.equal(-1);
        expect(departure(bytesOf(`${text}\n`), value)).to.equal(-1);
        expect(departure(bytesOf(`${text}\n\n`), value)).to.equal(bytesOf(text).length + 1);
      }),
    );
  });
});
