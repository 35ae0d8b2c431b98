import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { checkOffer } from "../../core/offer.ts";
import { createAuthority } from "../../core/wire/authority.ts";
import { installationOf } from "../../core/wire/tls.ts";
import { readOrMakeKey } from "../signing-key.ts";
import { offerText } from "./node-offer.ts";

describe("tessellate node offer", () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), "tessellate-offer-"));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  it("signs what the operator takes, for as long as was said", async () => {
    const { certificatePem } = await createAuthority();
    const [ca, key] = [join(folder, "ca.crt"), join(folder, "key.pem")];
    writeFileSync(ca, certificatePem);
    const nowMs = Date.parse("2026-01-01T00:00:00Z");
    const text = offerText({ provider: "campus", node: "campus-a1", machine: "m1", key, ca, days: "30" }, nowMs);
    const expected = {
      provider: "campus",
      node: "campus-a1",
      machine: "m1",
      installation: installationOf(certificatePem),
    };
    const { publicKey } = readOrMakeKey(key);
    const checked = checkOffer(text, publicKey, expected, "2026-01-02T00:00:00Z");
    expect(checked.ok && checked.value.validUntil).to.equal("2026-01-31T00:00:00Z");
  });

  it("says what is wrong with its options", () => {
    const ca = join(folder, "no-certificate");
    writeFileSync(ca, "nothing");
    const options = { provider: "campus", node: "a", key: join(folder, "key.pem"), ca, days: "30" };
    expect(() => offerText(options, 0)).to.throw("no certificate");
    expect(() => offerText({ ...options, days: "0" }, 0)).to.throw("--days 0");
  });
});
