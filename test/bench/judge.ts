/**
 * `npm run bench -- judge --case FILE.json…`: our placement of each case beside every one that its file stores, as the
 * simulation serves them. Offline, so many ask all the time as there are slots; online, requests come at random, to all
 * placements at one rate: time per token means something only where the load is the same.
 */
import { RefusalError, refuse } from "../../core/result.ts";
import type { Load, Outcome, Run } from "../../operator/plan/simulate/house.ts";
import { simulate } from "../../operator/plan/simulate/simulate.ts";
import type { Holding, Tiling, TilingProblem } from "../../operator/plan/tiling/problem.ts";
import { assess } from "../../operator/plan/tiling/tile.ts";
import { type BenchResult, type Requirement, atLeast, atMost, rounded } from "./figures.ts";
import { machineFacts } from "./machine.ts";
import { problemOfCase, readCase } from "./plan-case.ts";
import { type SimulatedCase, caseHouses, online, servedCase } from "./simulate-case.ts";

type Placement = Readonly<Record<string, readonly [start: number, end: number]>>;
type Stored = { readonly placement?: Placement | null };
type Published = {
  readonly helix: Stored;
  readonly baselines?: Readonly<Record<string, Stored>>;
  readonly otherSolverRuns?: Readonly<Record<string, Stored>>;
};
type PublishedCase = SimulatedCase & { readonly published: Published };

/** Means over the runs. */
type Figures = Pick<Outcome, "generatedPerSecond" | "secondsPerToken" | "firstTokenSeconds">;
type Judged = {
  readonly name: string;
  readonly tiling: Tiling;
  readonly offline: Figures;
  readonly online: Figures;
};

/** One run of a large cluster swings by a twentieth: means of some say more. */
const SEEDS = ["a", "b", "c", "d"] as const;
const OFFLINE: Omit<Run, "seed"> = { warmUpTokens: 8_000, tokens: 16_000 };
/** Sessions have to come and go before as many are there as stay. */
const ONLINE: Omit<Run, "seed"> = { warmUpTokens: 40_000, tokens: 30_000 };
/** Of what the best stored placement serves offline. */
const ONLINE_SHARE = 0.75;
/** Of the requests that come, what a placement must serve for its time per token to count: more are there at the end. */
const CARRIED_MIN = 0.9;

/** On one core with nothing else on it. */
const CHOICE_SECONDS_MAX = 5;

export async function run(args: readonly string[]): Promise<BenchResult> {
  const facts = machineFacts();
  const paths = args.flatMap((arg, index) => (args[index - 1] === "--case" ? [arg] : []));
  if (paths.length === 0)
    throw new RefusalError(refuse("BadOption", "--case is missing: name files of the case's form, each after --case"));
  const requirements: Requirement[] = [];
  const rows: (readonly string[])[] = [];
  for (const path of paths) {
    const read = (await readCase(path)) as unknown as PublishedCase;
    const found = judged(read);
    requirements.push(...found.requirements);
    rows.push(...found.rows);
    console.error(found.rows.map((row) => row.join("  ")).join("\n"));
  }
  const head = ["case", "placement", "flow", "offline: tokens/s", "ms/token", "online: tokens/s", "ms/token"];
  return {
    bench: "judge",
    ...facts,
    requirements,
    table: [[...head, "median", "95th percentile", "first token, s"], ...rows],
    notes: [
      "Prompts of 750 and answers of 240 tokens on average. Offline: every slot taken.",
      `Online: ${100 * ONLINE_SHARE} % of what the best stored placement serves offline. Means of ${SEEDS.length} runs.`,
    ],
  };
}

function judged(read: PublishedCase): {
  readonly requirements: readonly Requirement[];
  readonly rows: readonly (readonly string[])[];
} {
  const start = performance.now();
  const tiling = servedCase(read);
  const seconds = (performance.now() - start) / 1000;
  const ways = [{ name: "ours", tiling }, ...storedOf(read.published, problemOfCase(read, 0))];
  const offline = ways.map((way) => simulated(read, way.tiling, undefined, OFFLINE));
  const [, ...others] = offline;
  const bestStored = Math.max(0, ...others.map(({ generatedPerSecond }) => generatedPerSecond));
  const load = online((ONLINE_SHARE * bestStored) / GENERATED_TOKENS);
  const all = ways.map((way, index): Judged => {
    const there = offline[index] ?? simulated(read, way.tiling, undefined, OFFLINE);
    return { ...way, offline: there, online: simulated(read, way.tiling, load, ONLINE) };
  });
  const [ours, ...stored] = all;
  const carries = ({ online: { generatedPerSecond } }: Judged): boolean =>
    generatedPerSecond >= CARRIED_MIN * ONLINE_SHARE * bestStored;
  const msOf = (each: Judged): number => 1000 * each.online.secondsPerToken.mean;
  const quickest = Math.min(...stored.filter(carries).map(msOf));
  return {
    requirements:
      ours === undefined
        ? []
        : [
            atLeast(`${read.case}: served offline`, ours.offline.generatedPerSecond, bestStored, "tokens/s"),
            atMost(`${read.case}: time per token online`, carries(ours) ? msOf(ours) : Infinity, quickest, "ms"),
            atMost(`${read.case}: chosen in`, seconds, CHOICE_SECONDS_MAX, "s"),
          ],
    rows: all.map((each) => rowOf(read.case, each)),
  };
}

const GENERATED_TOKENS = 240;

function simulated(read: SimulatedCase, tiling: Tiling, load: Load | undefined, run: Omit<Run, "seed">): Figures {
  const under = caseHouses(read)(tiling);
  const outcomes = SEEDS.map((seed) => simulate(under.house, load ?? under.load, { ...run, seed }));
  const mean = (figure: (outcome: Outcome) => number): number =>
    outcomes.reduce((sum, outcome) => sum + figure(outcome), 0) / outcomes.length;
  const quantiles = (of: (outcome: Outcome) => Outcome["secondsPerToken"]) => ({
    mean: mean((outcome) => of(outcome).mean),
    median: mean((outcome) => of(outcome).median),
    p95: mean((outcome) => of(outcome).p95),
  });
  return {
    generatedPerSecond: mean(({ generatedPerSecond }) => generatedPerSecond),
    secondsPerToken: quantiles(({ secondsPerToken }) => secondsPerToken),
    firstTokenSeconds: quantiles(({ firstTokenSeconds }) => firstTokenSeconds),
  };
}

/** Every placement of the file that has a whole path, by its name there; some runs ended where others had. */
function storedOf({ helix, baselines = {}, otherSolverRuns = {} }: Published, problem: TilingProblem) {
  const found = new Map<string, { name: string; readonly tiling: Tiling }>();
  for (const [name, { placement }] of Object.entries({ helix, ...baselines, ...otherSolverRuns })) {
    if (placement === undefined || placement === null) continue;
    const tiling = assess(problem, holdingsOf(placement));
    const look = JSON.stringify(tiling?.holdings);
    const same = found.get(look);
    if (same !== undefined) same.name += `, ${name}`;
    else if (tiling !== undefined) found.set(look, { name, tiling });
  }
  return [...found.values()];
}

const holdingsOf = (placement: Placement): readonly Holding[] =>
  Object.entries(placement).map(([site, [start, end]]) => ({ site, layers: { start, end } }));

function rowOf(name: string, { name: placement, tiling, offline, online: there }: Judged): readonly string[] {
  const ms = (seconds: number): string => String(rounded(1000 * seconds));
  return [
    name,
    placement,
    String(rounded(tiling.tokensPerSecond)),
    String(rounded(offline.generatedPerSecond)),
    ms(offline.secondsPerToken.mean),
    String(rounded(there.generatedPerSecond)),
    ms(there.secondsPerToken.mean),
    ms(there.secondsPerToken.median),
    ms(there.secondsPerToken.p95),
    String(rounded(there.firstTokenSeconds.median)),
  ];
}
