import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { present } from "../../core/assert.ts";
import { aSession, keyNamed } from "../../core/session-fixture.ts";
import { requireOrSkip } from "../../test/requirement.ts";
import { signerKeys } from "./keys.ts";
import { type Signer, maySign, startSigner } from "./signer-server.ts";

/** A well-formed receipt, and whose it is. */
const session = aSession();
const receipt = present(session.receipts[0], "a session has receipts");
const { payload } = present(session.envelopes[0], "every receipt has an envelope");
const own = { provider: receipt.provider, node: receipt.node };

describe("the node's signer", () => {
  let directory: string;
  let signer: Signer;
  before(async () => {
    directory = mkdtempSync(join(tmpdir(), "tessellate-signer-"));
    signer = await startSigner({ ...own, key: keyNamed("campus"), target: `unix:${join(directory, "s.sock")}` });
  });
  after(async () => {
    await signer.close();
    rmSync(directory, { recursive: true, force: true });
  });

  it("signs a receipt of its own provider and node, so that the signature holds", async () => {
    const keys = signerKeys(signer.address, own);
    const signed = await keys.sign(payload);
    keys.close();
    expect(signed.ok).to.equal(true);
  });

  it("lets only owner and group at its socket", () => {
    expect(statSync(join(directory, "s.sock")).mode & 0o777).to.equal(0o660);
  });

  it("gives its socket to the group that ranks run in", async function () {
    if (process.getuid?.() !== 0) requireOrSkip(this, "only root may give files to groups that it is not in");
    const path = join(directory, "group.sock");
    const shared = await startSigner({ ...own, key: keyNamed("campus"), target: `unix:${path}`, groupId: 65532 });
    expect(statSync(path)).to.include({ uid: 0, gid: 65532 });
    await shared.close();
  });

  it("keeps its socket from a second signer, which says so", async () => {
    const second = await startSigner({ ...own, key: keyNamed("campus"), target: signer.address }).then(
      () => "it started",
      (error: unknown) => (error instanceof Error ? error.message : ""),
    );
    expect(second).to.contain("another signer is there");
    const keys = signerKeys(signer.address, own);
    expect((await keys.sign(payload)).ok).to.equal(true);
    keys.close();
  });

  it("says where a socket's path is too long", async () => {
    const target = `unix:/tmp/${"x".repeat(120)}.sock`;
    const refused = await startSigner({ ...own, key: keyNamed("campus"), target }).catch((error: unknown) =>
      String(error),
    );
    expect(refused).to.contain("at most 107 bytes");
  });

  it("refuses a rank that takes it for another node's signer", async () => {
    const keys = signerKeys(signer.address, { ...own, node: "elsewhere" });
    const found = await keys.identify();
    keys.close();
    expect(found.ok ? "" : found.code).to.equal("SignerMismatch");
  });

  it("says where it looked when no signer is there", async () => {
    const keys = signerKeys(`unix:${join(directory, "nobody.sock")}`, own);
    const found = await keys.identify();
    keys.close();
    expect(found.ok ? "" : found.detail).to.contain("nobody.sock");
  });

  const refusals: readonly (readonly [string, { provider: string; node: string }, string, Uint8Array, string])[] = [
    ["another provider's receipt", { ...own, provider: "mallory" }, "application/vnd.in-toto+json", payload, "NotMine"],
    ["another node's receipt", { ...own, node: "other" }, "application/vnd.in-toto+json", payload, "NotMine"],
    ["another kind of payload", own, "text/plain", payload, "WrongPayloadType"],
  ];
  for (const [name, who, type, bytes, code] of refusals) {
    it(`refuses ${name}`, () => {
      const may = maySign(who, type, bytes);
      expect(may.ok ? "" : may.code).to.equal(code);
    });
  }

  it("refuses what is no receipt", () => {
    expect(maySign(own, "application/vnd.in-toto+json", Buffer.from('{"pay":"me"}')).ok).to.equal(false);
  });
});
