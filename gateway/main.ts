/** The gateway process: reads its options, opens its doors, serves until it is told to end. */
import { randomBytes } from "node:crypto";
import { RefusalError, valueOrThrow } from "../core/result.ts";
import { systemClock } from "../core/wire/clock.ts";
import { hostPort, openDoor } from "../core/wire/door.ts";
import { lifetime } from "../core/wire/lifetime.ts";
import { openStatusServer } from "../core/wire/status-server.ts";
import { openTls, serverCredentials } from "../core/wire/tls.ts";
import { addControl } from "./control/service.ts";
import type { Log } from "./doors.ts";
import { DRAIN_MS, Gateway } from "./gateway.ts";
import { ApiKeys } from "./http/api-keys.ts";
import { openKeyFile } from "./key-file.ts";
import { USAGE, parseOptions } from "./options.ts";
import { createWire } from "./session/wire.ts";
import { LedgerClient } from "./usage/ledger-client.ts";

const log: Log = (event, fields) =>
  process.stderr.write(`${JSON.stringify({ at: new Date().toISOString(), event, ...fields })}\n`);

async function run(): Promise<void> {
  const ended = lifetime();
  const options = valueOrThrow(parseOptions(process.argv.slice(2), process.env["TESSELLATE_LISTEN_HOST"]));
  const tls = valueOrThrow(openTls(options.tls, (detail) => log("certificate-refused", { detail })));
  const key = valueOrThrow(openKeyFile(options.key));
  const apiKeys = options.apiKeys === undefined ? undefined : valueOrThrow(ApiKeys.open(options.apiKeys, log));
  const ledger = new LedgerClient(tls, (): string => gateway.keeper.picture?.ledgerAddress ?? "");
  const gateway: Gateway = new Gateway({
    doors: {
      clock: systemClock,
      unixMs: () => Date.now(),
      random: (byteCount) => new Uint8Array(randomBytes(byteCount)),
      wire: createWire(tls),
      log,
    },
    signer: { name: options.name, key },
    submit: ledger.submit,
    stateDirectory: options.state,
    answersDirectory: options.answers,
    apiKeys,
  });
  await gateway.start();

  const { metrics, control, listen } = options;
  const status = await openStatusServer({
    ...metrics,
    registry: gateway.metrics.registry,
    unready: () => gateway.unready,
  });
  const door = await openDoor({
    ...control,
    credentials: serverCredentials(tls),
    services: ["Control"],
    add: (server) => addControl(server, gateway),
  });
  door.setServing(true);
  await gateway.app.listen(listen);
  const bound = gateway.app.server.address();
  const port = typeof bound === "object" && bound !== null ? bound.port : listen.port;
  const addresses = {
    address: hostPort(listen.host, port),
    control: door.address,
    metrics: status.address,
  };
  process.stdout.write(`${JSON.stringify({ event: "listening", ...addresses, publicKey: key.publicKey.spki })}\n`);

  log("ending", { reason: await ended });
  await gateway.end(DRAIN_MS, options.lingerMs); // the operator is heard meanwhile: answers go on
  door.setServing(false);
  ledger.close();
  await Promise.all([door.close(1_000), status.close()]);
  tls.close();
  log("ended", {});
}

try {
  await run();
  process.exit(0); // connections that others keep open are no reason to stay
} catch (error) {
  if (!(error instanceof RefusalError)) throw error;
  process.stderr.write(`error: ${error.message} (${error.code})\n${error.code === "BadOption" ? `${USAGE}\n` : ""}`);
  process.exit(1);
}
