import { expect } from "chai";
import fc from "fast-check";
import { sha256, digestText } from "./digest.ts";
import { EdgeLog, leafHash, tokenBytes, tokenEdgeRoot } from "./hand-off.ts";

const nonce = new Uint8Array(32).fill(7);

describe("hand-offs", () => {
  it("hashes a leaf as 0x00, nonce, edge, position, rows, payload, integers little-endian", () => {
    const spelled = Buffer.concat([
      Buffer.of(0),
      nonce,
      Buffer.of(2, 0, 0, 0),
      Buffer.of(0, 1, 0, 0),
      Buffer.of(3, 0, 0, 0),
      Buffer.from("rows"),
    ]);
    expect(leafHash({ nonce, edge: 2, position: 256, rows: 3, payload: Buffer.from("rows") })).to.deep.equal(
      sha256(spelled),
    );
  });

  it("changes with every part of what was handed off", () => {
    const base = { nonce, edge: 1, position: 2, rows: 3, payload: Uint8Array.of(4) };
    const others = [
      { ...base, nonce: new Uint8Array(32) },
      { ...base, edge: 2 },
      { ...base, position: 3 },
      { ...base, rows: 4 },
      { ...base, payload: Uint8Array.of(5) },
    ];
    const hashes = [base, ...others].map((handOff) => digestText(leafHash(handOff)));
    expect(new Set(hashes).size).to.equal(hashes.length);
  });

  it("gives token edges a root that does not depend on how the prompt was cut", () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(2 ** 32 - 1), { minLength: 1, maxLength: 40 }),
        fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 40, maxLength: 40 }),
        (ids, cuts) => {
          const log = new EdgeLog(nonce, 0);
          let position = 0;
          for (const cut of cuts) {
            const chunk = ids.slice(position, position + cut);
            log.appendTokens(position, tokenBytes(chunk));
            position += chunk.length;
          }
          expect(log.root()).to.equal(tokenEdgeRoot({ nonce, edge: 0, position: 0 }, ids));
          expect(log.end).to.equal(ids.length);
        },
      ),
    );
  });

  it("goes on only where it stopped", () => {
    const log = new EdgeLog(nonce, 3);
    log.append({ position: 5, rows: 2, payload: Uint8Array.of(1) });
    expect(() => log.append({ position: 6, rows: 1, payload: Uint8Array.of(1) })).to.throw(
      "an edge goes on at position 7, not 6",
    );
    log.append({ position: 7, rows: 1, payload: Uint8Array.of(2) });
    expect([log.start, log.end, log.positionCount, log.leafCount]).to.deep.equal([5, 8, 3, 2]);
  });

  it("has RFC 6962's root of nothing while nothing was handed off", () => {
    expect(new EdgeLog(nonce, 0).root()).to.equal(
      "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    );
  });
});
