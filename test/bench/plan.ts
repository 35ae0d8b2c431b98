/**
 * `npm run bench -- plan [--worlds N]`: the search beside an exact solver on random small worlds, and how its time and
 * memory grow with the nodes. `--case FILE.json` answers one file of the planner-bench form instead, see plan-case.ts.
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { present } from "../../core/assert.ts";
import { valueOrThrow } from "../../core/result.ts";
import { generatedShare } from "../../operator/plan/estimate.ts";
import { problemOf } from "../../operator/plan/place.ts";
import { plan } from "../../operator/plan/plan.ts";
import { groundsOf, sitesOf } from "../../operator/plan/sites.ts";
import { MICRO, fieldOf } from "../../operator/plan/tiling/field.ts";
import { Judge } from "../../operator/plan/tiling/judge.ts";
import { tile } from "../../operator/plan/tiling/tile.ts";
import { type BenchResult, atLeast, atMost, rounded } from "./figures.ts";
import { machineFacts } from "./machine.ts";
import { provedBound } from "./plan-bound.ts";
import { placementOf, problemOfCase, readCase } from "./plan-case.ts";
import { type Compared, compareAll, isOptimal } from "./plan-compare.ts";
import { exactSolver } from "./plan-exact.ts";
import { type Growth, growthPicture } from "./plan-growth.ts";
import { anUnlikeWorld } from "./plan-nodes.ts";
import { AIMS, aLargeWorld } from "./plan-worlds.ts";
import { isSimulated, servedCase } from "./simulate-case.ts";
import { DOCS } from "./tables.ts";

const CASE_EVALUATIONS = 60_000;
const WORLDS = 500;
/** Of the five aims, each world is asked for two, in turn: the exact solver takes most of the time. */
const AIMS_OF_A_WORLD = 2;
/** Seeds that nothing in the search was chosen by. */
const FIRST_SEED = 40_000;
/** Of `plan` as an operator calls it: nodes and chains asked for, few of them and as many as the nodes may serve. */
const WORLD_COUNTS = [
  [10, 1],
  [30, 1],
  [100, 3],
  [300, 4],
  [300, 10],
  [1000, 4],
  [1000, 30],
  [3000, 4],
  [3000, 60],
  [10_000, 4],
  [10_000, 100],
] as const;
const SITE_COUNTS = [10, 30, 100, 300, 1000, 3000, 10_000] as const;

const optionOf = (args: readonly string[], name: string): string | undefined => {
  const at = args.indexOf(name);
  return at < 0 ? undefined : args[at + 1];
};

/**
 * One JSON line: who holds which layers, the flow in tokens a second and the seconds that it took. The placement is what
 * the simulation chooses (see simulate-case.ts); with `--most-flow`, or where the case has devices that are not known
 * there, it is the widest that is found, whatever it serves. With `--bound` the line also has a flow that linear
 * programmes prove to be beyond any placement, see plan-bound.ts.
 */
export async function answerCase(args: readonly string[]): Promise<string> {
  const path = optionOf(args, "--case");
  if (path === undefined) throw new Error("--case wants a file of the planner-bench form");
  const read = await readCase(path);
  const start = performance.now();
  const tiling =
    args.includes("--most-flow") || !isSimulated(read)
      ? valueOrThrow(tile(problemOfCase(read, CASE_EVALUATIONS)))
      : servedCase(read);
  const seconds = rounded((performance.now() - start) / 1000);
  const flow = Number(tiling.tokensPerSecond.toFixed(6));
  const bound = Number(tiling.tokensPerSecondBound.toFixed(6));
  const proved = args.includes("--bound")
    ? await provedBound(problemOfCase(read, 0), tiling.tokensPerSecondBound, tiling.tokensPerSecond)
    : undefined;
  const more = proved === undefined ? {} : { provedBound: Number(proved.tokensPerSecond.toFixed(6)) };
  return JSON.stringify({ case: read.case, placement: placementOf(tiling), flow, bound, ...more, seconds });
}

export async function run(args: readonly string[]): Promise<BenchResult> {
  const facts = machineFacts();
  const worldCount = Number(optionOf(args, "--worlds") ?? WORLDS);
  const whole = WORLD_COUNTS.map(([nodeCount, chainCount]) => measurePlan(nodeCount, chainCount));
  const growth = SITE_COUNTS.map(measure);
  const compared = (await compareInTurn(worldCount)).filter(({ isPossible }) => isPossible);
  if (args.includes("--save"))
    await writeFile(join(DOCS, "..", "plan-growth.svg"), growthPicture(growth, worstOf(whole)));
  const at = (count: number): Growth => growth.find(({ siteCount }) => siteCount === count) ?? measure(count);
  const planAt = (count: number): Growth =>
    present(
      worstOf(whole).find(({ siteCount }) => siteCount === count),
      "a row",
    );
  return {
    bench: "plan",
    ...facts,
    requirements: [
      atLeast("small worlds that are optimal", compared.filter(isOptimal).length / compared.length, 0.99, ""),
      atMost("the worst of them is worse by", Math.max(...compared.map(({ worse }) => worse)), 0.02, ""),
      atMost("a plan for 1,000 nodes, no two alike, × 126 layers", planAt(1000).seconds, 1, "s"),
      atMost("a plan for 10,000 nodes, no two alike, × 126 layers", planAt(10_000).seconds, 15, "s"),
      atMost("its memory", planAt(10_000).megabytes, 1000, "MB"),
      atMost("the most flow through 1,000 nodes of a few kinds", at(1000).seconds, 1, "s"),
      atMost("the most flow through 10,000 nodes of a few kinds", at(10_000).seconds, 15, "s"),
      atMost("memory of all of this", at(10_000).megabytes, 1000, "MB"),
    ],
    table: [["random small worlds", "with an answer", "optimal", "worst"], ...AIMS.map((aim) => rowOf(aim, compared))],
    notes: [
      `${worldCount} worlds of 2 to 5 nodes and 3 to 10 layers, each under two of the aims, against HiGHS.`,
      `\`plan\`, no two nodes alike: nodes, chains, seconds, share of the bound: ${whole.map(wholeText).join("; ")}.`,
      `Most flow, a few kinds of nodes: nodes, seconds, share of the bound: ${growth.map(growthText).join("; ")}.`,
    ],
  };
}

/** Worlds between two lines of progress. */
const PROGRESS = 50;

async function compareInTurn(worldCount: number): Promise<readonly Compared[]> {
  const exact = await exactSolver();
  const compared: Compared[] = [];
  for (let first = 0; first < worldCount; first += PROGRESS) {
    compared.push(...compareAll(exact, Math.min(PROGRESS, worldCount - first), FIRST_SEED + first, AIMS_OF_A_WORLD));
    const optimal = compared.filter(isOptimal).length;
    console.error(`${Math.min(worldCount, first + PROGRESS)} worlds: ${optimal} of ${compared.length} optimal`);
  }
  return compared;
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

const growthText = ({ siteCount, seconds, share }: Growth): string => `${siteCount}, ${seconds}, ${share}`;
const wholeText = ({ siteCount, chainCount, seconds, share }: WholeGrowth): string =>
  `${siteCount}, ${chainCount}, ${seconds}, ${share}`;

type WholeGrowth = Growth & { readonly chainCount: number };

/** `plan` from nodes to actions and words, as an operator calls it when it first sees a model. */
function measurePlan(nodeCount: number, chainCount: number): WholeGrowth {
  const world = anUnlikeWorld(nodeCount, chainCount);
  const start = performance.now();
  const { placement } = plan(world);
  const seconds = rounded((performance.now() - start) / 1000);
  const megabytes = Math.round(process.memoryUsage().rss / 1e6);
  const grounds = groundsOf(world.model, world.facts, world.nodes);
  const bound = (new Judge(fieldOf(problemOf(grounds, sitesOf(grounds)))).bound / MICRO) * generatedShare(grounds);
  const share = rounded((placement?.estimate.tokensPerSecond ?? 0) / bound);
  console.error(`plan, ${nodeCount} nodes, ${chainCount} chains: ${seconds} s, ${megabytes} MB, ${share} of the bound`);
  return { siteCount: nodeCount, chainCount, seconds, megabytes, share };
}

/** For each number of nodes the number of chains that took longest. */
const worstOf = (whole: readonly WholeGrowth[]): readonly WholeGrowth[] =>
  [...Map.groupBy(whole, ({ siteCount }) => siteCount).values()].flatMap((those) =>
    those.toSorted((a, b) => b.seconds - a.seconds).slice(0, 1),
  );
