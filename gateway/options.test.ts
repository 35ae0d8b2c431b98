import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { valueOrThrow } from "../core/result.ts";
import { openKeyFile } from "./key-file.ts";
import { parseOptions } from "./options.ts";

const NEEDED = ["--tls", "tls", "--key", "key.pem"];

describe("the gateway's command line", () => {
  it("has defaults for all but certificates and key", () => {
    expect(valueOrThrow(parseOptions(NEEDED, undefined))).to.deep.equal({
      listen: { host: "127.0.0.1", port: 8080 },
      control: { host: "127.0.0.1", port: 0 },
      metrics: { host: "127.0.0.1", port: 0 },
      name: "gateway",
      tls: "tls",
      key: "key.pem",
      state: ".tessellate/gateway",
      answers: undefined,
      apiKeys: undefined,
      lingerMs: 0,
    });
  });

  it("reads addresses of every form, and takes the host of the environment before them", () => {
    const at = (listen: string, host?: string) =>
      valueOrThrow(parseOptions([...NEEDED, "--listen", listen], host)).listen;
    expect(at("[::1]:80")).to.deep.equal({ host: "::1", port: 80 });
    expect(at(":81")).to.deep.equal({ host: "0.0.0.0", port: 81 });
    expect(at("0.0.0.0:82", "127.1.2.3")).to.deep.equal({ host: "127.1.2.3", port: 82 });
  });

  for (const [name, args, says] of [
    ["no certificates", ["--key", "k"], /--tls DIR is missing/],
    ["no key", ["--tls", "t"], /--key FILE is missing/],
    ["an address without a port", [...NEEDED, "--listen", "localhost"], /--listen "localhost" must be HOST:PORT/],
    ["a port that is none", [...NEEDED, "--metrics", "x:99999"], /--metrics/],
    ["a name that no statement may hold", [...NEEDED, "--name", "My Gateway"], /--name "My Gateway" must be a name/],
    ["a flag that it does not know", [...NEEDED, "--fast"], /--fast/],
  ] as const) {
    it(`refuses ${name}`, () => {
      const refused = parseOptions(args, undefined);
      expect(refused).to.include({ ok: false, code: "BadOption" });
      expect(refused.ok || refused.detail).to.match(says);
    });
  }
});

describe("the gateway's key file", () => {
  const directory = mkdtempSync(join(tmpdir(), "tessellate-key-"));
  after(() => rmSync(directory, { recursive: true }));

  it("is made once, for the owner alone, and the same ever after", () => {
    const file = join(directory, "deep", "gateway.pem");
    const made = valueOrThrow(openKeyFile(file));
    expect(statSync(file).mode & 0o777).to.equal(0o600);
    expect(valueOrThrow(openKeyFile(file)).publicKey.keyId).to.equal(made.publicKey.keyId);
  });

  it("is never written over, and a broken one is named", () => {
    const file = join(directory, "broken.pem");
    writeFileSync(file, "no key");
    const refused = openKeyFile(file);
    expect(refused).to.include({ ok: false, code: "BadKeyFile" });
    expect(refused.ok || refused.detail).to.contain("broken.pem");
    expect(readFileSync(file, "utf8")).to.equal("no key");
  });
});
