/** Who gets through the door and who does not, over real sockets on loopback. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client, credentials } from "@grpc/grpc-js";
import { expect } from "chai";
import type { Description__Output } from "../gen/proto/tessellate/shard/v1/Description.ts";
import type { Identity } from "../identity.ts";
import { refuse, valueOrThrow } from "../result.ts";
import { type Authority, createAuthority, loadAuthority, writeCertificate } from "./authority.ts";
import { type Door, ask, dial, openDoor } from "./door.ts";
import { answer } from "./peer.ts";
import { loadService } from "./proto.ts";
import { type Tls, openTls, serverCredentials, uriOf } from "./tls.ts";

const RANK: Identity = { kind: "rank", name: "default/assistant-0-0-0" };
const GATEWAY: Identity = { kind: "gateway", name: "gw" };

describe("core/wire", () => {
  let directory: string;
  let authority: Authority;
  let door: Door;
  const opened: Tls[] = [];

  const tlsOf = async (name: string, identity: Identity, from: Authority = authority, days = 30): Promise<Tls> => {
    await writeCertificate(join(directory, name), await from.issue(identity, { ips: ["127.0.0.1"], days }));
    const tls = valueOrThrow(openTls(join(directory, name)));
    opened.push(tls);
    return tls;
  };

  /** One Describe by `tls` of whoever must be `expected`. */
  const describeRank = async (tls: Tls, expected: Identity = RANK, address = door.address) => {
    const client = dial("ShardRuntime", address, tls, expected);
    try {
      return await ask<Description__Output>("the rank", 5_000, (options, callback) =>
        client.Describe({}, options, callback),
      );
    } finally {
      client.close();
    }
  };

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "tessellate-wire-"));
    authority = await createAuthority();
    const tls = await tlsOf("rank", RANK);
    door = await openDoor({
      host: "127.0.0.1",
      port: 0,
      credentials: serverCredentials(tls),
      services: ["ShardRuntime"],
      add: (server) =>
        server.addService(loadService("ShardRuntime").service, {
          Describe: answer(
            (caller) => caller.kind === "gateway",
            (_request, caller) =>
              caller.name === "late" ? refuse("NotServing", "not yet") : { ok: true, value: { rank: caller.name } },
          ),
        }),
    });
  });

  after(async () => {
    await door.close(100);
    for (const tls of opened) tls.close();
    await rm(directory, { recursive: true });
  });

  it("lets a neighbour in and knows its name", async () => {
    const reply = valueOrThrow(await describeRank(await tlsOf("gateway", GATEWAY)));
    expect(reply.rank).to.equal("gw");
  });

  it("carries a refusal's code and words", async () => {
    const reply = await describeRank(await tlsOf("late", { kind: "gateway", name: "late" }));
    expect(reply).to.deep.equal(refuse("NotServing", "not yet"));
  });

  it("refuses one of ours who has no business here", async () => {
    const reply = await describeRank(await tlsOf("ledger", { kind: "ledger", name: "main" }));
    expect(reply).to.include({ ok: false, code: "NotMyNeighbour" });
  });

  it("refuses a server that is not the one dialled", async () => {
    const reply = await describeRank(await tlsOf("gateway", GATEWAY), {
      kind: "rank",
      name: "default/assistant-0-1-0",
    });
    expect(reply).to.include({ ok: false, code: "UnknownIdentity" });
    expect(JSON.stringify(reply)).to.contain("assistant-0-1-0");
  });

  it("refuses a certificate of another authority", async () => {
    const foreign = await tlsOf("foreign", GATEWAY, await createAuthority());
    expect(await describeRank(foreign)).to.include({ ok: false, code: "UnknownIdentity" });
  });

  it("refuses a client whose certificate another authority signed, though it trusts ours", async () => {
    const foreign = await (await createAuthority()).issue(GATEWAY);
    await writeCertificate(join(directory, "mixed"), { ...foreign, caPem: authority.certificatePem });
    const tls = valueOrThrow(openTls(join(directory, "mixed")));
    opened.push(tls);
    const reply = await describeRank(tls);
    expect(reply.ok).to.equal(false);
    expect(reply.ok || reply.code).to.be.oneOf(["UnknownIdentity", "Unreachable"]); // the alert may lose a race with the reset
  });

  it("refuses a client without any certificate", async () => {
    const client = new Client(door.address, credentials.createSsl(Buffer.from(authority.certificatePem)), {
      "grpc.ssl_target_name_override": "tessellate",
    });
    const reply = await ask("the rank", 5_000, (options, callback) =>
      client.makeUnaryRequest(
        "/tessellate.shard.v1.ShardRuntime/Describe",
        () => Buffer.alloc(0),
        (bytes) => bytes,
        {},
        options,
        callback,
      ),
    );
    client.close();
    expect(reply.ok).to.equal(false);
  });

  it("names an expired certificate at start, with its file", async () => {
    await writeCertificate(join(directory, "expired"), await authority.issue(GATEWAY, { days: -1 }));
    const refused = openTls(join(directory, "expired"));
    expect(refused).to.include({ ok: false, code: "ExpiredCertificate" });
    expect(JSON.stringify(refused)).to.contain("tls.crt");
  });

  it("says once when the certificate in use expires", async () => {
    const said: string[] = [];
    await writeCertificate(join(directory, "short"), await authority.issue(GATEWAY, { days: 3 / 86_400 }));
    const tls = valueOrThrow(openTls(join(directory, "short"), (detail) => said.push(detail)));
    opened.push(tls);
    tls.look();
    expect(said).to.deep.equal([]);
    while (said.length === 0) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      tls.look();
    }
    tls.look();
    expect(said).to.have.length(1);
    expect(said[0]).to.contain("tls.crt expired on");
  });

  it("names a missing file, a file of junk and a key of another certificate", async () => {
    expect(openTls(join(directory, "nowhere"))).to.include({ ok: false, code: "UnreadableFile" });
    await writeCertificate(join(directory, "junk"), { ...(await authority.issue(GATEWAY)), certificatePem: "junk" });
    expect(openTls(join(directory, "junk"))).to.include({ ok: false, code: "BadCertificate" });
    const other = await authority.issue(GATEWAY);
    await writeCertificate(join(directory, "swapped"), { ...(await authority.issue(GATEWAY)), keyPem: other.keyPem });
    expect(openTls(join(directory, "swapped"))).to.include({ ok: false, code: "BadCertificate" });
  });

  it("takes up rotated files, and keeps the old ones where the new are broken", async () => {
    const complaints: string[] = [];
    const where = join(directory, "rotated");
    await writeCertificate(where, await authority.issue(GATEWAY));
    const tls = valueOrThrow(openTls(where, (detail) => complaints.push(detail)));
    opened.push(tls);
    await writeCertificate(where, await authority.issue({ kind: "gateway", name: "gw-2" }));
    tls.look();
    expect(tls.identity.name).to.equal("gw-2");
    expect(valueOrThrow(await describeRank(tls)).rank).to.equal("gw-2");
    await writeFile(join(where, "tls.crt"), "half");
    tls.look();
    expect(complaints).to.have.length(1);
    expect(tls.identity.name).to.equal("gw-2");
  });

  it("serves with a rotated certificate without binding again", async () => {
    const where = join(directory, "moving");
    const first = await createAuthority();
    await writeCertificate(where, await first.issue(RANK));
    const tls = valueOrThrow(openTls(where));
    opened.push(tls);
    const moving = await openDoor({
      host: "127.0.0.1",
      port: 0,
      credentials: serverCredentials(tls),
      services: ["ShardRuntime"],
      add: (server) =>
        server.addService(loadService("ShardRuntime").service, {
          Describe: answer(
            () => true,
            () => ({ ok: true, value: {} }),
          ),
        }),
    });
    expect((await describeRank(await tlsOf("gateway", GATEWAY), RANK, moving.address)).ok).to.equal(false);
    await writeCertificate(where, await authority.issue(RANK));
    tls.look();
    expect((await describeRank(await tlsOf("gateway", GATEWAY), RANK, moving.address)).ok).to.equal(true);
    await moving.close(100);
  });

  it("keeps an authority as PEM and goes on with it", async () => {
    const again = await loadAuthority({ certificatePem: authority.certificatePem, keyPem: authority.keyPem });
    expect((await describeRank(await tlsOf("again", GATEWAY, again))).ok).to.equal(true);
  });

  it("is unreachable, and says where, when nobody listens", async () => {
    const reply = await describeRank(await tlsOf("gateway", GATEWAY), RANK, "127.0.0.1:1");
    expect(reply).to.include({ ok: false, code: "Unreachable" });
    expect(JSON.stringify(reply)).to.contain("127.0.0.1:1");
  });

  it("reads exactly one URI from a certificate's names", () => {
    expect(uriOf("DNS:tessellate, URI:spiffe://tessellate.dev/rank/a, IP Address:127.0.0.1")).to.equal(
      "spiffe://tessellate.dev/rank/a",
    );
    expect(uriOf("DNS:tessellate")).to.equal(undefined);
    expect(uriOf("URI:a, URI:b")).to.equal(undefined);
    expect(uriOf('DNS:"x, URI:spiffe://tessellate.dev/rank/a"')).to.equal(undefined);
    expect(uriOf(undefined)).to.equal(undefined);
  });
});
