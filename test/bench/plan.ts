/**
 * `npm run bench -- plan [--worlds N]`: the search beside an exact solver on random small worlds, and how its time and
 * memory grow with the nodes. `--case FILE.json` answers one file of the planner-bench form instead, see plan-case.ts.
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { tile } from "../../operator/plan/tiling/tile.ts";
import { valueOrThrow } from "../../core/result.ts";
import { type BenchResult, atLeast, atMost, rounded } from "./figures.ts";
import { machineFacts } from "./machine.ts";
import { placementOf, problemOfCase, readCase } from "./plan-case.ts";
import { type Compared, compareAll, isOptimal } from "./plan-compare.ts";
import { exactSolver } from "./plan-exact.ts";
import { type Growth, growthPicture } from "./plan-growth.ts";
import { AIMS, aLargeWorld } from "./plan-worlds.ts";
import { DOCS } from "./tables.ts";

const CASE_EVALUATIONS = 60_000;
const WORLDS = 500;
const SITE_COUNTS = [10, 30, 100, 300, 1000, 3000, 10_000] as const;

const optionOf = (args: readonly string[], name: string): string | undefined => {
  const at = args.indexOf(name);
  return at < 0 ? undefined : args[at + 1];
};

/** One JSON line: who holds which layers, the flow in tokens a second and the seconds that the search took. */
export async function answerCase(args: readonly string[]): Promise<string> {
  const path = optionOf(args, "--case");
  if (path === undefined) throw new Error("--case wants a file of the planner-bench form");
  const read = await readCase(path);
  const start = performance.now();
  const tiling = valueOrThrow(tile(problemOfCase(read, CASE_EVALUATIONS)));
  const seconds = rounded((performance.now() - start) / 1000);
  const flow = Number(tiling.tokensPerSecond.toFixed(6));
  const bound = Number(tiling.tokensPerSecondBound.toFixed(6));
  return JSON.stringify({ case: read.case, placement: placementOf(tiling), flow, bound, seconds });
}

export async function run(args: readonly string[]): Promise<BenchResult> {
  const facts = machineFacts();
  const worldCount = Number(optionOf(args, "--worlds") ?? WORLDS);
  const growth = SITE_COUNTS.map(measure);
  const compared = compareAll(await exactSolver(), worldCount).filter(({ isPossible }) => isPossible);
  if (args.includes("--save")) await writeFile(join(DOCS, "plan-growth.svg"), growthPicture(growth));
  const at = (count: number): Growth => growth.find(({ siteCount }) => siteCount === count) ?? measure(count);
  return {
    bench: "plan",
    ...facts,
    requirements: [
      atLeast("small worlds that are optimal", compared.filter(isOptimal).length / compared.length, 0.99, ""),
      atMost("the worst of them is worse by", Math.max(...compared.map(({ worse }) => worse)), 0.02, ""),
      atMost("1,000 nodes × 126 layers", at(1000).seconds, 1, "s"),
      atMost("10,000 nodes × 126 layers", at(10_000).seconds, 15, "s"),
      atMost("memory at 10,000 nodes", at(10_000).megabytes, 1000, "MB"),
    ],
    table: [["random small worlds", "with an answer", "optimal", "worst"], ...AIMS.map((aim) => rowOf(aim, compared))],
    notes: [
      `${worldCount} worlds of 2 to 5 nodes and 3 to 10 layers under each aim, against HiGHS.`,
      `Nodes, seconds, share of the bound: ${growth.map(({ siteCount, seconds, share }) => `${siteCount}, ${seconds}, ${share}`).join("; ")}.`,
    ],
  };
}

function rowOf(aim: string, compared: readonly Compared[]): readonly string[] {
  const those = compared.filter((each) => each.aim === aim);
  const worst = those.reduce((most, { worse }) => Math.max(most, worse), 0);
  return [aim, String(those.length), String(those.filter(isOptimal).length), `${rounded(100 * worst)} %`];
}

function measure(siteCount: number): Growth {
  const problem = aLargeWorld(siteCount, 20_000);
  const start = performance.now();
  const tiling = valueOrThrow(tile(problem));
  const seconds = rounded((performance.now() - start) / 1000);
  const megabytes = Math.round(process.memoryUsage().rss / 1e6);
  console.error(`${siteCount} nodes: ${seconds} s, ${megabytes} MB`);
  return { siteCount, seconds, megabytes, share: rounded(tiling.tokensPerSecond / tiling.tokensPerSecondBound) };
}
