/** `tessellate plan`: what would go where, and what would be otherwise if, without starting anything. */
import { readFileSync } from "node:fs";
import type { Command } from "commander";
import { costText, costsOf } from "../../core/quantization-cost.ts";
import { type Refusal, RefusalError, type Result, ok, refuse, valueOrThrow } from "../../core/result.ts";
import { type Documents, readDocuments } from "../../operator/local/documents.ts";
import { resolveLocal } from "../../operator/local/resolve.ts";
import { measuredDaysAgo } from "../../operator/local/measured-age.ts";
import { nodeFactsOf } from "../../operator/plan/model-spec.ts";
import { place } from "../../operator/plan/place.ts";
import type { ModelFacts, Placement, World } from "../../operator/plan/types.ts";
import { approvalCommand } from "../../operator/plan/words/approval.ts";
import { compare, comparisonDocument, comparisonText } from "../../operator/plan/words/compare.ts";
import { placementDocument } from "../../operator/plan/words/document.ts";
import { parseChange } from "../../operator/plan/words/parse-change.ts";
import { type Remedy, remedies, remedyWords } from "../../operator/plan/words/remedies.ts";

import { planSvg } from "../../operator/plan/words/svg.ts";
import { showPlacement } from "../../operator/plan/words/table.ts";
import { choice } from "../choice.ts";
import { type TerminalStyle, planPicture, terminalStyle } from "../picture.ts";

type Known = World & { readonly facts: ModelFacts };
type Options = {
  readonly file: readonly string[];
  readonly nodes: readonly string[];
  readonly output: string;
  readonly whatIf: readonly string[];
  readonly width?: string;
  readonly config?: string;
};

const FORMS = ["picture", "wide", "table", "json", "svg"] as const;
type Form = (typeof FORMS)[number];

export function register(program: Command): void {
  program
    .command("plan")
    .description("show which node would hold which shard, without starting anything")
    .requiredOption("-f, --file <file...>", "YAML with a ShardedModel")
    .requiredOption("--nodes <file...>", "YAML with Providers and ShardNodes")
    .option("-o, --output <form>", "picture, wide (a row for each rank; or table), json or svg", "picture")
    .option(
      "--what-if <change>",
      "compare with the plan after a change; may be said again: add=NAME:mem=24Gi,bandwidth=300G,provider=X, " +
        "remove=NODE, quantization=int8, replicas=2, context=8192 …",
      (change: string, before: readonly string[]) => [...before, change],
      [] as readonly string[],
    )
    .option("--config <file>", "the model's config.json, to plan with before the model is fetched and packed")
    .option("--width <columns>", "of the picture, 60 to 200; left out, the terminal's")
    .action(async (options: Options) => {
      const form = formOf(options.output);
      const style = terminalStyle(valueOrThrow(widthAsked(options.width)));
      const documents = valueOrThrow(readDocuments([...options.file, ...options.nodes]));
      const config = options.config === undefined ? undefined : valueOrThrow(readConfig(options.config));
      const { model, facts } = await resolveLocal(documents, config);
      const nodes = documents.nodes.map((node) =>
        nodeFactsOf(node, admitted(documents), true, measuredDaysAgo(node, Date.now())),
      );
      const world: Known = { model, facts, nodes, ranks: [], previous: undefined, probes: [] };
      if (options.whatIf.length > 0) {
        if (form === "svg" || form === "wide") throw new RefusalError(notWithWhatIf(options.output));
        const changes = options.whatIf.map((text) => valueOrThrow(parseChange(world, text)));
        const comparison = compare(world, changes);
        console.log(form === "json" ? json(comparisonDocument(comparison)) : comparisonText(comparison, style));
        return;
      }
      const placed = place(world);
      if (!placed.ok) return refused(world, placed, form);
      console.log(shown(world, placed.value, form, style));
      if (form !== "picture" && form !== "wide") return;
      for (const cost of costsOf(facts.costs ?? [], model)) console.log(`as its packer measured, ${costText(cost)}`);
      if (model.planPolicy === "Manual")
        console.log(`planPolicy is Manual: in a cluster nothing moves until somebody runs\n${approvalCommand(model)}`);
    });
}

function shown(world: Known, placement: Placement, form: Form, style: TerminalStyle): string {
  switch (form) {
    case "json":
      return json(placementDocument(world, placement));
    case "svg":
      return planSvg(world, placement);
    case "picture":
      return planPicture(world, placement, style);
    default:
      return showPlacement(world, placement);
  }
}

/** Nothing fits: what would, as a sentence or as data. */
function refused(world: Known, refusal: Refusal, form: Form): void {
  const found = remedies(world);
  const detail = remedyWords(world, refusal, found);
  if (form !== "json") {
    const [first] = found;
    const again =
      first === undefined ? "" : `\ntry       ${first.options.map((option) => `--what-if ${option}`).join(" ")}`;
    throw new RefusalError({ ok: false, code: refusal.code, detail: `${detail}${again}` });
  }
  console.log(json({ fits: false, code: refusal.code, detail, remedies: found.map(remedyDocument) }));
  process.exitCode = 1;
}

const remedyDocument = ({ words, options, size, placement }: Remedy) => ({
  words,
  whatIf: options,
  size,
  nodes: [...new Set(placement.assignments.map(({ node }) => node))],
});

const json = (value: unknown): string => JSON.stringify(value, undefined, 2);

function formOf(output: string): Form {
  const form = choice("-o", output, FORMS);
  return form === "table" ? "wide" : form;
}

const notWithWhatIf = (output: string): Refusal =>
  refuse("BadOption", `-o ${output} shows one plan: with --what-if choose picture or json`);

function widthAsked(text: string | undefined): Result<number | undefined, "BadOption"> {
  const asked = text === undefined ? undefined : Number(text);
  if (asked !== undefined && !(Number.isInteger(asked) && asked > 0))
    return refuse("BadOption", `--width ${text}: expected a whole number of columns`);
  return ok(asked);
}

function readConfig(file: string): Result<string, "UnreadableFile"> {
  try {
    return ok(readFileSync(file, "utf8"));
  } catch (error) {
    return refuse("UnreadableFile", `cannot read ${file}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** Offline every provider that the files name is admitted: local mode makes the keys that the files leave out. */
function admitted({ providers }: Documents): Documents["providers"] {
  return providers.map((provider) => ({
    ...provider,
    spec: { ...provider.spec, publicKey: provider.spec.publicKey ?? "made-at-start" },
  }));
}
