import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { parse } from "yaml";
import { providerResource, providerSchema } from "../../core/gen/crds/provider.ts";
import { objectProblems } from "../../core/schema.ts";
import { tessellate } from "../../test/tessellate.ts";

describe("tessellate provider", () => {
  const directory = mkdtempSync(join(tmpdir(), "tessellate-provider-"));
  after(() => rmSync(directory, { recursive: true, force: true }));
  const key = join(directory, "machine", "key.pem");
  const run = (...args: string[]) => tessellate(["provider", ...args]);

  it("makes a key once, readable by its owner alone, and shows its public half in every form", async () => {
    const { stdout } = await run("campus", "--key", key, "-o", "json");
    expect(statSync(key).mode & 0o777).to.equal(0o600);
    const pem = readFileSync(key, "utf8");
    const { publicKey } = JSON.parse(stdout);
    const provider = parse((await run("campus", "--key", key, "-o", "yaml")).stdout);
    expect(provider).to.deep.include({ kind: "Provider", metadata: { name: "campus" }, spec: { publicKey } });
    expect(objectProblems(providerResource, providerSchema, provider)).to.deep.equal([]);
    const text = (await run("campus", "--key", key)).stdout;
    expect(text).to.contain(`kubectl patch provider campus --type=merge -p '{"spec":{"publicKey":"${publicKey}"}}'`);
    expect(readFileSync(key, "utf8")).to.equal(pem);
    expect(text).not.to.contain(pem.split("\n")[1]);
  });

  it("refuses names that a cluster would refuse, unknown forms, and files that hold no key", async () => {
    writeFileSync(join(directory, "no-key"), "not a key");
    const cases: readonly (readonly [readonly string[], RegExp])[] = [
      [["Campus", "--key", key], /Campus: use at most 63 lower-case letters.*\(BadName\)/],
      [["campus", "--key", key, "-o", "xml"], /-o xml: choose text, yaml or json \(BadOption\)/],
      [["campus", "--key", join(directory, "no-key")], /no-key is no PKCS #8 PEM \(MalformedKey\)/],
    ];
    for (const [args, complaint] of cases) {
      const { code, stderr } = await run(...args);
      expect(stderr).to.match(complaint);
      expect(code).to.equal(1);
    }
  });
});
