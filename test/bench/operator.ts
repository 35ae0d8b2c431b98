/**
 * `npm run bench -- operator`: the operator's foundations against a real API server on this machine, ten minutes of it.
 * One part alone, for longer, and saved under a name of its own:
 *   --soak MINUTES     the reflector, with a fault every 5 s
 *   --crashes [FLOW]   what becomes of a model when the operator crashes after any of its writes; half an hour, or one
 *                      flow of life, sleep, roll and drain; --every 10: after each tenth write
 *   --churn            a thousand models while models, ranks and nodes change: how soon each is looked at, how late the loop is
 *   --relist           ten thousand pods listed anew
 *   --agents           a thousand node agents, looked at and fallen silent
 *   --plan-lag         how late the loop is while a plan is made; needs no API server
 *   --scale [MODELS]   models beside a bare loop that creates the same pods; all sizes without a number, and with
 *                      --save their growth is drawn as docs/operator-growth.svg
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type ControlPlane, startControlPlane } from "../cluster/control-plane.ts";
import { changeLeaders, installFence, takeOverTimes } from "../cluster/leader-changes.ts";
import { soak } from "../cluster/soak.ts";
import { type BenchResult, atMost, rounded } from "./figures.ts";
import { machineFacts } from "./machine.ts";
import { askedAgents } from "./operator-agents.ts";
import { churned } from "./operator-churn.ts";
import { crashed } from "./operator-crash.ts";
import { operatorGrowthPicture } from "./operator-growth.ts";
import { plannedBeside } from "./operator-plan-lag.ts";
import { relisted } from "./operator-relist.ts";
import { SIZES, scaled } from "./operator-scale.ts";
import { DOCS } from "./tables.ts";

const GROWTH = join(DOCS, "..", "operator-growth.svg");

const FAULT_EVERY_MS = 5_000;
const SEED = 11;
const say = (line: string) => console.error(line);

export async function run(args: readonly string[]): Promise<BenchResult> {
  const at = args.indexOf("--soak");
  const minutes = at < 0 ? 1 : Number(args[at + 1]);
  if (!(minutes > 0)) throw new Error("--soak wants minutes, such as 60");
  const result = resultOf(machineFacts());
  if (args.includes("--crashes"))
    return result("operator-crashes", [await crashed(wordAfter("--crashes", args), countAfter("--every", args))]);
  if (args.includes("--agents")) return result("operator-agents", [await askedAgents()]);
  if (args.includes("--plan-lag")) return result("operator-plan-lag", [await plannedBeside()]);
  if (args.includes("--churn")) return result("operator-churn", [await churned(countAfter("--churn", args))]);
  if (args.includes("--scale")) {
    const found = await scaled(sizesIn(args));
    const isWhole = found.figures.length === SIZES.length;
    if (args.includes("--save") && isWhole) await writeFile(GROWTH, operatorGrowthPicture(found.figures));
    return result("operator-scale", [found]);
  }
  if (at >= 0) return result("operator-soak", await inTurn([soaked], minutes));
  if (args.includes("--relist")) return result("operator-relist", await inTurn([relisted], minutes));
  return result("operator", await inTurn([soaked, led, relisted], minutes));
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

/** `--scale` alone: all sizes; `--scale 300`: that many models. */
function sizesIn(args: readonly string[]): readonly number[] {
  const size = countAfter("--scale", args);
  return size === undefined ? SIZES : [size];
}

function wordAfter(option: string, args: readonly string[]): string | undefined {
  const at = args.indexOf(option);
  const word = at < 0 ? undefined : args[at + 1];
  return word === undefined || word.startsWith("--") ? undefined : word;
}

function countAfter(option: string, args: readonly string[]): number | undefined {
  const count = Number(wordAfter(option, args));
  return count > 0 ? count : undefined;
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
