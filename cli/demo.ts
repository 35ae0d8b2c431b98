/**
 * `npm run demo`: the whole of Tessellate on this machine in one command. Three providers with unlike nodes, one small
 * model cut over them, a question, the receipts of its answer, and what each provider has earned.
 */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Command } from "commander";
import { type AnswerVerdict, verifyAnswer } from "../core/answer-verification.ts";
import { indentedJson } from "../core/canonical-json.ts";
import { isJsonObject } from "../core/json.ts";
import { RefusalError, valueOrThrow } from "../core/result.ts";
import { formatCredits } from "../core/units.ts";
import { lifetime } from "../core/wire/lifetime.ts";
import { readDocuments } from "../operator/local/documents.ts";
import { type LocalEvent, type LocalHouse, startLocal } from "../operator/local/local-house.ts";
import { showSlice, showTable } from "../operator/plan/words/table.ts";
import { ConditionTeller } from "./condition-teller.ts";
import { curlLine } from "./curl.ts";
import { type Asked, askModel } from "./demo/ask.ts";
import { type Earning, earnings } from "./demo/earnings.ts";
import { planPicture } from "./picture.ts";

type Options = { readonly prompt: string; readonly exit?: boolean; readonly json?: boolean; readonly listen: string };
type Shown = { readonly asked: Asked; readonly verdict: AnswerVerdict; readonly earned: readonly Earning[] };

const ROOT = fileURLToPath(new URL("../", import.meta.url));
const QUESTION = "What is a shard?";

const program = new Command("demo")
  .description("Serve the demo model from three providers on this machine, ask it a question, check the receipts.")
  .option("--prompt <text>", "the question", QUESTION)
  .option("--exit", "answer once and stop")
  .option("--json", "print one JSON document on the last line")
  .option("--listen <host:port>", "where the OpenAI endpoint listens", "127.0.0.1:0");
program.parse();
process.chdir(ROOT);
process.exitCode = await demo(program.opts<Options>());

async function demo(options: Options): Promise<number> {
  const say = (text: string) => console.error(text);
  const ended = lifetime();
  const startedAt = performance.now();
  const stateDirectory = mkdtempSync(join(tmpdir(), "tessellate-demo-"));
  mkdirSync(stateDirectory, { recursive: true });
  let house: LocalHouse | undefined;
  try {
    const documents = valueOrThrow(readDocuments(["examples/demo/model.yaml", "examples/demo/nodes.yaml"]));
    say("tessellate demo: three providers, four machines (processes here), one model that none of them holds whole\n");
    house = await startLocal({ documents, stateDirectory, listen: options.listen, tell: teller(say) });
    const interrupted = ended.then(() => "interrupted" as const);
    if ((await Promise.race([house.ready, interrupted])) === "interrupted") return 130;
    const readyMs = performance.now() - startedAt;
    say(`  ready after ${(readyMs / 1000).toFixed(1)} s\n`);
    const shown = await Promise.race([converse(house, options.prompt, say), interrupted]);
    if (shown === "interrupted") return 130;
    if (options.json === true) console.log(JSON.stringify(documentOf(house, shown, readyMs)));
    if (options.exit !== true) {
      say(
        `\nThe OpenAI endpoint is ${house.url}/v1 until Ctrl-C. Ask it more:\n\n${curlLine(house.url, house.model.name, "Why does every rank sign?")}\n`,
      );
      await ended;
    }
    return shown.verdict.verified ? 0 : 1;
  } catch (error) {
    say(
      error instanceof RefusalError
        ? `error: ${error.message} (${error.code})`
        : `error: ${error instanceof Error ? error.message : String(error)}`,
    );
    return 1;
  } finally {
    await house?.stop();
    rmSync(stateDirectory, { recursive: true, force: true });
  }
}

function teller(say: (text: string) => void): (event: LocalEvent) => void {
  const conditions = new ConditionTeller({ say: (line) => say(`  … ${line}`) });
  return (event) => {
    if (event.event === "condition" && event.condition.status !== "True") return conditions.tell(event.condition);
    conditions.pause();
    if (event.event === "planned") say(`${planPicture(event.world, event.placement)}\n`);
  };
}

/** Asks, checks the receipts against the providers' own keys, and waits for the ledger's word on them. */
async function converse(house: LocalHouse, prompt: string, say: (text: string) => void): Promise<Shown> {
  process.stderr.write(`> ${prompt}\n`);
  const asked = await askModel(house.url, house.model.name, prompt, (piece) => process.stderr.write(piece));
  say(
    `\n  first token after ${asked.timings.firstTokenMs} ms, then ${asked.timings.millisecondsPerToken} ms a token\n`,
  );
  const keys = Object.fromEntries(
    house.cluster.providers.map(({ name, publicKey }) => [`provider/${name}`, publicKey]),
  );
  const bytes = indentedJson(asked.savedAnswer);
  const verdict = verifyAnswer(bytes, {
    keys: { ...keys, ...gatewayKeys(asked.savedAnswer) },
    modelRoot: house.facts.root,
  });
  const earned = await earnings(house.ledgerAddress, house.operatorTls, verdict.receipts.length);
  const rows = verdict.receipts.map((receipt) => [
    receipt.provider,
    receipt.rank.replace(/^.*\//, ""),
    `${receipt.shard.layers.start}–${receipt.shard.layers.end}`,
    `${receipt.handOffsIn.slice(7, 15)}… → ${receipt.handOffsOut === "" ? "(group)" : `${receipt.handOffsOut.slice(7, 15)}…`}`,
    "signature holds",
  ]);
  say(showTable(["provider", "rank", "layers", "hand-offs", "receipt"], rows));
  for (const problem of verdict.problems) say(`problem: ${problem.detail}`);
  const words = `${verdict.providers.length} providers, ${verdict.layerCount} layers, ${verdict.tokenCount} tokens`;
  const finding = verdict.verified ? "chain intact; usage countersigned" : `${verdict.problems.length} problems`;
  say(`\n${verdict.verified ? "verified" : "NOT verified"}: ${words}; ${finding}\n`);
  const paid = earned.map(({ provider, workUnits, microCredits }) => [
    provider,
    workUnits,
    formatCredits(microCredits),
  ]);
  say(showTable(["provider", "verified work", "credits earned"], paid, ["verified work", "credits earned"]));
  return { asked, verdict, earned };
}

/** Local mode's gateway is this very house's; its key is the one that countersigned. */
function gatewayKeys(savedAnswer: unknown): Readonly<Record<string, string>> {
  const keys = isJsonObject(savedAnswer) ? savedAnswer["keys"] : undefined;
  if (!isJsonObject(keys)) return {};
  return Object.fromEntries(
    Object.entries(keys).flatMap(([name, key]) =>
      name.startsWith("gateway/") && typeof key === "string" ? [[name, key]] : [],
    ),
  );
}

function documentOf(house: LocalHouse, { asked, verdict, earned }: Shown, readyMs: number) {
  const saved = isJsonObject(asked.savedAnswer) ? asked.savedAnswer : {};
  const tokenIds = isJsonObject(saved["tokenIds"]) ? saved["tokenIds"]["generated"] : [];
  return {
    text: asked.text,
    tokenIds,
    chain: house.placement().assignments.map((assignment) => ({
      provider: assignment.provider,
      node: assignment.node,
      layers: [assignment.layers.start, assignment.layers.end],
      slice: showSlice(assignment),
    })),
    receipts: asked.savedAnswer,
    verified: verdict.verified,
    earned: Object.fromEntries(earned.map(({ provider, microCredits }) => [provider, formatCredits(microCredits)])),
    timings: { readyMs: Math.round(readyMs), ...asked.timings },
  };
}
