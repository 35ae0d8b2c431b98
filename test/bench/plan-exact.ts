/**
 * The slow, obvious twin of the search: every chain that the sites could form is a column of a mixed-integer programme,
 * which HiGHS solves to the proved optimum. Only for worlds so small that all chains can be written down.
 */
import loadHighs from "highs";
import type { Link, Site, TilingProblem } from "../../operator/plan/tiling/problem.ts";

/** Its own types speak of a default export inside the default export, which is not what Node hands out. */
type LoadHighs = () => Promise<{
  readonly solve: (
    program: string,
    options: Readonly<Record<string, number>>,
  ) => { readonly Status: string; readonly ObjectiveValue: number };
}>;
type Held = { readonly site: number; readonly start: number; readonly end: number };
type Chain = { readonly held: readonly Held[]; readonly seconds: number };
export type Exact = (problem: TilingProblem) => number | undefined;

const nameOf = ({ site, start, end }: Held): string => `x${site}_${start}_${end}`;

/** Tokens a second, seconds or price of the best answer; undefined where there is none. */
export async function exactSolver(): Promise<Exact> {
  const highs = await (loadHighs as unknown as LoadHighs)();
  return (problem) => {
    const program = programOf(problem);
    if (program === undefined) return undefined;
    const solution = highs.solve(program, { mip_rel_gap: 1e-7, mip_abs_gap: 1e-7 });
    if (solution.Status === "Infeasible") return undefined;
    if (solution.Status !== "Optimal") throw new Error(`HiGHS ends with ${solution.Status}:\n${program}`);
    return solution.ObjectiveValue;
  };
}

function programOf(problem: TilingProblem): string | undefined {
  const { aim, rules, chainCount } = problem;
  const chains = chainsOf(problem);
  if (chains.length === 0) return undefined;
  const holdings = new Map(chains.flatMap(({ held }) => held.map((each) => [nameOf(each), each] as const)));
  const rows: string[] = [];
  const sum = (terms: readonly string[]): string => (terms.length === 0 ? "0 x_none" : terms.join(" + "));
  const through = (name: string): readonly string[] =>
    chains.flatMap(({ held }, index) => (held.some((each) => nameOf(each) === name) ? [`f${index}`] : []));
  problem.sites.forEach((_, site) => {
    const own = [...holdings].filter(([, held]) => held.site === site).map(([name]) => name);
    if (own.length > 0) rows.push(`${sum(own)} <= 1`);
  });
  for (const [name, held] of holdings)
    rows.push(`${sum(through(name))} - ${figure(rateOf(problem, held))} ${name} <= 0`);
  for (const [link, users] of linksOf(problem, chains))
    rows.push(`${sum(users.map((index) => `f${index}`))} <= ${figure(link.tokensPerSecond)}`);
  const counts = chainCount !== undefined || rules.chainsAfterLoss > 0;
  const price = [...holdings].map(([name, { site }]) => `${figure(problem.sites[site]?.pricePerHour ?? 0)} ${name}`);
  if (counts)
    chains.forEach(({ held, seconds }, index) => {
      for (const each of held) rows.push(`y${index} - ${nameOf(each)} <= 0`);
      if (chainCount !== undefined) rows.push(`f${index} - 1000000 y${index} <= 0`);
      if (aim.kind === "latency") rows.push(`t - ${figure(seconds)} y${index} >= 0`);
    });
  const { rows: sessionRows, binaries } = sessionsOf(problem, chains, through);
  rows.push(...sessionRows);
  const ys = chains.map((_, index) => `y${index}`);
  if (chainCount !== undefined) rows.push(`${sum(ys)} = ${chainCount}`);
  const passes = (index: number, provider: string): boolean =>
    (chains[index]?.held ?? []).some(({ site }) => problem.sites[site]?.provider === provider);
  if (rules.chainsAfterLoss > 0)
    for (const provider of new Set(problem.sites.map((site) => site.provider)))
      rows.push(`${sum(ys.filter((_, index) => !passes(index, provider)))} >= ${rules.chainsAfterLoss}`);
  const ceilings = [rules.pricePerHourMax, aim.kind === "latency" ? aim.pricePerHourMax : undefined];
  for (const ceiling of ceilings) if (ceiling !== undefined) rows.push(`${sum(price)} <= ${figure(ceiling)}`);
  const flow = sum(chains.map((_, index) => `f${index}`));
  if (aim.kind === "price") rows.push(`${flow} >= ${figure(aim.tokensPerSecondMin)}`);
  const goal = { throughput: `Maximize\n ${flow}`, latency: "Minimize\n t", price: `Minimize\n ${sum(price)}` }[
    aim.kind
  ];
  return [
    `${goal}\nSubject To`,
    ...rows.map((row, index) => ` c${index}: ${row}`),
    `Binary\n ${[...holdings.keys(), ...(counts ? ys : []), ...binaries].join("\n ")}`,
    "End\n",
  ].join("\n");
}

/**
 * A chain carries what the sessions of a holding get at its time a token, and a holding that k chains pass gives each of
 * them a k-th: `u…_k` is 1 where at least k do.
 */
function sessionsOf(
  { chainCount, tokensInFlightMax }: TilingProblem,
  chains: readonly Chain[],
  through: (name: string) => readonly string[],
): { readonly rows: readonly string[]; readonly binaries: readonly string[] } {
  if (chainCount === undefined || tokensInFlightMax === undefined) return { rows: [], binaries: [] };
  const rows = chains.map(({ seconds }, index) => `f${index} <= ${figure(tokensInFlightMax / seconds)}`);
  const crowded = new Set<string>();
  chains.forEach(({ held, seconds }, index) => {
    const alone = tokensInFlightMax / seconds;
    for (const name of held.map(nameOf))
      for (let k = 2; k <= chainCount; k += 1) {
        crowded.add(`u${name}_${k}`);
        rows.push(`f${index} + ${figure(alone * (1 - 1 / k))} u${name}_${k} <= ${figure(alone)}`);
      }
  });
  for (const name of new Set(chains.flatMap(({ held }) => held.map(nameOf))))
    for (let k = 2; k <= chainCount; k += 1) {
      const passing = through(name).map((flow) => flow.replace("f", "y"));
      rows.push(`${passing.join(" + ")} - ${chainCount - k + 1} u${name}_${k} <= ${k - 1}`);
    }
  return { rows, binaries: [...crowded] };
}

const figure = (value: number): string => value.toFixed(9);

const siteAt = (problem: TilingProblem, index: number): Site => {
  const site = problem.sites[index];
  if (site === undefined) throw new RangeError(`no site ${index}`);
  return site;
};

function rateOf(problem: TilingProblem, { site, start, end }: Held): number {
  const { tokensPerSecond, last } = siteAt(problem, site);
  return (end === problem.layerCount && last ? last.tokensPerSecond : tokensPerSecond)[end - start - 1] ?? 0;
}

function fits(problem: TilingProblem, { site, start, end }: Held): boolean {
  const { layersMax, mayHoldEnds, tokensPerSecond } = siteAt(problem, site);
  const [isFirst, isLast] = [start === 0, end === problem.layerCount];
  const most = isFirst ? (isLast ? layersMax.whole : layersMax.first) : isLast ? layersMax.last : layersMax.inner;
  return end - start <= Math.min(most, tokensPerSecond.length) && (mayHoldEnds || (!isFirst && !isLast));
}

/** Every chain that keeps the rules of one chain. */
function chainsOf(problem: TilingProblem): readonly Chain[] {
  const chains: Chain[] = [];
  const extend = (held: readonly Held[], seconds: number): void => {
    const last = held.at(-1);
    const start = last?.end ?? 0;
    if (last !== undefined && start === problem.layerCount) {
      const whole = { held, seconds: seconds + problem.links.exit(siteAt(problem, last.site)).seconds };
      if (keepsRules(problem, whole)) chains.push(whole);
      return;
    }
    problem.sites.forEach((to, site) => {
      if (held.some((each) => each.site === site)) return;
      const link = last === undefined ? problem.links.entry(to) : problem.links.between(siteAt(problem, last.site), to);
      for (let end = start + 1; end <= problem.layerCount; end += 1) {
        const next = { site, start, end };
        if (fits(problem, next))
          extend([...held, next], seconds + link.seconds + (to.secondsPerToken[end - start - 1] ?? 0));
      }
    });
  };
  extend([], 0);
  return chains;
}

function keepsRules(problem: TilingProblem, { held, seconds }: Chain): boolean {
  const { aim, rules } = problem;
  const layers = new Map<string, number>();
  for (const { site, start, end } of held) {
    const { provider } = siteAt(problem, site);
    layers.set(provider, (layers.get(provider) ?? 0) + end - start);
  }
  const isQuick = !(aim.kind === "throughput" && seconds > (aim.secondsPerTokenMax ?? Number.POSITIVE_INFINITY));
  return isQuick && layers.size >= rules.providersMin && Math.max(...layers.values()) <= rules.providerLayersMax;
}

/** Links, and who passes each. */
function linksOf(problem: TilingProblem, chains: readonly Chain[]): ReadonlyMap<Link, readonly number[]> {
  const links = new Map<string, { readonly link: Link; readonly users: number[] }>();
  const use = (name: string, link: Link, index: number): void => {
    const known = links.get(name) ?? { link, users: [] };
    known.users.push(index);
    links.set(name, known);
  };
  chains.forEach(({ held }, index) => {
    held.forEach(({ site }, at) => {
      const before = held[at - 1]?.site;
      const to = siteAt(problem, site);
      if (before === undefined) use(`to ${site}`, problem.links.entry(to), index);
      else use(`${before} ${site}`, problem.links.between(siteAt(problem, before), to), index);
      if (at === held.length - 1) use(`from ${site}`, problem.links.exit(to), index);
    });
  });
  return new Map([...links.values()].map(({ link, users }) => [{ ...link }, users]));
}
