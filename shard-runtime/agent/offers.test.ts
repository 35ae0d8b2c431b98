import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { checkOffer } from "../../core/offer.ts";
import { valueOrThrow } from "../../core/result.ts";
import { keyNamed } from "../../core/session-fixture.ts";
import { createAuthority } from "../../core/wire/authority.ts";
import { installationOf, tlsFilesIn } from "../../core/wire/tls.ts";
import { type Keys, heldKeys } from "../attest/keys.ts";
import { offerBook } from "./offers.ts";

const DAY_MS = 86_400_000;
const START_MS = Date.parse("2026-01-01T00:00:00Z");

describe("a node agent's offers", () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), "tessellate-offers-"));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  it("are signed once, and anew when half their time is over, the key is another, or the authority is", async () => {
    const files = tlsFilesIn(folder);
    let wallMs = START_MS;
    let key = keyNamed("campus");
    let signedCount = 0;
    const keys: Keys = {
      identify: () => heldKeys(key).identify(),
      sign: (payload) => {
        signedCount += 1;
        return heldKeys(key).sign(payload);
      },
      close: () => {},
    };
    const book = offerBook({ provider: "campus", machine: "m1", tls: { files }, keys, wallMs: () => wallMs });
    const offered = async () => {
      const text = valueOrThrow(await book.of("a1")).toString();
      const here = { provider: "campus", node: "a1", machine: "m1", installation: installationOf(certificatePem) };
      return checkOffer(text, key.publicKey, here, new Date(wallMs).toISOString()).ok;
    };
    let { certificatePem } = await createAuthority();
    writeFileSync(files.caFile, certificatePem);
    expect([await offered(), await offered(), signedCount]).to.deep.equal([true, true, 1]);
    wallMs += 14 * DAY_MS;
    expect([await offered(), signedCount]).to.deep.equal([true, 1]);
    wallMs += 2 * DAY_MS;
    expect([await offered(), signedCount]).to.deep.equal([true, 2]);
    key = keyNamed("campus anew");
    expect([await offered(), signedCount]).to.deep.equal([true, 3]);
    ({ certificatePem } = await createAuthority());
    writeFileSync(files.caFile, certificatePem);
    expect([await offered(), signedCount]).to.deep.equal([true, 4]);
  });
});
