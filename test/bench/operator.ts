/**
 * `npm run bench -- operator`: the operator's foundations against a real API server on this machine, five minutes of it;
 * and it says which other parts there are. One part alone is saved under a name of its own: `--save` with the option.
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type ControlPlane, startControlPlane } from "../cluster/control-plane.ts";
import { FLOWS } from "../cluster/crash-flows.ts";
import { changeLeaders, installFence, takeOverTimes } from "../cluster/leader-changes.ts";
import { soak } from "../cluster/soak.ts";
import { type BenchResult, atMost, rounded } from "./figures.ts";
import { machineFacts } from "./machine.ts";
import { askedAgents } from "./operator-agents.ts";
import { away } from "./operator-away.ts";
import { churned } from "./operator-churn.ts";
import { crashed } from "./operator-crash.ts";
import { operatorGrowthPicture } from "./operator-growth.ts";
import { plannedBeside } from "./operator-plan-lag.ts";
import { rested } from "./operator-rest.ts";
import { relisted } from "./operator-relist.ts";
import { SIZES, scaled } from "./operator-scale.ts";
import { DOCS } from "./tables.ts";

const GROWTH = join(DOCS, "..", "operator-growth.svg");

const FAULT_EVERY_MS = 5_000;
const SEED = 11;
const say = (line: string) => console.error(line);

type Alone = {
  readonly option: string;
  readonly what: string;
  readonly run: (words: Words) => Promise<readonly Found[]>;
};
/** What stands after options: `--churn 300` has `count("--churn")` 300. */
type Words = {
  readonly word: (option: string) => string | undefined;
  readonly count: (option: string) => number | undefined;
  readonly isToSave: boolean;
};

const ALONE: readonly Alone[] = [
  {
    option: "--soak",
    what: "MINUTES: the reflector, with a fault every 5 s",
    run: ({ count }) => inTurn([soaked], count("--soak") ?? 60),
  },
  { option: "--leader-changes", what: "a thousand of them, and how soon another leads", run: () => inTurn([led], 1) },
  { option: "--relist", what: "ten thousand pods listed anew", run: () => inTurn([relisted], 1) },
  {
    option: "--churn",
    what: "[MODELS]: models, ranks and nodes change; how soon each is looked at, how late the loop is",
    run: async ({ count }) => [await churned(count("--churn"))],
  },
  {
    option: "--rest",
    what: "[MINUTES]: three hundred models that nobody touches; processor time by the minute, and writes",
    run: async ({ count }) => [await rested(count("--rest"))],
  },
  {
    option: "--away",
    what: "[MINUTES]: no API server for ten, and what has moved and was written once it is back",
    run: async ({ count }) => [await away(count("--away") ?? 10)],
  },
  {
    option: "--crashes",
    what: "[FLOW,…]: a crash after each write of life, sleep, roll and drain, half an hour; --every 10: each tenth",
    run: async ({ word, count }) => [await crashed(word("--crashes"), count("--every"))],
  },
  {
    option: "--scale",
    what: "[MODELS]: models beside a bare loop that creates the same pods; all sizes, and with --save a picture",
    run: async ({ count, isToSave }) => [await sized(count("--scale"), isToSave)],
  },
  {
    option: "--agents",
    what: "a thousand node agents, looked at and fallen silent",
    run: async () => [await askedAgents()],
  },
  {
    option: "--plan-lag",
    what: "how late the loop is while a plan is made; needs no API server",
    run: async () => [await plannedBeside()],
  },
];

/** Undefined where nothing was to be measured: `--help`, or what is no option. */
export async function run(args: readonly string[]): Promise<BenchResult | undefined> {
  const parts = ALONE.map(({ option, what }) => `  ${option} ${what}`).join("\n");
  if (args.includes("--help")) {
    console.log(`npm run bench -- operator [PART] [--save]; without a part three of them, a minute each:\n${parts}`);
    return undefined;
  }
  const complaint = complaintOf(args);
  if (complaint !== undefined) {
    say(`${complaint}: see npm run bench -- operator --help`);
    process.exitCode = 2;
    return undefined;
  }
  const result = resultOf(machineFacts());
  const asked = ALONE.find(({ option }) => args.includes(option));
  if (asked !== undefined) return result(`operator-${asked.option.slice(2)}`, await asked.run(wordsOf(args)));
  say(
    `A minute of faults, a thousand leader changes, a list of ten thousand pods. Each alone, and what else there is:\n${parts}`,
  );
  return result("operator", await inTurn([soaked, led, relisted], 1));
}

const OPTIONS: ReadonlySet<string> = new Set([...ALONE.map(({ option }) => option), "--every", "--save"]);
const FLOW_NAMES = FLOWS.map(({ name }) => name);
/** Options that a number may follow. */
const COUNTED: ReadonlySet<string> = new Set(["--soak", "--churn", "--rest", "--away", "--scale", "--every"]);

/** What is wrong with the first that is. */
function complaintOf(args: readonly string[]): string | undefined {
  for (const [index, arg] of args.entries()) {
    if (OPTIONS.has(arg)) continue;
    const before = args[index - 1] ?? "";
    if (COUNTED.has(before) && !(Number(arg) > 0)) return `${before} ${arg} is no number above 0`;
    if (before === "--crashes") {
      const unknown = arg.split(",").find((name) => !FLOW_NAMES.includes(name));
      if (unknown !== undefined) return `there is no flow ${unknown}; there are ${FLOW_NAMES.join(", ")}`;
    } else if (!COUNTED.has(before)) return `${arg} is no option of this bench`;
  }
  return undefined;
}

function wordsOf(args: readonly string[]): Words {
  const word = (option: string) => {
    const at = args.indexOf(option);
    const after = at < 0 ? undefined : args[at + 1];
    return after === undefined || after.startsWith("--") ? undefined : after;
  };
  const count = (option: string) => {
    const number = word(option);
    return number === undefined ? undefined : Number(number);
  };
  return { word, count, isToSave: args.includes("--save") };
}

/** Growth over all sizes is drawn as docs/operator-growth.svg. */
async function sized(modelCount: number | undefined, isToSave: boolean): Promise<Found> {
  const found = await scaled(modelCount === undefined ? SIZES : [modelCount]);
  const isWhole = found.figures.length === SIZES.length;
  if (isToSave && isWhole) await writeFile(GROWTH, operatorGrowthPicture(found.figures));
  return found;
}

type Part = (cluster: ControlPlane, minutes: number) => Promise<Found>;

/** The parts one after the other, with one API server. */
async function inTurn(parts: readonly Part[], minutes: number): Promise<readonly Found[]> {
  const cluster = await startControlPlane();
  try {
    await sleep(1_000); // whatever starts up beside it
    const found: Found[] = [];
    for (const part of parts) found.push(await part(cluster, minutes));
    return found;
  } finally {
    await cluster.stop();
  }
}

const resultOf =
  (facts: ReturnType<typeof machineFacts>) =>
  (bench: string, found: readonly Found[]): BenchResult => ({
    bench,
    ...facts,
    requirements: found.flatMap(({ requirements }) => requirements),
    table: [["what", "figure"], ...found.flatMap(({ table }) => table)],
    notes: found.flatMap(({ notes }) => notes),
  });

type Found = Pick<BenchResult, "requirements" | "table" | "notes">;

const LEADER_CHANGES = 1_000;

async function led(cluster: ControlPlane): Promise<Found> {
  const access = await installFence(cluster);
  try {
    const startMs = performance.now();
    const { wrong, pausedCount, deniedCount } = await changeLeaders(access, LEADER_CHANGES, SEED);
    const eachMs = (performance.now() - startMs) / LEADER_CHANGES;
    for (const each of wrong) say(`WRONG: ${each}`);
    const { crashMs, releaseMs } = await takeOverTimes(access);
    return {
      requirements: [
        atMost(`writes of deposed leaders that took effect, ${LEADER_CHANGES} leader changes`, wrong.length, 0, ""),
        atMost("another leads after a crash", crashMs / 1000, 15, "s"),
        atMost("another leads after a good end", releaseMs / 1000, 2, "s"),
      ],
      table: [
        ["leaders paused, then resumed", String(pausedCount)],
        ["their writes that the API server denied", String(deniedCount)],
        ["a leader change with all its writes", `${rounded(eachMs)} ms`],
      ],
      notes: [],
    };
  } finally {
    access.close();
  }
}

async function soaked(cluster: ControlPlane, minutes: number): Promise<Found> {
  const options = { checkMs: 10_000, graceMs: 1_000, silenceMs: 15_000, timeoutMs: 5_000 };
  const outcome = await soak(cluster, {
    ...options,
    seconds: minutes * 60,
    seed: SEED,
    faultEveryMs: FAULT_EVERY_MS,
    report: say,
  });
  for (const each of outcome.wrong) say(`WRONG: ${each}`);
  const { writeCount, busyLateMs, quietLateMs, boundMs, wrong, faultCounts, counts } = outcome;
  return {
    requirements: [
      atMost(`changes missed or told wrongly in ${minutes} min of faults`, wrong.length, 0, ""),
      atMost("latest sight of a change to a busy resource", busyLateMs / 1000, boundMs / 1000, "s"),
      atMost("latest sight of a change to a quiet resource", quietLateMs / 1000, boundMs / 1000, "s"),
    ],
    table: [["fault", "times"], ...[...faultCounts].sort().map(([fault, count]) => [fault, String(count)])],
    notes: [
      `${writeCount} writes, a fault every ${FAULT_EVERY_MS / 1000} s; ${counts.watches} watches, ${counts.lists} lists.`,
      `${counts.missed} of ${counts.checks} checks found something left out.`,
      `Checks every ${options.checkMs / 1000} s and requests of at most ${options.timeoutMs / 1000} s: the bound is ${rounded(boundMs / 1000)} s.`,
    ],
  };
}
