import { expect } from "chai";
import { IN_TOTO_PAYLOAD_TYPE, envelopeBytes, signEnvelope } from "./dsse.ts";
import { type Offer, checkOffer, offerStatement, parseOffer } from "./offer.ts";
import { aSession, keyNamed } from "./session-fixture.ts";

const OFFER: Offer = {
  provider: "campus",
  node: "campus-a1",
  machine: "a1.campus.example",
  installation: `sha256:${"7".repeat(64)}`,
  validUntil: "2026-03-01T00:00:00Z",
};
const NOW = "2026-02-01T00:00:00.000Z";
const campus = keyNamed("campus");
const signed = (payload: Uint8Array, key = campus) =>
  new TextDecoder().decode(envelopeBytes(signEnvelope(IN_TOTO_PAYLOAD_TYPE, payload, key)));
const { validUntil: _, ...expected } = OFFER;

describe("a provider's offer of a node", () => {
  it("is read as it was written", () => {
    expect(parseOffer(offerStatement(OFFER))).to.deep.equal({ ok: true, value: OFFER });
  });

  it("holds where it was made for, until it ends", () => {
    expect(checkOffer(signed(offerStatement(OFFER)), campus.publicKey, expected, NOW)).to.include({ ok: true });
  });

  const refused: readonly (readonly [string, string, Partial<typeof expected>, string, string])[] = [
    ["by another's key", signed(offerStatement(OFFER), keyNamed("garage")), {}, NOW, "OfferNotSigned"],
    ["for another node", signed(offerStatement(OFFER)), { node: "campus-a2" }, NOW, "OfferElsewhere"],
    ["for another machine", signed(offerStatement(OFFER)), { machine: "a2" }, NOW, "OfferElsewhere"],
    ["to another installation", signed(offerStatement(OFFER)), { installation: "sha256:other" }, NOW, "OfferElsewhere"],
    ["of another provider", signed(offerStatement(OFFER)), { provider: "garage" }, NOW, "OfferElsewhere"],
    ["that has ended", signed(offerStatement(OFFER)), {}, "2026-03-01T00:00:01.000Z", "OfferExpired"],
    ["that is no envelope", "{}", {}, NOW, "OfferMalformed"],
    ["that is a receipt", signed(aSession().envelopes[0]?.payload ?? new Uint8Array()), {}, NOW, "OfferMalformed"],
  ];
  for (const [what, text, other, now, code] of refused) {
    it(`is refused ${what}`, () => {
      const checked = checkOffer(text, campus.publicKey, { ...expected, ...other }, now);
      expect(checked.ok ? "" : checked.code).to.equal(code);
    });
  }
});
