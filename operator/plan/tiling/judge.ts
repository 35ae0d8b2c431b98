/**
 * What given holdings are worth under the aim and the rules. Two ways: where any path may carry any flow, a maximum
 * flow answers; where rules, bounds on time or a number of chains tell paths apart, paths are listed and chosen.
 */
import { chainBound, flowBound } from "./bound.ts";
import { type Chosen, builtOf, choose, narrowest, pathsOf, servedBy, slowest } from "./chains.ts";
import { type Field, MICRO, type State, endAt, holdingsOf, linkBetween, secondsAt, siteAt, startAt } from "./field.ts";
import { FlowJudge } from "./flow.ts";
import type { Tiling, TilingProblem } from "./problem.ts";

/** Whether all that counts is how much flows. */
export function isFlowOnly({ aim, rules, chainCount, layerCount }: TilingProblem): boolean {
  return (
    chainCount === undefined &&
    aim.kind !== "latency" &&
    !(aim.kind === "throughput" && aim.secondsPerTokenMax !== undefined) &&
    rules.providersMin <= 1 &&
    rules.providerLayersMax >= layerCount &&
    rules.chainsAfterLoss <= 0
  );
}

/** What an answer breaks, 0 where nothing, and what is made least: less is better in both. */
export type Worth = { readonly broken: number; readonly energy: number };

/** A state and what it is worth. */
export type Found = { readonly state: State; readonly worth: Worth };

export const isBetter = (a: Worth, b: Worth): boolean =>
  a.broken < b.broken - 1e-9 || (a.broken <= b.broken + 1e-9 && a.energy < b.energy - 1e-9);

const NEVER_LESS = 1e-12;

/** Sites beyond which what bounds chains is said chain by chain, not as a minimum cut of all that is held. */
const CUT_MAX = 250;

export class Judge {
  readonly field: Field;
  readonly bound: number; // micro-tokens a second
  readonly chainBound: number; // of one chain
  readonly isFlowOnly: boolean;
  #flows: FlowJudge | undefined;
  readonly #priceAll: number;
  readonly #flowBound: number; // whatever the sessions

  constructor(field: Field) {
    this.field = field;
    const [flow, ofChain] = [flowBound(field), chainBound(field)];
    this.#flowBound = Math.max(flow, 1);
    this.chainBound = Math.min(flow, ofChain);
    this.bound = Math.min(flow, (field.problem.chainCount ?? 1) * ofChain);
    this.isFlowOnly = isFlowOnly(field.problem);
    this.#priceAll = field.sites.reduce((sum, { pricePerHour }) => sum + pricePerHour, 0) || 1;
  }

  /** Made when it is first asked for: it looks at all pairs of sites. */
  get flows(): FlowJudge {
    this.#flows ??= new FlowJudge(this.field);
    return this.#flows;
  }

  /** Of what is held, with all that no chain passes through counted as not held. */
  worth(state: State): Worth {
    return this.isFlowOnly ? this.#worthOfFlow(state) : this.#worthOfChains(state);
  }

  #worthOfFlow(state: State): Worth {
    const { aim, rules } = this.field.problem;
    const price = this.#price(state, this.field.sites.keys());
    const dear = rules.pricePerHourMax === undefined ? 0 : excess(price, rules.pricePerHourMax);
    const flow = this.flows.flow(state);
    const none = flow > 0 ? 0 : 10 + this.missingLayers(state);
    if (aim.kind === "price") {
      const wanted = Math.floor(aim.tokensPerSecondMin * MICRO);
      const short = flow >= wanted ? 0 : 0.1 + this.flows.missing(state, wanted);
      return { broken: short + dear, energy: price / this.#priceAll - (1e-7 * flow) / this.bound };
    }
    return { broken: none + dear, energy: -flow / Math.max(this.bound, 1) + (1e-9 * price) / this.#priceAll };
  }

  #worthOfChains(state: State): Worth {
    const { field } = this;
    const built = builtOf(field, state);
    if (built !== undefined) return this.#worthOfChosen(state, built);
    const paths = pathsOf(field, state);
    const chosen = choose(field, state, paths);
    if (chosen === undefined) {
      const wanted = field.mayRepeat ? 1 : (field.problem.chainCount ?? 1);
      const lacking = paths.length === 0 ? 10 + this.missingLayers(state) : 0;
      return { broken: 5 + lacking + Math.max(0, wanted - paths.length) / wanted, energy: 0 };
    }
    return this.#worthOfChosen(state, chosen);
  }

  #worthOfChosen(state: State, chosen: Chosen): Worth {
    const { field } = this;
    const { aim, rules } = field.problem;
    const used = new Set(chosen.paths.flatMap(({ sites }) => sites));
    const price = this.#price(state, used.values());
    const flow = chosen.flows.reduce((sum, each) => sum + each, 0);
    const seconds = slowest(chosen.paths);
    const ceiling = Math.min(
      rules.pricePerHourMax ?? Number.POSITIVE_INFINITY,
      (aim.kind === "latency" ? aim.pricePerHourMax : undefined) ?? Number.POSITIVE_INFINITY,
    );
    const dear = excess(price, ceiling);
    const flowShare = servedBy(field, chosen) / Math.max(this.bound, 1);
    const priceShare = price / this.#priceAll;
    // Where sessions are what is short, many ways of sharing out the layers carry the same: the wider is the better.
    const spareShare = field.problem.tokensInFlightMax === undefined ? 0 : 1e-6 * this.#widthShare(chosen);
    switch (aim.kind) {
      case "throughput":
        return { broken: dear, energy: -flowShare - spareShare + 1e-7 * seconds + 1e-9 * priceShare };
      case "latency":
        return { broken: dear, energy: seconds - 1e-7 * flowShare + 1e-9 * priceShare };
      case "price": {
        const short = shortfall(flow, aim.tokensPerSecondMin * MICRO);
        return { broken: dear + short, energy: priceShare - 1e-7 * flowShare };
      }
    }
  }

  #widthShare({ paths }: Chosen): number {
    return paths.reduce((sum, { rate }) => sum + rate, 0) / paths.length / this.#flowBound;
  }

  /** Layers on the way from first to last that nobody serves, where holdings are passed whole. */
  missingLayers(state: State): number {
    const { layerCount } = this.field;
    const least = new Float64Array(layerCount + 1).fill(layerCount);
    least[0] = 0;
    const starting = new Map<number, number[]>();
    this.field.sites.forEach((_, site) => {
      const start = startAt(state, site);
      if (start >= 0) starting.set(start, [...(starting.get(start) ?? []), endAt(state, site)]);
    });
    for (let position = 0; position < layerCount; position += 1) {
      const here = least[position] ?? 0;
      least[position + 1] = Math.min(least[position + 1] ?? 0, here + 1);
      for (const end of starting.get(position) ?? []) least[end] = Math.min(least[end] ?? 0, here);
    }
    return least[layerCount] ?? 0;
  }

  #price(state: State, sites: Iterable<number>): number {
    let price = 0;
    for (const site of sites) if (startAt(state, site) >= 0) price += this.field.sites[site]?.pricePerHour ?? 0;
    return price;
  }

  /** The answer that these holdings make; undefined where they make none that keeps the rules. */
  tiling(state: State): Tiling | undefined {
    const { field } = this;
    const chosen = this.isFlowOnly ? undefined : (builtOf(field, state) ?? choose(field, state, pathsOf(field, state)));
    if (!this.isFlowOnly && chosen === undefined) return undefined;
    const isMany = chosen !== undefined && field.sites.length > CUT_MAX;
    const { paths, bottleneck } = isMany
      ? { paths: [], bottleneck: narrowest(field, state, chosen) }
      : this.flows.paths(state);
    const chains = chosen ? chosen.paths.map(({ sites }, index) => ({ sites, flow: chosen.flows[index] ?? 0 })) : paths;
    if (chains.length === 0) return undefined;
    const used = new Set(chains.flatMap(({ sites }) => sites));
    const kept: State = {
      starts: state.starts.map((start, site) => (used.has(site) ? start : -1)),
      ends: state.ends.map((end, site) => (used.has(site) ? end : -1)),
    };
    const holdings = holdingsOf(field, kept);
    const at = new Map(holdings.map(({ site }, index) => [site, index]));
    const tiling: Tiling = {
      holdings,
      chains: chains.map(({ sites, flow }) => ({
        holdings: sites.map((site) => at.get(siteAt(field, site).name) ?? 0),
        tokensPerSecond: flow / MICRO,
        secondsPerToken: this.#seconds(kept, sites),
      })),
      tokensPerSecond: chains.reduce((sum, { flow }) => sum + flow, 0) / MICRO,
      pricePerHour: this.#price(kept, used.values()),
      bottleneck,
      tokensPerSecondBound: this.bound / MICRO,
    };
    const { chainCount } = field.problem;
    return field.mayRepeat && chainCount !== undefined ? repeated(tiling, chainCount) : tiling;
  }

  #seconds(state: State, sites: readonly number[]): number {
    const { field } = this;
    const [first, last] = [sites[0] ?? 0, sites.at(-1) ?? 0];
    let seconds = field.problem.links.entry(siteAt(field, first)).seconds;
    sites.forEach((site, index) => {
      seconds += secondsAt(field, site, startAt(state, site), endAt(state, site));
      const before = sites[index - 1];
      if (before !== undefined) seconds += linkBetween(field, before, site).seconds;
    });
    return seconds + field.problem.links.exit(siteAt(field, last)).seconds;
  }
}

/** The widest chains named again until there are as many as asked for; each shares its flow with its twin. */
export function repeated(tiling: Tiling, count: number): Tiling {
  if (tiling.chains.length >= count) return tiling;
  const chains = tiling.chains.toSorted((a, b) => b.tokensPerSecond - a.tokensPerSecond);
  const times = chains.map((_, index) => Math.floor(count / chains.length) + (index < count % chains.length ? 1 : 0));
  return {
    ...tiling,
    chains: chains.flatMap((chain, index) => {
      const twins = times[index] ?? 1;
      return Array.from({ length: twins }, () => ({ ...chain, tokensPerSecond: chain.tokensPerSecond / twins }));
    }),
  };
}

const excess = (price: number, most: number): number =>
  price <= most * (1 + NEVER_LESS) ? 0 : 0.5 + (price - most) / Math.max(most, NEVER_LESS);

const shortfall = (flow: number, least: number): number =>
  flow >= Math.floor(least) ? 0 : 0.5 + (least - flow) / least;
