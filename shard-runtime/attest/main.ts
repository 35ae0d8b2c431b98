/**
 * The signer as a process of its own, beside the node agent: it alone is given the provider's key, listens on one unix
 * socket, and signs for any node of its provider what the agent lets through.
 */
import { mkdirSync, readFileSync } from "node:fs";
import { dirname } from "node:path";
import { parseArgs } from "node:util";
import { parseSigningKey } from "../../core/keys.ts";
import { valueOrThrow } from "../../core/result.ts";
import { lifetime } from "../../core/wire/lifetime.ts";
import { startSigner } from "./signer-server.ts";

const USAGE = "node shard-runtime/attest/main.ts --provider NAME --key FILE --socket PATH";

async function main(): Promise<void> {
  const { provider, key, socket } = parseArgs({
    options: { provider: { type: "string" }, key: { type: "string" }, socket: { type: "string" } },
  }).values;
  if (provider === undefined || key === undefined || socket === undefined) {
    process.stderr.write(`${USAGE}\n`);
    process.exit(2);
  }
  const ended = lifetime();
  const signing = valueOrThrow(parseSigningKey(readFileSync(key, "utf8"), key));
  mkdirSync(dirname(socket), { recursive: true });
  const signer = await startSigner({ provider, key: signing, target: `unix:${socket}` });
  const { spki: publicKey } = signing.publicKey;
  process.stdout.write(`${JSON.stringify({ event: "listening", address: signer.address, publicKey })}\n`);
  await ended;
  await signer.close();
}

main().then(
  () => process.exit(0),
  (error: unknown) => {
    const detail = error instanceof Error ? error.message : String(error);
    process.stdout.write(`${JSON.stringify({ event: "fatal", detail })}\n`);
    process.exit(1);
  },
);
