/** `tessellate up`: local mode in the foreground, until Ctrl-C. */
import { mkdirSync } from "node:fs";
import { relative, resolve } from "node:path";
import type { Command } from "commander";
import { valueOrThrow } from "../../core/result.ts";
import { lifetime } from "../../core/wire/lifetime.ts";
import { readDocuments } from "../../operator/local/documents.ts";
import { type LocalEvent, startLocal } from "../../operator/local/local-house.ts";
import { curlLine } from "../curl.ts";
import { planPicture } from "../picture.ts";
import { expectFree } from "../listen.ts";
import { ConditionTeller } from "../condition-teller.ts";

type Options = {
  readonly file: readonly string[];
  readonly nodes: readonly string[];
  readonly listen: string;
  readonly state: string;
  readonly store?: string;
};

export function register(program: Command): void {
  program
    .command("up")
    .description("serve a model from processes of this machine, as the operator would from pods")
    .requiredOption("-f, --file <file...>", "YAML with a ShardedModel")
    .requiredOption("--nodes <file...>", "YAML with Providers and ShardNodes")
    .option("--listen <host:port>", "where the OpenAI endpoint listens", "127.0.0.1:8080")
    .option("--state <directory>", "keys, certificates, caches, the ledger's store and logs", ".tessellate")
    .option("--store <url>", "of the ledger: postgres://… ; left out, embedded in the state directory")
    .action(async (options: Options) => {
      const documents = valueOrThrow(readDocuments([...options.file, ...options.nodes]));
      await expectFree("--listen", options.listen);
      const stateDirectory = resolve(options.state);
      mkdirSync(stateDirectory, { recursive: true, mode: 0o700 });
      const ended = lifetime();
      const house = await startLocal({
        documents,
        stateDirectory,
        listen: options.listen,
        ...(options.store === undefined ? {} : { store: options.store }),
        tell: teller(),
      });
      house.ready.then(
        () => {
          const settings = `--ledger ${house.ledgerAddress} --tls ${relative(process.cwd(), house.operatorTls)}`;
          console.log(`\nserving at ${house.url}/v1\n\n${curlLine(house.url, house.model.name, "What is a shard?")}`);
          console.log(
            `\nnpx tessellate chat --url ${house.url} "What is a shard?"\nnpx tessellate balance ${settings}\n`,
          );
        },
        () => {},
      );
      await ended;
      console.error("stopping …");
      await house.stop();
    });
}

/** Says what happens. */
function teller(): (event: LocalEvent) => void {
  const conditions = new ConditionTeller();
  return (event) => {
    if (event.event === "condition") return conditions.tell(event.condition);
    conditions.pause();
    say(event);
  };
}

function say(event: Exclude<LocalEvent, { readonly event: "condition" }>): void {
  switch (event.event) {
    case "planned":
      console.log(`${planPicture(event.world, event.placement)}\n`);
      return;
    case "action":
      console.error(
        event.action.do === "probe" ? `probe chain ${event.action.chain}` : `${event.action.do} ${event.action.name}`,
      );
  }
}
