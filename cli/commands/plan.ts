/** `tessellate plan`: what would go where, without starting anything. */
import type { Command } from "commander";
import { costText } from "../../core/quantization-cost.ts";
import { RefusalError, valueOrThrow } from "../../core/result.ts";
import { type Documents, readDocuments } from "../../operator/local/documents.ts";
import { resolveLocal } from "../../operator/local/local-house.ts";
import { nodeFactsOf } from "../../operator/plan/model-spec.ts";
import { place } from "../../operator/plan/place.ts";
import { placementDocument, showPlacement } from "../../operator/plan/words/table.ts";

type Options = { readonly file: readonly string[]; readonly nodes: readonly string[]; readonly output: string };

export function register(program: Command): void {
  program
    .command("plan")
    .description("show which node would hold which shard, without starting anything")
    .requiredOption("-f, --file <file...>", "YAML with a ShardedModel")
    .requiredOption("--nodes <file...>", "YAML with Providers and ShardNodes")
    .option("-o, --output <form>", "table or json", "table")
    .action(async (options: Options) => {
      if (options.output !== "table" && options.output !== "json") {
        throw new RefusalError({ ok: false, code: "BadOption", detail: `-o ${options.output}: choose table or json` });
      }
      const documents = valueOrThrow(readDocuments([...options.file, ...options.nodes]));
      const { model, facts } = await resolveLocal(documents);
      const nodes = documents.nodes.map((node) => nodeFactsOf(node, admitted(documents), true));
      const placed = valueOrThrow(place({ model, facts, nodes, ranks: [], previous: undefined, probes: [] }));
      console.log(
        options.output === "json"
          ? JSON.stringify(placementDocument(model, facts, placed), undefined, 2)
          : showPlacement(model, facts, placed),
      );
      const cost = facts.costs?.find(({ quantization }) => quantization === model.quantization);
      if (cost !== undefined && options.output === "table") console.log(`as its packer measured, ${costText(cost)}`);
    });
}

/** Offline every provider that the files name is admitted: local mode makes the keys that the files leave out. */
function admitted({ providers }: Documents): Documents["providers"] {
  return providers.map((provider) => ({
    ...provider,
    spec: { ...provider.spec, publicKey: provider.spec.publicKey ?? "made-at-start" },
  }));
}
