/** A node agent and its signer as processes, looked at by the operator's own code and asked for signatures by ranks. */
import { generateKeyPairSync } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { present } from "../core/assert.ts";
import type { ShardNode, ShardNodeStatus } from "../core/gen/crds/shardnode.ts";
import { AGENT, OPERATOR, nodeDnsName } from "../core/identity.ts";
import { isJsonObject, parseJson } from "../core/json.ts";
import { aSession } from "../core/session-fixture.ts";
import { type Authority, createAuthority, writeCertificate } from "../core/wire/authority.ts";
import { type Tls, installationOf, openTls } from "../core/wire/tls.ts";
import { valueOrThrow } from "../core/result.ts";
import { asProvider } from "../operator/apply/observe.ts";
import { Offers, SILENT_MS } from "../operator/apply/offers.ts";
import { systemClock } from "../operator/clock.ts";
import { type AgentPod, Agents } from "../operator/control/agents.ts";
import { signerKeys } from "../shard-runtime/attest/keys.ts";
import { type Child, startChild } from "./cluster/child.ts";
import { REPOSITORY } from "./cluster/container-process.ts";
import { until } from "./until.ts";

const receipt = present(aSession().receipts[0], "a session has receipts");
const { payload } = present(aSession().envelopes[0], "every receipt has an envelope");
const { provider, node, rank } = receipt;

describe("a node agent", function () {
  this.timeout(60_000);
  let folder: string;
  let authority: Authority;
  let signer: Child;
  let agent: Child;
  let address: string;
  let publicKey: string;
  let operatorTls: Tls;

  const start = (name: string, script: string, args: readonly string[]): Child =>
    startChild({
      path: process.execPath,
      args: [join(REPOSITORY, script), ...args],
      environment: { PATH: process.env["PATH"] ?? "", HOME: folder },
      logFile: join(folder, `${name}.log`),
      folder,
    });
  const said = async (child: Child, name: string, key: string): Promise<string> => {
    let value: unknown;
    await until(`${name} to listen`, () => {
      const line = readFileSync(join(folder, `${name}.log`), "utf8").split("\n")[0] ?? "";
      const told = parseJson(line);
      value = isJsonObject(told) ? told[key] : undefined;
      if (!child.running) throw new Error(`${name} ended: ${readFileSync(join(folder, `${name}.log`), "utf8")}`);
      return value !== undefined;
    });
    return String(value);
  };
  const tlsFor = async (name: string, ...issue: Parameters<Authority["issue"]>): Promise<Tls> => {
    await writeCertificate(join(folder, name), await authority.issue(...issue));
    return valueOrThrow(openTls(join(folder, name)));
  };

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "tessellate-agent-"));
    authority = await createAuthority();
    mkdirSync(join(folder, "key"));
    const { privateKey } = generateKeyPairSync("ed25519");
    const key = join(folder, "key", "key");
    writeFileSync(key, privateKey.export({ format: "pem", type: "pkcs8" }));
    const socket = join(folder, "s.sock");
    signer = start("signer", "shard-runtime/attest/main.ts", [
      "--provider",
      provider,
      "--key",
      key,
      "--socket",
      socket,
    ]);
    publicKey = await said(signer, "signer", "publicKey");
    (await tlsFor("agent-tls", AGENT)).close();
    operatorTls = await tlsFor("operator-tls", OPERATOR);
    const who = ["--provider", provider, "--machine", "m1", "--signer", `unix:${socket}`];
    const where = ["--tls", join(folder, "agent-tls"), "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"];
    const how = ["--cache", join(folder, "cache"), "--busy-max", "1", "--no-layers"];
    agent = start("agent", "shard-runtime/agent/main.ts", [...who, ...where, ...how]);
    address = await said(agent, "agent", "address");
  });
  after(async () => {
    operatorTls?.close();
    await Promise.all([signer?.stop(5_000), agent?.stop(5_000)]);
    rmSync(folder, { recursive: true, force: true });
  });

  /** The operator's half, over one node whose status is kept here. */
  function look(pod: Partial<AgentPod> = {}, required = true) {
    let status: ShardNodeStatus = {};
    const writes: ShardNodeStatus[] = [];
    const troubles: unknown[] = [];
    const offers = new Offers({ clock: systemClock(), required });
    offers.installation = installationOf(authority.certificatePem);
    const spec = { provider, nodeName: "m1", device: "cpu", threads: 1, memory: { freeBytes: 1 } };
    const nodeNow = () => ({ metadata: { name: node }, spec, status }) as unknown as ShardNode;
    const agents = new Agents({
      clock: systemClock(),
      tls: operatorTls,
      offers,
      pods: () => [{ name: "agent-1", provider, machine: "m1", address, ...pod }],
      nodes: () => [nodeNow()],
      write: (_, found) => {
        writes.push(found);
        status = { ...status, ...found };
        return Promise.resolve();
      },
      onTurned: () => {},
      log: (_, fields) => void troubles.push(fields?.["detail"]),
    });
    const stop = new AbortController();
    const done = agents.run(stop.signal);
    const whyNot = () =>
      offers.whyNot(nodeNow(), asProvider({ metadata: { name: provider }, spec: { publicKey } }))?.code;
    const end = async () => {
      stop.abort();
      await done;
    };
    return { writes, troubles, offers, whyNot, status: () => status, stop: end };
  }

  it("has its node counted by the provider's signature, and measured; then nothing is written any more", async () => {
    const looking = look();
    expect(looking.whyNot()).to.equal("NotSigned");
    await until("the offer", () => looking.whyNot() === undefined);
    await until("the memory's bandwidth", () => looking.status().measured?.memoryBytesPerSecond !== undefined);
    expect(looking.status().devices?.[0]).to.include({ kind: "cpu" });
    expect([...looking.offers.silences().values()].every((ms) => ms < SILENT_MS)).to.equal(true);
    await looking.stop();
    expect(looking.writes.length).to.be.within(1, 2);
    const again = look();
    await until("the offer again", () => again.whyNot() === undefined && again.status().measured !== undefined);
    await again.stop();
    const timeless = ({ measured, ...status }: ShardNodeStatus) => ({ ...status, measured: { ...measured, time: "" } });
    const measuredMs = ({ measured }: ShardNodeStatus) => Date.parse(measured?.time ?? "");
    expect(timeless(again.status())).to.deep.equal(timeless(looking.status()));
    // An age on the agent's monotonic clock, told as a time of whole seconds.
    expect(measuredMs(again.status())).to.be.closeTo(measuredMs(looking.status()), 1_000);
    expect(again.writes).to.have.length(1);
  });

  it("is not believed where it says that it is another's", async () => {
    const looking = look({ machine: "m2" });
    await until("its answer", () => looking.troubles.length > 0);
    await looking.stop();
    expect(looking.troubles[0]).to.contain("on m1");
    expect(looking.writes).to.deep.equal([]);
  });

  it("has a rank's receipt signed that its certificate fits, and no other", async () => {
    const signedFor = async (name: string, dns: readonly string[]) => {
      const tls = await tlsFor(`rank-${dns.length}-${name.length}`, { kind: "rank", name }, { dns });
      const keys = signerKeys(`mtls:${address}`, { provider, node }, tls);
      const signed = await keys.sign(payload);
      keys.close();
      tls.close();
      return signed.ok ? "signed" : signed.code;
    };
    expect(await signedFor(rank, [nodeDnsName(node)])).to.equal("signed");
    expect(await signedFor(`${rank}0`, [nodeDnsName(node)])).to.equal("NotMine");
    expect(await signedFor(rank, [nodeDnsName(`${node}0`)])).to.equal("SignerMismatch");
    expect(await signedFor(rank, [])).to.equal("NotMine");
  });
});
