/**
 * The problem, indexed: sites in the order of their names, so that the answer does not depend on the order of lists;
 * rates as whole micro-tokens a second, so that flows are exact sums and compare equal wherever they are equal.
 */
import type { Holding, Link, Site, TilingProblem } from "./problem.ts";

export const MICRO = 1_000_000;

/** A rate as whole micro-tokens a second. */
export const micro = (tokensPerSecond: number): number =>
  Math.min(Math.round(tokensPerSecond * MICRO), Number.MAX_SAFE_INTEGER / 4096);

export type Field = {
  readonly problem: TilingProblem;
  readonly layerCount: number;
  readonly sites: readonly Site[]; // by name
  readonly indexOf: ReadonlyMap<string, number>;
  readonly provider: readonly number[]; // of each site, as an index
  readonly providerNames: readonly string[];
  readonly rates: readonly Float64Array[]; // [site][k]: micro-tokens a second with k layers; 0 at k = 0
  readonly seconds: readonly Float64Array[]; // [site][k]
  readonly lastRates: readonly Float64Array[]; // the same where the site also holds the last layer, and so the head
  readonly lastSeconds: readonly Float64Array[];
  readonly longest: readonly number[]; // most layers that a site may hold anywhere
  readonly rivals: readonly (readonly number[])[]; // sites that share a node with it
  /** Whether fewer chains may be named again instead of as many unlike ones: where sessions are short, that serves more. */
  readonly mayRepeat: boolean;
  readonly pairs: Map<number, Link>; // links that were asked for, by from × sites + to
};

export function fieldOf(problem: TilingProblem): Field {
  const sites = [...problem.sites].sort((a, b) => (a.name < b.name ? -1 : 1));
  const providerNames = [...new Set(sites.map(({ provider }) => provider))].sort();
  const providers = new Map(providerNames.map((name, index) => [name, index]));
  return {
    problem,
    layerCount: problem.layerCount,
    sites,
    indexOf: new Map(sites.map(({ name }, index) => [name, index])),
    provider: sites.map(({ provider }) => providers.get(provider) ?? 0),
    providerNames,
    rates: sites.map(({ tokensPerSecond }) => Float64Array.from([0, ...tokensPerSecond.map(micro)])),
    seconds: sites.map(({ secondsPerToken }) => Float64Array.from([0, ...secondsPerToken])),
    lastRates: sites.map((site) => Float64Array.from([0, ...(site.last ?? site).tokensPerSecond.map(micro)])),
    lastSeconds: sites.map((site) => Float64Array.from([0, ...(site.last ?? site).secondsPerToken])),
    longest: sites.map((site) => longestOf(site, Math.min(problem.layerCount, problem.rules.providerLayersMax))),
    rivals: rivalsOf(sites),
    mayRepeat: mayRepeat(problem),
    pairs: new Map(),
  };
}

const mayRepeat = ({ aim, chainCount = 1, tokensInFlightMax }: TilingProblem): boolean =>
  aim.kind === "throughput" && chainCount > 1 && tokensInFlightMax !== undefined;

function longestOf({ layersMax, tokensPerSecond, mayHoldEnds }: Site, layersOfOne: number): number {
  const { inner, first, last, whole } = layersMax;
  const most = mayHoldEnds ? Math.max(inner, first, last, whole) : inner;
  return Math.max(0, Math.min(most, tokensPerSecond.length, layersOfOne));
}

function rivalsOf(sites: readonly Site[]): readonly (readonly number[])[] {
  const byNode = new Map<string, number[]>();
  sites.forEach(({ nodes }, index) => {
    for (const node of nodes) {
      const those = byNode.get(node);
      if (those === undefined) byNode.set(node, [index]);
      else those.push(index);
    }
  });
  return sites.map(({ nodes }, index) => {
    const rivals = new Set(nodes.flatMap((node) => byNode.get(node) ?? []));
    rivals.delete(index);
    return [...rivals].sort((a, b) => a - b);
  });
}

/** Whether the site has room for these layers, may see them, and was measured with so many. */
export function fits(field: Field, index: number, start: number, end: number): boolean {
  const site = field.sites[index];
  const length = end - start;
  if (site === undefined || start < 0 || length < 1 || end > field.layerCount || length > (field.longest[index] ?? 0))
    return false;
  const isFirst = start === 0;
  const isLast = end === field.layerCount;
  const { inner, first, last, whole } = site.layersMax;
  if ((isFirst || isLast) && !site.mayHoldEnds) return false;
  const most = isFirst ? (isLast ? whole : first) : isLast ? last : inner;
  return length <= most && rateAt(field, index, start, end) > 0;
}

/** Micro-tokens a second of a site that holds these layers. */
export const rateAt = (field: Field, site: number, start: number, end: number): number =>
  (end === field.layerCount ? field.lastRates : field.rates)[site]?.[end - start] ?? 0;

/** Micro-tokens a second that all sessions with room in one holding get, where each waits so long for its next token. */
export const sessionRate = ({ problem }: Pick<Field, "problem">, seconds: number): number => {
  const { chainCount, tokensInFlightMax } = problem;
  return chainCount === undefined || tokensInFlightMax === undefined
    ? Number.POSITIVE_INFINITY
    : micro(tokensInFlightMax / seconds);
};

/** Seconds that a token of a session alone spends in these layers at a site. */
export const secondsAt = (field: Field, site: number, start: number, end: number): number =>
  (end === field.layerCount ? field.lastSeconds : field.seconds)[site]?.[end - start] ?? 0;

export const siteAt = (field: Field, index: number): Site => {
  const site = field.sites[index];
  if (site === undefined) throw new RangeError(`no site ${index}`);
  return site;
};

/** Asked again and again: what was answered is kept, while pairs are not too many. */
export function linkBetween(field: Field, from: number, to: number): Link {
  const pair = from * field.sites.length + to;
  const known = field.pairs.get(pair);
  if (known !== undefined) return known;
  const link = field.problem.links.between(siteAt(field, from), siteAt(field, to));
  if (field.pairs.size < PAIRS_KEPT_MAX) field.pairs.set(pair, link);
  return link;
}

const PAIRS_KEPT_MAX = 500_000;

/** Who holds what while we search: [starts[i], ends[i]) at site i, or nothing where starts[i] is −1. */
export type State = {
  readonly starts: Int32Array;
  readonly ends: Int32Array;
  readonly chains?: readonly (readonly number[])[]; // that it was built of, as sites; a copy, to be changed, forgets them
};

export const emptyState = (field: Field): State => ({
  starts: new Int32Array(field.sites.length).fill(-1),
  ends: new Int32Array(field.sites.length).fill(-1),
});

export const copyState = ({ starts, ends }: State): State => ({ starts: starts.slice(), ends: ends.slice() });

export const startAt = (state: State, site: number): number => state.starts[site] ?? -1;
export const endAt = (state: State, site: number): number => state.ends[site] ?? -1;

export function hold(state: State, site: number, start: number, end: number): void {
  state.starts[site] = start;
  state.ends[site] = end;
}

export function holdingsOf(field: Field, state: State): readonly Holding[] {
  return field.sites.flatMap(({ name }, index) => {
    const start = startAt(state, index);
    return start < 0 ? [] : [{ site: name, layers: { start, end: endAt(state, index) } }];
  });
}

/** Of holdings that still fit; those of sites that are gone, or have less room now, are left out. */
export function stateOf(field: Field, holdings: readonly Holding[]): State {
  const state = emptyState(field);
  for (const { site, layers } of holdings) {
    const index = field.indexOf.get(site);
    if (index === undefined || !fits(field, index, layers.start, layers.end)) continue;
    if ((field.rivals[index] ?? []).some((rival) => startAt(state, rival) >= 0)) continue;
    hold(state, index, layers.start, layers.end);
  }
  return state;
}
