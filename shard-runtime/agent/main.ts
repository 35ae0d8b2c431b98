/**
 * The node agent: one on every machine of a provider. Finds and measures what the machine has while it is idle, answers
 * the operator, stands before the signer for the ranks of its node. It has no rights in the cluster, and holds no key of
 * the provider's.
 */
import { parseArgs } from "node:util";
import type { Identity } from "../../core/identity.ts";
import { systemClock } from "../../core/wire/clock.ts";
import { openDoor } from "../../core/wire/door.ts";
import { lifetime } from "../../core/wire/lifetime.ts";
import { loadService } from "../../core/wire/proto.ts";
import { openStatusServer } from "../../core/wire/status-server.ts";
import { type Tls, openTls, serverCredentials } from "../../core/wire/tls.ts";
import { signerKeys } from "../attest/keys.ts";
import { type AgentOptions, agentHandlers, signerHandlers } from "./agent-door.ts";
import { findDevices } from "./devices.ts";
import { busyShare, driversGpus, measureLink, measureMachine } from "./machine.ts";
import { Measuring } from "./measuring.ts";
import { AgentMetrics } from "./metrics.ts";
import { offerBook } from "./offers.ts";

const USAGE = `node shard-runtime/agent/main.ts --provider NAME --machine NAME --listen HOST:PORT --metrics HOST:PORT
  --provider    whose machine this is
  --machine     its name in the cluster
  --signer      where the provider's signer listens (default: unix:/run/tessellate/signer.sock)
  --tls         folder with ca.crt, tls.crt and tls.key, as the operator makes them
  --listen      for the operator, ranks of this node and other agents
  --metrics     where /healthz, /readyz and /metrics answer
  --cache       folder for the layers to measure with (default: /var/cache/tessellate-agent)
  --busy-max    share of the processors' time above which the machine is not measured (default: 0.2)
  --no-layers   measure memory and links, and no layers, which takes a minute and 150 MB the first time`;

const TLS_DIRECTORY = "/etc/tessellate/tls";
const GRACE_MS = 1_000;

const log = (event: string, fields: Readonly<Record<string, unknown>> = {}): void =>
  void process.stdout.write(`${JSON.stringify({ event, time: new Date().toISOString(), ...fields })}\n`);

function readOptions() {
  const { values } = parseArgs({
    options: {
      provider: { type: "string" },
      machine: { type: "string" },
      signer: { type: "string", default: "unix:/run/tessellate/signer.sock" },
      tls: { type: "string", default: TLS_DIRECTORY },
      listen: { type: "string" },
      metrics: { type: "string" },
      cache: { type: "string", default: "/var/cache/tessellate-agent" },
      "busy-max": { type: "string", default: "0.2" },
      "no-layers": { type: "boolean", default: false },
    },
  });
  const { provider, machine } = values;
  const [listen, metrics] = [parseAddress(values.listen), parseAddress(values.metrics)];
  const busyShareMax = Number(values["busy-max"]);
  if (provider === undefined || machine === undefined || listen === undefined || metrics === undefined)
    return undefined;
  if (!(busyShareMax >= 0 && busyShareMax <= 1)) return undefined;
  return { ...values, provider, machine, listen, metrics, busyShareMax, layers: !values["no-layers"] };
}

function parseAddress(text: string | undefined): { readonly host: string; readonly port: number } | undefined {
  const [, host, port] = /^(.*):(\d+)$/.exec(text ?? "") ?? [];
  return host === undefined ? undefined : { host: host.replace(/^\[|\]$/g, ""), port: Number(port) };
}

async function main(): Promise<void> {
  const options = readOptions();
  if (options === undefined) {
    process.stderr.write(`${USAGE}\n`);
    process.exit(2);
  }
  const ended = lifetime();
  const opened = openTls(options.tls, (detail) => log("certificate-refused", { detail }));
  if (!opened.ok) throw new Error(opened.detail);
  const close = await serve(options, opened.value);
  log("draining", { why: await ended });
  await close();
}

type Options = NonNullable<ReturnType<typeof readOptions>>;

/** Opens the doors and starts measuring; gives what closes them. */
async function serve(options: Options, tls: Tls): Promise<() => Promise<void>> {
  const { provider, machine, cache: cacheDirectory, layers } = options;
  let signedAtMs: number | undefined;
  let lookedAtMs: number | undefined;
  const clock = systemClock;
  const metrics = new AgentMetrics(() => (lookedAtMs === undefined ? undefined : clock.monotonicMs() - lookedAtMs));
  const keys = signerKeys(options.signer, { provider, node: "" });
  const measuring = new Measuring(
    {
      clock,
      machine: (part) => measureMachine(part, { cacheDirectory, layers }),
      link: (address) => measureLink(address, tls, clock),
      busyShare: () => busyShare(clock),
      signedAtMs: () => signedAtMs,
      log,
    },
    options.busyShareMax,
  );
  let found = findDevices();
  const wallMs = () => Date.now();
  const agent: AgentOptions = {
    provider,
    machine,
    keys,
    offers: offerBook({ provider, machine, tls, keys, wallMs }),
    measuring,
    devices: () => found,
    wallMs,
    onLook: () => {
      lookedAtMs = clock.monotonicMs();
    },
    onSigned: (result) => {
      signedAtMs = clock.monotonicMs();
      metrics.signatures.inc({ result });
    },
  };
  const door = await openDoor({
    ...options.listen,
    credentials: serverCredentials(tls),
    services: ["NodeAgent", "Signer"],
    add: (server) => {
      server.addService(loadService("NodeAgent").service, agentHandlers(agent));
      server.addService(loadService("Signer").service, signerHandlers(agent));
    },
  });
  const status = await openStatusServer({
    ...options.metrics,
    registry: metrics.registry,
    unready: async () => {
      const key = await keys.identify();
      return key.ok ? undefined : key.detail;
    },
  });
  door.setServing(true);
  const stop = new AbortController();
  void measuring.run(stop.signal); // what it is at ends with the process
  driversGpus().then(
    (gpus) => {
      if (gpus.length === 0) return;
      found = findDevices("/", gpus);
      log("devices", { devices: found });
    },
    (error: unknown) => log("devices-trouble", { detail: error instanceof Error ? error.message : String(error) }),
  );
  log("listening", { address: door.address, metricsAddress: status.address, as: nameOf(tls.identity), devices: found });
  return async () => {
    stop.abort();
    await Promise.all([door.close(GRACE_MS), status.close()]);
    keys.close();
    tls.close();
  };
}

const nameOf = ({ kind, name }: Identity): string => `${kind}/${name}`;

main().then(
  () => process.exit(0),
  (error: unknown) => {
    log("fatal", { detail: error instanceof Error ? error.message : String(error) });
    process.exit(1);
  },
);
