import { expect } from "chai";
import { IN_TOTO_PAYLOAD_TYPE, envelopeBytes, signEnvelope } from "../../core/dsse.ts";
import type { ShardNode } from "../../core/gen/crds/shardnode.ts";
import { offerStatement } from "../../core/offer.ts";
import { keyNamed } from "../../core/session-fixture.ts";
import { StoppedClock } from "../clock.ts";
import { asProvider } from "./observe.ts";
import { Offers, SILENT_MS, agentKey } from "./offers.ts";

const INSTALLATION = `sha256:${"7".repeat(64)}`;
const campus = keyNamed("campus");
const provider = asProvider({ metadata: { name: "campus" }, spec: { publicKey: campus.publicKey.spki } });

const nodeWith = (offer?: string) =>
  ({
    metadata: { name: "campus-a1" },
    spec: { provider: "campus", nodeName: "m1" },
    status: offer === undefined ? {} : { offer },
  }) as unknown as ShardNode;
const offerUntil = (validUntil: string, key = campus) => {
  const offer = { provider: "campus", node: "campus-a1", machine: "m1", installation: INSTALLATION, validUntil };
  const envelope = signEnvelope(IN_TOTO_PAYLOAD_TYPE, offerStatement(offer), key);
  return new TextDecoder().decode(envelopeBytes(envelope));
};

describe("whether a node counts", () => {
  const offersThat = (required: boolean) => {
    const clock = new StoppedClock("2026-01-01T00:00:00Z");
    const offers = new Offers({ clock, required });
    offers.installation = INSTALLATION;
    return { clock, offers };
  };

  it("asks for no signature where none is required", () => {
    expect(offersThat(false).offers.whyNot(nodeWith(), provider)).to.equal(undefined);
  });

  it("asks its provider's signature, until it ends", () => {
    const { clock, offers } = offersThat(true);
    const why = (offer?: string) => offers.whyNot(nodeWith(offer), provider)?.code;
    expect(why()).to.equal("NotSigned");
    const offer = offerUntil("2026-01-02T00:00:00Z");
    expect(why(offer)).to.equal(undefined);
    expect(why(offerUntil("2026-01-02T00:00:00Z", keyNamed("garage")))).to.equal("OfferNotSigned");
    expect(why(offer)).to.equal(undefined);
    clock.advance(86_400_000 + 1_000);
    expect(why(offer)).to.equal("OfferExpired");
  });

  it("asks that an agent which is there answers, and no other", () => {
    const { clock, offers } = offersThat(false);
    const why = () => offers.whyNot(nodeWith(), provider)?.code;
    offers.expect(new Set([agentKey("campus", "m1"), agentKey("garage", "m2")]));
    clock.advance(SILENT_MS);
    expect(why()).to.equal(undefined);
    clock.advance(1);
    expect(why()).to.equal("AgentSilent");
    offers.heard(agentKey("campus", "m1"));
    expect(why()).to.equal(undefined);
    clock.advance(SILENT_MS + 1);
    offers.expect(new Set([agentKey("garage", "m2")]));
    expect(why()).to.equal(undefined);
  });
});
