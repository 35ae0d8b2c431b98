/** `tessellate verify`: checks a saved answer, or a settlement, offline. Exit status 1 where anything is wrong. */
import { readFileSync } from "node:fs";
import type { Command } from "commander";
import { type AnswerVerdict, type Trust, sayBlame, verifyAnswer } from "../../core/answer-verification.ts";
import { isDigest } from "../../core/digest.ts";
import { parsePublicKey } from "../../core/keys.ts";
import { RefusalError, refuse, valueOrThrow } from "../../core/result.ts";
import { openSettlement } from "../../core/settlement.ts";
import { formatCredits } from "../../core/units.ts";
import { checkSettlement } from "../../ledger/rules/settlement.ts";
import { choice } from "../choice.ts";
import { readKeyList } from "../key-list.ts";

type Options = {
  readonly providers?: string;
  readonly model?: string;
  readonly settlement?: string;
  readonly ledgerKey?: string;
  readonly output: string;
};

export function register(program: Command): void {
  program
    .command("verify")
    .description("check a saved answer offline: who computed it, and whether anything in it was changed")
    .argument("[file]", "the saved answer; - for standard input")
    .option("--providers <file>", "keys known from elsewhere: Provider objects, or names and keys, as YAML or JSON")
    .option("--model <digest>", "sha256:… of the model that must have answered")
    .option("--settlement <file>", "check a signed settlement instead: that its entries follow from its sums")
    .option("--ledger-key <key>", "with --settlement: the ledger's public key, SPKI in base64")
    .option("-o, --output <form>", "text or json", "text")
    .action((file: string | undefined, options: Options) => {
      choice("-o", options.output, ["text", "json"]);
      if (options.settlement !== undefined) return verifySettlement(options.settlement, options);
      if (file === undefined)
        throw new RefusalError(refuse("BadOption", "name the file of a saved answer, or - for standard input"));
      const verdict = verifyAnswer(readBytes(file), trustOf(options));
      const say = (text: string) => console.log(text);
      if (options.output === "json") say(JSON.stringify(verdictDocument(verdict), undefined, 2));
      else for (const line of verdictLines(verdict)) say(line);
      if (!verdict.verified) process.exitCode = 1;
    });
}

function trustOf({ providers, model }: Options): Trust {
  if (model !== undefined && !isDigest(model))
    throw new RefusalError(refuse("BadOption", `--model ${model}: must be sha256: and 64 hexadecimal digits`));
  return {
    ...(providers === undefined ? {} : { keys: valueOrThrow(readKeyList(providers)) }),
    ...(model === undefined ? {} : { modelRoot: model }),
  };
}

/** What people read: one line for the outcome, one for each problem, and what the outcome rests on. */
export function verdictLines(verdict: AnswerVerdict): readonly string[] {
  const { problems, providers, layerCount, tokenCount, pinned } = verdict;
  const counted = (count: number, one: string) => `${count} ${one}${count === 1 ? "" : "s"}`;
  const note = keysNote(pinned);
  if (!verdict.verified) {
    const lines = problems.map((problem) => `${problem.detail} (${problem.code}); ${sayBlame(problem.blame)}`);
    return [`NOT verified: ${counted(problems.length, "problem")}`, ...lines, ...(note === undefined ? [] : [note])];
  }
  const whole = `${counted(providers.length, "provider")}, ${counted(layerCount, "layer")}, ${counted(tokenCount, "token")}`;
  return [`verified: ${whole}; chain intact; usage countersigned`, ...(note === undefined ? [] : [note])];
}

function keysNote(pinned: AnswerVerdict["pinned"]): string | undefined {
  const unpinned = [...(pinned.providers ? [] : ["providers'"]), ...(pinned.gateways ? [] : ["gateway's"])].join(
    " and ",
  );
  if (unpinned === "") return undefined;
  const means = "so this shows that it is consistent, not whose it is; give --providers a file of keys you trust";
  return `note: the ${unpinned} keys were taken from the file itself, ${means}`;
}

function verdictDocument({
  verified,
  problems,
  providers,
  layerCount,
  tokenCount,
  segmentCount,
  pinned,
  usage,
}: AnswerVerdict) {
  return {
    verified,
    providers,
    layers: layerCount,
    tokens: tokenCount,
    segments: segmentCount,
    model: usage?.model ?? null,
    session: usage?.session.id ?? null,
    epoch: usage?.epoch ?? null,
    keysPinned: pinned,
    problems: problems.map(({ code, where, detail, blame }) => ({
      code,
      where,
      detail,
      blame: { kind: blame.kind, names: blame.names },
    })),
  };
}

function verifySettlement(file: string, { ledgerKey, output }: Options): void {
  const key = ledgerKey === undefined ? undefined : valueOrThrow(parsePublicKey(ledgerKey, "--ledger-key"));
  const { settlement } = valueOrThrow(openSettlement(readBytes(file), key));
  valueOrThrow(checkSettlement(settlement));
  const { epoch, part, sequence, sessionCount, receipts, totals, entries } = settlement;
  if (output === "json") {
    const amounts = Object.fromEntries(Object.entries(totals).map(([name, amount]) => [name, amount.toString()]));
    console.log(
      JSON.stringify(
        {
          verified: true,
          epoch,
          part,
          sequence,
          sessions: sessionCount,
          receipts: receipts.count,
          totals: amounts,
          keyPinned: key !== undefined,
        },
        undefined,
        2,
      ),
    );
    return;
  }
  const paid = `${formatCredits(totals.paid)} credits paid of ${formatCredits(totals.collected)} collected`;
  const counts = `${sessionCount} sessions, ${receipts.count} receipts, ${entries.length} entries`;
  console.log(`verified: epoch ${epoch}, part ${part}: ${counts}; ${paid}; entries follow from the sums`);
  if (key === undefined) console.log("note: the signature was not checked; give --ledger-key the ledger's public key");
}

function readBytes(file: string): Uint8Array {
  try {
    return readFileSync(file === "-" ? 0 : file);
  } catch (error) {
    throw new RefusalError(
      refuse("UnreadableFile", `cannot read ${file}: ${error instanceof Error ? error.message : String(error)}`),
    );
  }
}
