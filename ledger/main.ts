/**
 * The ledger process. Opens its doors, says where on one line of JSON, and serves until SIGTERM:
 * `node ledger/main.ts --listen host:port --metrics host:port --tls DIR --key FILE --store pglite:DIR|postgres://…`
 */
import { parseArgs } from "node:util";
import { RefusalError, type Result, ok, refuse, valueOrThrow } from "../core/result.ts";
import { lifetime } from "../core/wire/lifetime.ts";
import { openStatusServer } from "../core/wire/status-server.ts";
import { openTls } from "../core/wire/tls.ts";
import type { Log } from "./doors.ts";
import { openKeyFile } from "./key-file.ts";
import { Ledger } from "./ledger.ts";
import { ledgerMetrics } from "./metrics.ts";
import { causesOf, openLedgerDoor } from "./serve.ts";
import { storeTrouble } from "./store-trouble.ts";
import { openStore } from "./store/open-store.ts";

const GRACE_MS = 5_000;

const log: Log = (event, fields) =>
  process.stderr.write(`${JSON.stringify({ at: new Date().toISOString(), event, ...fields })}\n`);

try {
  await main();
} catch (error) {
  const said = error instanceof RefusalError ? `${error.message} (${error.code})` : causesOf(error);
  process.stderr.write(`ledger: ${said}\n`);
  process.exit(1);
}

async function main(): Promise<void> {
  const ended = lifetime();
  const { listen, metrics, tls: directory, key, store: url } = valueOrThrow(readFlags());
  const tls = valueOrThrow(openTls(directory, (detail) => log("tls-refused", { detail })));
  const signingKey = valueOrThrow(openKeyFile(key));
  const store = valueOrThrow(
    await openStore(url, (why) => {
      // Another ledger may take the lock from here on: whatever we wrote after that could be counted twice.
      log("store-lost", { detail: why });
      process.exit(1);
    }),
  );
  const clock = { nowSeconds: () => Math.floor(Date.now() / 1000) };
  const ledger = await Ledger.open({ store, clock, key: signingKey, log });
  const door = await openLedgerDoor({ ...listen, tls, ledger, name: tls.identity.name, log });
  const status = await openStatusServer({
    ...metrics,
    registry: ledgerMetrics(ledger),
    unready: () => storeTrouble(() => ledger.ping()),
  });
  process.stdout.write(
    `${JSON.stringify({ event: "listening", address: door.address, metrics: status.address, key: ledger.publicKey })}\n`,
  );
  log("ending", { why: await ended });
  door.setServing(false);
  await door.close(GRACE_MS);
  await ledger.idle();
  await status.close();
  await store.close();
  tls.close();
  process.exit(0);
}

type Address = { readonly host: string; readonly port: number };

function readFlags(): Result<
  {
    readonly listen: Address;
    readonly metrics: Address;
    readonly tls: string;
    readonly key: string;
    readonly store: string;
  },
  "BadRequest"
> {
  const text = { type: "string" } as const;
  let values: { readonly [name: string]: string | undefined };
  try {
    values = parseArgs({ options: { listen: text, metrics: text, tls: text, key: text, store: text } }).values;
  } catch (error) {
    return refuse("BadRequest", error instanceof Error ? error.message : String(error));
  }
  const listen = readAddress("listen", values["listen"]);
  if (!listen.ok) return listen;
  const metrics = readAddress("metrics", values["metrics"]);
  if (!metrics.ok) return metrics;
  const { tls, key, store } = values;
  if (tls === undefined || key === undefined || store === undefined) {
    return refuse(
      "BadRequest",
      "--tls DIR (ca.crt, tls.crt, tls.key), --key FILE and --store pglite:DIR|postgres://… are needed",
    );
  }
  return ok({ listen: listen.value, metrics: metrics.value, tls, key, store });
}

function readAddress(flag: string, value: string | undefined): Result<Address, "BadRequest"> {
  const found = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(value ?? "");
  const host = found?.[1] ?? found?.[2];
  const port = Number(found?.[3]);
  if (host === undefined || !(port <= 65535))
    return refuse("BadRequest", `--${flag} must be host:port, not ${JSON.stringify(value ?? "")}`);
  return ok({ host, port });
}
