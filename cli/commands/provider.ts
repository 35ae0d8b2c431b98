/** `tessellate provider`: what a cluster must know of a provider, from the key that never leaves the provider's machines. */
import type { Command } from "commander";
import { stringify } from "yaml";
import { RefusalError, refuse } from "../../core/result.ts";
import { choice } from "../choice.ts";
import { readOrMakeKey } from "../signing-key.ts";

type Options = { readonly key: string; readonly output: string };

/** As the schema of Provider has it. */
const NAME = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;

export function register(program: Command): void {
  program
    .command("provider")
    .description("show a provider's public key, and how a cluster gets to know it")
    .argument("<name>", "the Provider's name")
    .requiredOption(
      "--key <file>",
      "Ed25519 key (PKCS8 PEM); made where there is none. Keep a copy: what is signed is paid to it",
    )
    .option("-o, --output <form>", "text, yaml (a Provider, to be applied), or json", "text")
    .action((name: string, { key, output }: Options) => {
      if (!NAME.test(name))
        throw new RefusalError(refuse("BadName", `${name}: use at most 63 lower-case letters, digits and dashes`));
      choice("-o", output, ["text", "yaml", "json"]);
      const { spki: publicKey, keyId } = readOrMakeKey(key).publicKey;
      const spec = { publicKey };
      const provider = { apiVersion: "tessellate.dev/v1alpha1", kind: "Provider", metadata: { name }, spec };
      if (output === "yaml") process.stdout.write(stringify(provider));
      else if (output === "json") console.log(JSON.stringify({ name, publicKey, keyId }));
      else
        console.log(
          [
            `public key  ${publicKey}`,
            `key id      ${keyId}`,
            "",
            "Whoever runs the cluster makes it known there, where the Provider exists already, by",
            `  kubectl patch provider ${name} --type=merge -p '${JSON.stringify({ spec })}'`,
            "and otherwise with this command's -o yaml, through kubectl apply -f -",
          ].join("\n"),
        );
    });
}
