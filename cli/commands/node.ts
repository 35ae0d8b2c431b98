/**
 * `tessellate node`: a machine's signer where no node agent of the chart runs (shard-runtime/agent/): it holds the
 * provider's key and signs for the node's ranks over a unix socket.
 */
import { mkdirSync } from "node:fs";
import { dirname } from "node:path";
import type { Command } from "commander";
import { RefusalError, refuse } from "../../core/result.ts";
import { lifetime } from "../../core/wire/lifetime.ts";
import { startSigner } from "../../shard-runtime/attest/signer-server.ts";
import { readOrMakeKey } from "../signing-key.ts";
import { registerMeasure } from "./node-measure.ts";
import { registerOffer } from "./node-offer.ts";

type Options = {
  readonly provider?: string;
  readonly node?: string;
  readonly key?: string;
  readonly socket: string;
  readonly group?: string;
};

/** What ranks in pods run as: nobody in particular, see operator/apply/rank-objects.ts. */
const RANK_GROUP = 65532;

export function register(program: Command): void {
  // `node offer` has options of the same names: what stands behind it is its own, for the commands on the way as well.
  const command = program
    .enablePositionalOptions()
    .command("node")
    .enablePositionalOptions()
    .description("hold the provider's key on this machine and sign what its ranks computed; or measure the machine")
    .option("--provider <name>", "whose machine this is")
    .option("--node <name>", "the ShardNode's name")
    .option("--key <file>", "Ed25519 key (PKCS8 PEM); made where there is none")
    .option("--socket <path>", "unix socket for the ranks of this machine", "/run/tessellate/signer.sock")
    .option(
      "--group <id>",
      `who else may use the socket; where root runs this, ${RANK_GROUP}, as which ranks in pods run`,
    )
    .action(async ({ socket, group, ...named }: Options) => {
      const groupId = groupIdOf(group);
      // Not required by commander, which would ask `node measure` for them as well.
      const provider = required("--provider", named.provider);
      const node = required("--node", named.node);
      const key = required("--key", named.key);
      const signing = readOrMakeKey(key);
      mkdirSync(dirname(socket), { recursive: true });
      const ended = lifetime();
      const signer = await startSigner({ provider, node, key: signing, target: `unix:${socket}`, ...groupId });
      console.log(JSON.stringify({ event: "listening", address: signer.address, publicKey: signing.publicKey.spki }));
      await ended;
      await signer.close();
    });
  registerMeasure(command);
  registerOffer(command);
}

function required(option: string, value: string | undefined): string {
  if (value !== undefined) return value;
  throw new RefusalError(refuse("BadOption", `${option} is missing; run with --help to see what is needed`));
}

function groupIdOf(group: string | undefined): { readonly groupId?: number } {
  if (group === undefined) return process.getuid?.() === 0 ? { groupId: RANK_GROUP } : {};
  if (!/^\d{1,9}$/.test(group))
    throw new RefusalError(refuse("BadOption", `--group ${group}: give the group's number`));
  return { groupId: Number(group) };
}
