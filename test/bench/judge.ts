/**
 * `npm run bench -- judge --case FILE.json [--evaluations N]`: our placement of a case beside every one that its file
 * stores, as the simulation serves them. More flow is not always more served, so the planner's candidates are judged as
 * well and the one that serves most is named.
 */
import { RefusalError, refuse } from "../../core/result.ts";
import { present } from "../../core/assert.ts";
import type { Run } from "../../operator/plan/simulate/house.ts";
import type { Holding, TilingProblem } from "../../operator/plan/tiling/problem.ts";
import { type BenchResult, atLeast, rounded } from "./figures.ts";
import { climbed } from "./judge-climb.ts";
import { type Proposal, proposals } from "./judge-candidates.ts";
import { machineFacts } from "./machine.ts";
import { problemOfCase, readCase } from "./plan-case.ts";
import { type Judged, type SimulatedCase, judgeCase } from "./simulate-case.ts";

type Placement = Readonly<Record<string, readonly [start: number, end: number]>>;
type Stored = { readonly placement?: Placement };
type Published = {
  readonly helix: Stored;
  readonly baselines?: Readonly<Record<string, Stored>>;
  readonly otherSolverRuns?: Readonly<Record<string, Stored>>;
};

type Candidate = Proposal & { readonly judged: Judged };

const EVALUATIONS = 10_000;
const SHORT_RUN: Run = { seed: "proposals", warmUpTokens: 3_000, tokens: 6_000 };
const MIDDLE_RUN: Run = { seed: "climb", warmUpTokens: 8_000, tokens: 16_000 };
const FINALIST_COUNT = 3;
const CLIMB_COUNT = 1;
const CLIMB_EVALUATIONS = 300;

export async function run(args: readonly string[]): Promise<BenchResult> {
  const path = optionOf(args, "--case");
  if (path === undefined)
    throw new RefusalError(refuse("BadOption", "--case is missing: name a file of the case's form"));
  const facts = machineFacts();
  const read = (await readCase(path)) as unknown as SimulatedCase & { readonly published: Published };
  const problem = problemOfCase(read as never, Number(optionOf(args, "--evaluations") ?? EVALUATIONS));
  const ours = judgedOf(read, problem);
  const best = ours.reduce((one, other) => (servedOf(other) > servedOf(one) ? other : one));
  const stored = storedOf(read.published).map(([name, placement]) => {
    const judged = judgeCase(read, problem, holdingsOf(placement));
    return { name, judged };
  });
  const bestStored = Math.max(0, ...stored.map(({ judged }) => judged?.outcome.generatedPerSecond ?? 0));
  return {
    bench: "judge",
    ...facts,
    requirements: [
      atLeast("generated tokens/s beside the best stored placement", servedOf(best), bestStored, "tokens/s"),
    ],
    table: [
      ["placement", "flow", "chains", "generated tokens/s", "ms/token, mean", "95th percentile"],
      ...ours.map((each) => rowOf(`ours, ${each.name}${each === best ? ", chosen" : ""}`, each.judged)),
      ...stored.map(({ name, judged }) => rowOf(name, judged)),
    ],
    notes: [`${read.case}; sessions in every slot, prompts of 750 and answers of 240 tokens on average.`],
  };
}

/** The proposals that serve most in a short run, the search's own among them, judged in a long one. */
function judgedOf(read: SimulatedCase, problem: TilingProblem): readonly [Candidate, ...Candidate[]] {
  const judge = ({ name, holdings }: Proposal, run?: Run): readonly Candidate[] => {
    const judged = judgeCase(read, problem, holdings, run);
    return judged === undefined ? [] : [{ name, holdings, judged }];
  };
  const [own, ...others] = proposals(problem).flatMap((proposal) => judge(proposal, SHORT_RUN));
  if (own === undefined) throw new RefusalError(refuse("NoPath", "the search found no placement with a whole path"));
  const best = others.toSorted((a, b) => servedOf(b) - servedOf(a)).slice(0, FINALIST_COUNT);
  const served = (holdings: readonly Holding[]): number =>
    judgeCase(read, problem, holdings, MIDDLE_RUN)?.outcome.generatedPerSecond ?? 0;
  const better = [own, ...best].toSorted((a, b) => servedOf(b) - servedOf(a)).slice(0, CLIMB_COUNT);
  const climbs = better.map(({ name, holdings }) => ({
    name: `${name}, climbed`,
    holdings: climbed(problem, holdings, served, CLIMB_EVALUATIONS),
  }));
  const [first, ...rest] = [own, ...best, ...climbs].flatMap((candidate) => judge(candidate));
  return [present(first, "what had a path has one"), ...rest];
}

const servedOf = ({ judged }: Candidate): number => judged.outcome.generatedPerSecond;

/** Every placement of the file, by its name there; some runs ended where others had. */
function storedOf({
  helix,
  baselines = {},
  otherSolverRuns = {},
}: Published): readonly (readonly [string, Placement])[] {
  return Object.entries({ helix, ...baselines, ...otherSolverRuns }).flatMap(([name, { placement }]) =>
    placement === undefined || placement === null ? [] : [[name, placement] as const],
  );
}

const holdingsOf = (placement: Placement): readonly Holding[] =>
  Object.entries(placement).map(([site, [start, end]]) => ({ site, layers: { start, end } }));

function rowOf(name: string, judged: Judged | undefined): readonly string[] {
  if (judged === undefined)
    return [name, "0", "0", "no whole path: intervals that overlap, or above a node's limit", "", ""];
  const { flow, pathCount, outcome } = judged;
  const ms = (seconds: number): string => String(rounded(1000 * seconds));
  return [
    name,
    String(rounded(flow)),
    String(pathCount),
    String(rounded(outcome.generatedPerSecond)),
    ms(outcome.secondsPerToken.mean),
    ms(outcome.secondsPerToken.p95),
  ];
}

function optionOf(args: readonly string[], option: string): string | undefined {
  const at = args.indexOf(option);
  return at < 0 ? undefined : args[at + 1];
}
