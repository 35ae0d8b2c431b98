/**
 * `npm run bench -- operator [--soak MINUTES]`: the operator's foundations against a real API server on this machine.
 * With `--soak` only the reflector is looked at, for that long, with a fault every 5 s.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { startControlPlane } from "../cluster/control-plane.ts";
import { soak } from "../cluster/soak.ts";
import { type BenchResult, atMost, rounded } from "./figures.ts";
import { machineFacts } from "./machine.ts";

const FAULT_EVERY_MS = 5_000;
const SEED = 11;
const say = (line: string) => console.error(line);

export async function run(args: readonly string[]): Promise<BenchResult> {
  const at = args.indexOf("--soak");
  const minutes = at < 0 ? 1 : Number(args[at + 1]);
  if (!(minutes > 0)) throw new Error("--soak wants minutes, such as 60");
  const facts = machineFacts();
  const cluster = await startControlPlane();
  try {
    await sleep(1_000); // whatever starts up beside it
    return { bench: "operator", ...facts, ...(await soaked(cluster, minutes)) };
  } finally {
    await cluster.stop();
  }
}

type Found = Pick<BenchResult, "requirements" | "table" | "notes">;

async function soaked(cluster: Parameters<typeof soak>[0], minutes: number): Promise<Found> {
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
