/** What the operator knows of requests, from gateways that speak, fall silent, break off and go; over real gRPC. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import type { DemandReport } from "../../core/gen/proto/tessellate/control/v1/DemandReport.ts";
import { GATEWAY, OPERATOR } from "../../core/identity.ts";
import { valueOrThrow } from "../../core/result.ts";
import { createAuthority, writeCertificate } from "../../core/wire/authority.ts";
import { type Door, openDoor } from "../../core/wire/door.ts";
import { stream } from "../../core/wire/peer.ts";
import { loadService } from "../../core/wire/proto.ts";
import { type Tls, openTls, serverCredentials } from "../../core/wire/tls.ts";
import { systemClock } from "../clock.ts";
import { DemandWatch } from "./demand.ts";

type Call = { write(report: DemandReport): unknown; end(): unknown };
/** A gateway's door: each call of Demand, as it comes. */
type Gateway = { readonly door: Door; readonly calls: Call[] };

const KEY = "models/reader";
const about = (set: object = {}) => ({
  models: [
    { namespace: "models", name: "reader", waitingCount: 0, sessionCount: 0, idleSeconds: 0, asleep: false, ...set },
  ],
});

describe("what is asked of models", function () {
  this.timeout(30_000);
  let directory: string;
  let tls: Record<"gateway" | "operator", Tls>;
  let skippedMs = 0;
  const doors: Door[] = [];
  const changes: string[] = [];
  const troubles: string[] = [];
  let watch: DemandWatch;
  const clock = { ...systemClock(), monotonicMs: () => performance.now() + skippedMs };

  const aGateway = async (): Promise<Gateway> => {
    const calls: Call[] = [];
    const door = await openDoor({
      host: "127.0.0.1",
      port: 0,
      credentials: serverCredentials(tls.gateway),
      services: ["Control"],
      add: (server) =>
        server.addService(loadService("Control").service, {
          Demand: stream<object, DemandReport>(
            ({ kind }) => kind === "operator",
            (call) => void calls.push(call),
          ),
        }),
    });
    doors.push(door);
    return { door, calls };
  };
  const component = ({ door }: Gateway) => ({ name: `gateway-${door.port}`, address: door.address });
  const until = async (holds: () => boolean) => {
    while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5));
  };

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "tessellate-demand-"));
    const authority = await createAuthority();
    const open = async (identity: typeof GATEWAY) => {
      const where = join(directory, identity.kind);
      await writeCertificate(where, await authority.issue(identity, { ips: ["127.0.0.1"] }));
      return valueOrThrow(openTls(where));
    };
    tls = { gateway: await open(GATEWAY), operator: await open(OPERATOR) };
  });
  after(async () => {
    tls.gateway.close();
    tls.operator.close();
    await rm(directory, { recursive: true });
  });
  beforeEach(() => {
    skippedMs = 0;
    changes.length = 0;
    troubles.length = 0;
    watch = new DemandWatch({
      clock,
      tls: tls.operator,
      idleOf: () => ({ afterSeconds: 60, wakeTimeoutSeconds: 600 }),
      onChange: (key) => void changes.push(key),
      onTrouble: (detail) => void troubles.push(detail),
    });
  });
  afterEach(async () => {
    watch.close();
    await Promise.all(doors.splice(0).map((door) => door.close(10)));
  });

  it("is known of every gateway, and told where it is news", async () => {
    const [one, two] = [await aGateway(), await aGateway()];
    expect(watch.of(KEY), "before anybody was looked for").to.deep.equal([undefined]);
    watch.follow([component(one), component(two)]);
    await until(() => one.calls.length + two.calls.length === 2);
    expect(watch.of(KEY)).to.deep.equal([undefined, undefined]);
    one.calls[0]?.write(about({ idleSeconds: 70 }));
    await until(() => watch.of(KEY)[0] !== undefined);
    expect(watch.of(KEY)).to.deep.equal([
      { waitingCount: 0, sessionCount: 0, idleSeconds: 70, asleep: false },
      undefined,
    ]);
    const before = changes.length;
    two.calls[0]?.write(about({ idleSeconds: 61 }));
    await until(() => changes.length > before); // all are idle now
    const known = changes.length;
    two.calls[0]?.write(about({ idleSeconds: 66 }));
    await until(() => watch.of(KEY)[1]?.idleSeconds === 66);
    expect(changes.length, "no news").to.equal(known);
    two.calls[0]?.write(about({ waitingCount: 1 }));
    await until(() => changes.length === known + 1);
  });

  it("is not known of one that is silent", async () => {
    const one = await aGateway();
    watch.follow([component(one)]);
    await until(() => one.calls.length === 1);
    one.calls[0]?.write(about());
    await until(() => watch.of(KEY)[0] !== undefined);
    skippedMs = 20_500;
    expect(watch.of(KEY)).to.deep.equal([undefined]);
  });

  it("is asked anew of one that breaks off, and that is said once", async () => {
    const one = await aGateway();
    watch.follow([component(one)]);
    await until(() => one.calls.length === 1);
    one.calls[0]?.write(about());
    await until(() => watch.of(KEY)[0] !== undefined);
    one.calls[0]?.end();
    await until(() => watch.of(KEY)[0] === undefined);
    await until(() => one.calls.length === 2);
    one.calls[1]?.write(about({ sessionCount: 1 }));
    await until(() => watch.of(KEY)[0]?.sessionCount === 1);
    expect(troubles).to.have.length(1);
  });

  it("is known of one that is about to go until its call ends: answers may be under way", async () => {
    const one = await aGateway();
    watch.follow([component(one)]);
    await until(() => one.calls.length === 1);
    one.calls[0]?.write(about({ sessionCount: 2 }));
    await until(() => watch.of(KEY)[0] !== undefined);
    watch.follow([]);
    expect(watch.of(KEY)[0]).to.include({ sessionCount: 2 });
    one.calls[0]?.end();
    await until(() => watch.of(KEY).length === 0);
    expect([one.calls.length, troubles]).to.deep.equal([1, []]);
  });
});
