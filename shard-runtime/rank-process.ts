/** What a rank's process does from its command line to its end; see main.ts. */
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import type { RankConfig } from "../core/rank-config.ts";
import { type Result, refuse } from "../core/result.ts";
import { systemClock } from "../core/wire/clock.ts";
import { hostPort, openDoor } from "../core/wire/door.ts";
import { lifetime } from "../core/wire/lifetime.ts";
import { loadService } from "../core/wire/proto.ts";
import { openStatusServer } from "../core/wire/status-server.ts";
import { openTls, serverCredentials } from "../core/wire/tls.ts";
import { signerKeys } from "./attest/keys.ts";
import { Metrics } from "./metrics.ts";
import { parseRankConfig } from "./parse-config.ts";
import { Rank, causesOf } from "./rank.ts";
import { rankHandlers } from "./transport/rank-service.ts";

const GRACE_MS = 1_000;

const log = (event: string, fields: Readonly<Record<string, unknown>> = {}): void =>
  void process.stderr.write(`${JSON.stringify({ time: new Date().toISOString(), event, ...fields })}\n`);

function fail(code: string, detail: string): never {
  log("fatal", { code, detail });
  process.exit(1);
}

function readConfig(): Result<RankConfig> {
  const { config: file } = parseArgs({ options: { config: { type: "string" } } }).values;
  if (file === undefined) return refuse("BadOption", "say --config FILE");
  try {
    const config = parseRankConfig(readFileSync(file, "utf8"));
    return config.ok ? config : refuse(config.code, `${file}: ${config.detail}`);
  } catch (error) {
    return refuse("UnreadableFile", `cannot read ${file}: ${causesOf(error)}`);
  }
}

const ended = lifetime();
const config = readConfig();
if (!config.ok) fail(config.code, config.detail);
const tls = openTls(config.value.tls, (detail) => log("certificate-refused", { detail }));
if (!tls.ok) fail(tls.code, tls.detail);

const { listen, name, provider, node, signer } = config.value;
const host = process.env["TESSELLATE_LISTEN_HOST"] ?? listen.host;
const metrics: Metrics = new Metrics({
  slots: () => rank.slots,
  fetchedBytes: () => rank.fetchedBytes,
  fromFellows: () => rank.fromFellows,
  serving: () => rank.stage === "Serving",
});
const rank: Rank = new Rank(config.value, {
  clock: systemClock,
  tls: tls.value,
  keys: signerKeys(signer, { provider, node }, tls.value),
  meters: metrics,
  log: (event, fields) => log(event, { rank: name, ...fields }),
  onServing: (serving) => door.setServing(serving),
  onEnded: (error) => fail("EngineEnded", causesOf(error)),
});
const door = await openDoor({
  host,
  port: listen.port,
  credentials: serverCredentials(tls.value),
  services: ["ShardRuntime"],
  add: (server) => server.addService(loadService("ShardRuntime").service, rankHandlers(rank)),
}).catch((error: unknown) => fail("CannotListen", causesOf(error)));
const status = await openStatusServer({
  host,
  port: listen.metricsPort,
  registry: metrics.registry,
  unready: () => rank.unready(),
  progress: () => rank.progress(),
}).catch((error: unknown) => fail("CannotListen", causesOf(error)));
process.stdout.write(
  `${JSON.stringify({ event: "listening", address: door.address, metricsAddress: hostPort(host, status.port) })}\n`,
);

const loading = rank.load();
const why = await ended;
log("draining", { rank: name, why });
await rank.drain();
await loading;
await Promise.all([door.close(GRACE_MS), status.close()]);
tls.value.close();
process.exit(0);
