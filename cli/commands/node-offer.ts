/** `tessellate node offer`: what a node agent does by itself, by hand: a provider signs that it offers a node. */
import { readFileSync } from "node:fs";
import type { Command } from "commander";
import { IN_TOTO_PAYLOAD_TYPE, envelopeBytes, signEnvelope } from "../../core/dsse.ts";
import { offerStatement } from "../../core/offer.ts";
import { RefusalError, refuse } from "../../core/result.ts";
import { installationOf } from "../../core/wire/tls.ts";
import { readOrMakeKey } from "../signing-key.ts";

type Options = {
  readonly provider: string;
  readonly node: string;
  readonly machine?: string;
  readonly key: string;
  readonly ca: string;
  readonly days: string;
};

const DAYS_MAX = 3650;
const DAY_MS = 86_400_000;
const CA_HELP =
  "certificate of the installation's authority: kubectl get secret tessellate-agent-tls -n tessellate-system " +
  "-o jsonpath='{.data.ca\\.crt}' | base64 -d";

export function registerOffer(node: Command): void {
  node
    .command("offer")
    .description("sign that the provider offers a node to an installation, where no node agent does it")
    .requiredOption("--provider <name>", "whose machine it is")
    .requiredOption("--node <name>", "the ShardNode's name")
    .option("--machine <name>", "the Kubernetes Node's name, where it is another")
    .requiredOption("--key <file>", "the provider's Ed25519 key (PKCS8 PEM)")
    .requiredOption("--ca <file>", CA_HELP)
    .option("--days <count>", "how long the offer holds", "365")
    .action((options: Options) => {
      const patch = JSON.stringify({ status: { offer: offerText(options, Date.now()) } });
      console.log(`kubectl patch shardnode ${options.node} --subresource=status --type=merge -p '${patch}'`);
    });
}

/** The envelope as it stands in a ShardNode's status. */
export function offerText(options: Options, nowMs: number): string {
  const { provider, node, machine = node, key, ca } = options;
  const days = Number(options.days);
  if (!Number.isInteger(days) || days < 1 || days > DAYS_MAX)
    throw new RefusalError(refuse("BadOption", `--days ${options.days}: give a whole number from 1 to ${DAYS_MAX}`));
  const validUntil = new Date(nowMs + days * DAY_MS).toISOString().replace(/\.\d+Z$/, "Z");
  const payload = offerStatement({ provider, node, machine, installation: installationIn(ca), validUntil });
  return new TextDecoder().decode(envelopeBytes(signEnvelope(IN_TOTO_PAYLOAD_TYPE, payload, readOrMakeKey(key))));
}

function installationIn(file: string): string {
  const pem = readFileSync(file);
  try {
    return installationOf(pem);
  } catch {
    throw new RefusalError(refuse("BadOption", `--ca ${file} holds no certificate in PEM`));
  }
}
