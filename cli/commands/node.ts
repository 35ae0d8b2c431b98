/** `tessellate node`: the node agent, as far as it is there: it holds the provider's key and signs for the node's ranks. */
import { generateKeyPairSync } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import type { Command } from "commander";
import { type SigningKey, parseSigningKey } from "../../core/keys.ts";
import { valueOrThrow } from "../../core/result.ts";
import { lifetime } from "../../core/wire/lifetime.ts";
import { startSigner } from "../../shard-runtime/attest/signer-server.ts";

type Options = { readonly provider: string; readonly node: string; readonly key: string; readonly socket: string };

export function register(program: Command): void {
  program
    .command("node")
    .description("hold the provider's key on this machine and sign what its ranks computed")
    .requiredOption("--provider <name>", "whose machine this is")
    .requiredOption("--node <name>", "the ShardNode's name")
    .requiredOption("--key <file>", "Ed25519 key (PKCS8 PEM); made where there is none")
    .option("--socket <path>", "unix socket for the ranks of this machine", "/run/tessellate/signer.sock")
    .action(async ({ provider, node, key, socket }: Options) => {
      const signing = readOrMakeKey(key);
      mkdirSync(dirname(socket), { recursive: true });
      const ended = lifetime();
      const signer = await startSigner({ provider, node, key: signing, target: `unix:${socket}` });
      console.log(JSON.stringify({ event: "listening", address: signer.address, publicKey: signing.publicKey.spki }));
      await ended;
      await signer.close();
    });
}

function readOrMakeKey(file: string): SigningKey {
  if (!existsSync(file)) {
    mkdirSync(dirname(file), { recursive: true });
    const { privateKey } = generateKeyPairSync("ed25519");
    // "wx": two agents that start at once must not each make a key and one of them lose its own.
    writeFileSync(file, privateKey.export({ format: "pem", type: "pkcs8" }), { mode: 0o600, flag: "wx" });
  }
  return valueOrThrow(parseSigningKey(readFileSync(file, "utf8"), file));
}
