/** `tessellate verify` on saved answers: whole, changed, and beside other keys. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { aSession, keyNamed } from "../core/session-fixture.ts";
import { tessellate } from "./tessellate-sync.ts";

const session = () => aSession({ price: 150_000_000n, epoch: Math.floor(Date.now() / 3_600_000) });

describe("tessellate verify", function () {
  this.timeout(60_000);
  let directory: string;
  before(() => {
    directory = mkdtempSync(join(tmpdir(), "tessellate-verify-"));
  });
  after(() => rmSync(directory, { recursive: true, force: true }));

  const file = (name: string, content: string | Uint8Array) => {
    writeFileSync(join(directory, name), content);
    return join(directory, name);
  };
  const keysOf = (names: readonly string[], keyName = (name: string) => `provider/${name}`) =>
    names
      .map(
        (name) =>
          `apiVersion: tessellate.dev/v1alpha1\nkind: Provider\nmetadata: {name: ${name}}\nspec: {publicKey: ${keyNamed(keyName(name)).publicKey.spki}}\n`,
      )
      .join("---\n");

  it("says who computed an answer", () => {
    const { stdout, status } = tessellate(
      "verify",
      file("answer.json", session().file),
      "--providers",
      file("keys.yaml", keysOf(["campus", "garage", "studio"])),
    );
    expect(stdout.split("\n")[0]).to.equal(
      "verified: 3 providers, 8 layers, 6 tokens; chain intact; usage countersigned",
    );
    expect(stdout).to.contain("note: the gateway's keys were taken from the file itself");
    expect(status).to.equal(0);
  });

  it("names the receipt that was changed, why it is refused, and who can be blamed", () => {
    const { file: bytes, envelopes } = session();
    const start = Buffer.from(bytes).indexOf(Buffer.from(envelopes[2]?.payload ?? []).toString("base64")) + 700;
    const changed = bytes.map((byte, index) => (index === start ? byte ^ 1 : byte));
    const { stdout, status } = tessellate("verify", file("changed.json", changed));
    expect(status).to.equal(1);
    const why = "the receipt, its signature or that key was changed after signing (BadSignature)";
    expect(stdout.split("\n").slice(0, 2)).to.deep.equal([
      "NOT verified: 1 problem",
      `receipt 2: the signature does not hold under the key of provider/studio; ${why}; blame: whoever handed over this file`,
    ]);
  });

  it("refuses keys that are not the pinned ones, and says what else it cannot use", () => {
    const answer = file("answer.json", session().file);
    expect(
      tessellate(
        "verify",
        answer,
        "--providers",
        file(
          "other.yaml",
          keysOf(["campus", "garage", "studio"], () => "mallory"),
        ),
      ).stdout,
    ).to.contain("KeyMismatch");
    expect(tessellate("verify", answer, "--providers", file("empty.yaml", "")).stderr).to.contain("holds no keys");
    expect(tessellate("verify", answer, "--model", "sha256:x").stderr).to.contain("--model");
    expect(tessellate("verify", join(directory, "nowhere.json")).stderr).to.contain("nowhere.json");
    expect(tessellate("verify", file("response.json", JSON.stringify({ id: "x", tessellate: {} }))).stdout).to.contain(
      "jq .tessellate",
    );
    const json: unknown = JSON.parse(tessellate("verify", answer, "-o", "json").stdout);
    expect(json).to.include({ verified: true, layers: 8, tokens: 6 });
  });
});
