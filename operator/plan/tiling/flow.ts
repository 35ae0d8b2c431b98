/**
 * How much flows through given holdings when any path may carry it (the whole-interval rule: a holding hands over only
 * where another begins), and how far they are from carrying what is wanted. Positions between layers are vertices and
 * a holding is an arc from its first position to its last, with its rate as capacity. Only where a link at a position
 * could bind is that vertex taken apart into the pairs that meet there.
 */
import { type Field, type State, endAt, linkBetween, micro, rateAt, siteAt, startAt } from "./field.ts";
import { Network } from "./network.ts";

/** Sites above this are too many to look at every pair of them: links are then met only where chains are made. */
const PAIRS_MAX = 700;
const UNBOUNDED = Number.MAX_SAFE_INTEGER / 4;
/** A layer that nobody serves costs two, so that passing by a link too thin may cost one on each side. */
const LAYER_COST = 2;

export type LinkRates = {
  readonly mayBind: boolean;
  readonly areKnown: boolean; // false: too many pairs to have asked for each
  readonly between: (from: number, to: number) => number; // micro-tokens a second
  readonly entry: (site: number) => number;
  readonly exit: (site: number) => number;
};

export function linkRatesOf(field: Field): LinkRates {
  const count = field.sites.length;
  const { entry, exit } = field.problem.links;
  const entries = Float64Array.from(field.sites, (site) => micro(entry(site).tokensPerSecond));
  const exits = Float64Array.from(field.sites, (site) => micro(exit(site).tokensPerSecond));
  const ends = { entry: (site: number) => entries[site] ?? 0, exit: (site: number) => exits[site] ?? 0 };
  if (count > PAIRS_MAX)
    return {
      mayBind: false,
      areKnown: false,
      between: (a, b) => micro(linkBetween(field, a, b).tokensPerSecond),
      ...ends,
    };
  const top = field.rates.map((rates, site) => Math.max(...rates, ...(field.lastRates[site] ?? [])));
  const pairs = new Float64Array(count * count);
  let mayBind = top.some((rate, site) => ends.entry(site) < rate || ends.exit(site) < rate);
  for (let from = 0; from < count; from += 1)
    for (let to = 0; to < count; to += 1) {
      if (from === to) continue;
      const rate = micro(linkBetween(field, from, to).tokensPerSecond);
      pairs[from * count + to] = rate;
      mayBind ||= rate < Math.min(top[from] ?? 0, top[to] ?? 0);
    }
  return { mayBind, areKnown: true, between: (from, to) => pairs[from * count + to] ?? 0, ...ends };
}

export type PathFlow = { readonly sites: readonly number[]; readonly flow: number };

export class FlowJudge {
  readonly #field: Field;
  readonly #links: LinkRates;
  readonly #network = new Network();
  readonly #hub: Int32Array;
  readonly #entering: Int32Array;
  readonly #leaving: Int32Array;
  readonly #arcs: Int32Array; // of each site in use
  readonly #used: number[] = [];
  readonly #regionOf: readonly number[];
  readonly #regionCount: number;
  readonly #meeting: Int32Array; // by position and region
  #work = 0;
  readonly #hops: { readonly from: number; readonly to: number; readonly arc: number }[] = [];

  constructor(field: Field, links = linkRatesOf(field)) {
    this.#field = field;
    this.#links = links;
    this.#hub = new Int32Array(field.layerCount + 1);
    this.#entering = new Int32Array(field.sites.length);
    this.#leaving = new Int32Array(field.sites.length);
    this.#arcs = new Int32Array(field.sites.length);
    const regions = [...new Set(field.sites.map(({ region }) => region))].sort();
    const index = new Map(regions.map((region, at) => [region, at]));
    this.#regionOf = field.sites.map(({ region }) => index.get(region) ?? 0);
    this.#regionCount = regions.length;
    this.#meeting = new Int32Array((field.layerCount + 1) * regions.length);
  }

  /** Steps of arithmetic so far, about a hundred million a second. */
  get work(): number {
    return this.#network.work + this.#work;
  }

  /** The greatest flow, micro-tokens a second. */
  flow(state: State): number {
    if (!this.#links.areKnown) return this.paths(state).paths.reduce((sum, { flow }) => sum + flow, 0);
    const sink = this.#draw(state, UNBOUNDED, false);
    return this.#network.send(0, sink, UNBOUNDED).sent;
  }

  /**
   * What is missing until `wanted` flows, in layers: the least that others would have to serve, as a share of `wanted`.
   * 0 just where it flows. Falls with every step towards it, where the flow itself stays the same until the last.
   * Where it is more than `enough`, some figure above `enough` is the answer: that is sooner known.
   */
  missing(state: State, wanted: number, enough = Number.POSITIVE_INFINITY): number {
    const sink = this.#draw(state, wanted, true);
    return this.#network.send(0, sink, wanted, enough * wanted * LAYER_COST).cost / (wanted * LAYER_COST);
  }

  /** A greatest flow as paths, widest first, and what bounds it. */
  paths(state: State): { readonly paths: readonly PathFlow[]; readonly bottleneck: readonly string[] } {
    const sink = this.#draw(state, UNBOUNDED, false);
    this.#network.send(0, sink, UNBOUNDED);
    return { paths: this.#decompose(state), bottleneck: this.#bottleneck() };
  }

  /** Makes the network; the source is vertex 0, the sink is the answer. */
  #draw(state: State, wanted: number, withGaps: boolean): number {
    const { layerCount, sites } = this.#field;
    const [hub, used, network] = [this.#hub, this.#used, this.#network];
    hub.fill(-1);
    hub[0] = 0;
    hub[layerCount] = 0;
    used.length = 0;
    this.#hops.length = 0;
    for (let site = 0; site < sites.length; site += 1) {
      const start = state.starts[site] ?? -1;
      if (start < 0) continue;
      used.push(site);
      hub[start] = 0;
      hub[state.ends[site] ?? 0] = 0;
    }
    this.#work += 250 + sites.length + layerCount + (this.#links.mayBind ? used.length * used.length : 0);
    let vertexCount = 0;
    for (let position = 0; position <= layerCount; position += 1)
      if (hub[position] === 0) hub[position] = vertexCount++;
    const sink = vertexCount - 1;
    const tight = this.#links.mayBind ? this.#tightPositions(state, used, wanted) : NO_POSITIONS;
    const byRegion = !this.#links.areKnown && this.#regionCount > 1;
    if (byRegion) vertexCount = this.#meetByRegion(state, vertexCount);
    else
      for (const site of used) {
        const [start, end] = [state.starts[site] ?? 0, state.ends[site] ?? 0];
        this.#entering[site] = tight.has(start) ? vertexCount++ : (hub[start] ?? 0);
        this.#leaving[site] = tight.has(end) ? vertexCount++ : (hub[end] ?? 0);
      }
    network.reset(vertexCount);
    for (const site of used) {
      const rate = rateAt(this.#field, site, state.starts[site] ?? 0, state.ends[site] ?? 0);
      this.#arcs[site] = network.connect(
        this.#entering[site] ?? 0,
        this.#leaving[site] ?? 0,
        rate < wanted ? rate : wanted,
      );
    }
    if (byRegion) this.#joinRegions(state, wanted, withGaps);
    for (const position of tight) this.#takeApart(state, used, position, wanted, withGaps);
    if (withGaps)
      for (let position = 1, from = 0; position <= layerCount; position += 1) {
        const at = hub[position] ?? -1;
        if (at < 0) continue;
        network.connect(at - 1, at, wanted, LAYER_COST * (position - from));
        from = position;
      }
    return sink;
  }

  /** Gives every region a vertex of its own at each position between layers, where pairs are too many to look at. */
  #meetByRegion(state: State, vertexCount: number): number {
    const { layerCount } = this.#field;
    this.#meeting.fill(-1);
    const meet = (position: number, region: number): number => {
      if (position === 0 || position === layerCount) return this.#hub[position] ?? 0;
      const at = position * this.#regionCount + region;
      if ((this.#meeting[at] ?? -1) < 0) this.#meeting[at] = vertexCount++;
      return this.#meeting[at] ?? 0;
    };
    for (const site of this.#used) {
      const region = this.#regionOf[site] ?? 0;
      this.#entering[site] = meet(state.starts[site] ?? 0, region);
      this.#leaving[site] = meet(state.ends[site] ?? 0, region);
    }
    return vertexCount;
  }

  /** Between two regions at a position: one link's rate for as many pairs as can be apart from one another. */
  #joinRegions(state: State, wanted: number, withGaps: boolean): void {
    const { layerCount } = this.#field;
    const count = this.#regionCount;
    type End = { readonly site: number; count: number };
    const [ending, starting] = [new Map<number, End>(), new Map<number, End>()];
    for (const site of this.#used) {
      const region = this.#regionOf[site] ?? 0;
      for (const [ends, position] of [
        [starting, state.starts[site] ?? 0],
        [ending, state.ends[site] ?? 0],
      ] as const) {
        const key = position * count + region;
        const end = ends.get(key);
        if (end === undefined) ends.set(key, { site, count: 1 });
        else end.count += 1;
      }
    }
    for (const [key, from] of ending) {
      const position = Math.floor(key / count);
      if (position === layerCount) continue;
      const tail = this.#meeting[key] ?? 0;
      if (withGaps) this.#network.connect(tail, this.#hub[position] ?? 0, wanted, 1);
      for (let region = 0; region < count; region += 1) {
        const to = starting.get(position * count + region);
        if (to === undefined || position * count + region === key) continue;
        const rate = this.#links.between(from.site, to.site) * Math.min(from.count, to.count);
        this.#network.connect(tail, this.#meeting[position * count + region] ?? 0, Math.min(wanted, rate));
      }
    }
    if (withGaps)
      for (const key of starting.keys()) {
        const position = Math.floor(key / count);
        if (position > 0) this.#network.connect(this.#hub[position] ?? 0, this.#meeting[key] ?? 0, wanted, 1);
      }
  }

  /** Positions where some link carries less than both sides of it could. */
  #tightPositions(state: State, used: readonly number[], wanted: number): ReadonlySet<number> {
    const { layerCount } = this.#field;
    const tight = new Set<number>();
    const rateOf = (site: number): number =>
      Math.min(wanted, rateAt(this.#field, site, startAt(state, site), endAt(state, site)));
    for (const to of used) {
      const position = startAt(state, to);
      if (position === 0 && this.#links.entry(to) < rateOf(to)) tight.add(0);
      if (endAt(state, to) === layerCount && this.#links.exit(to) < rateOf(to)) tight.add(layerCount);
      if (position === 0 || tight.has(position)) continue;
      for (const from of used)
        if (endAt(state, from) === position && this.#links.between(from, to) < Math.min(rateOf(from), rateOf(to)))
          tight.add(position);
    }
    return tight;
  }

  #takeApart(state: State, used: readonly number[], position: number, wanted: number, withGaps: boolean): void {
    const network = this.#network;
    const { layerCount } = this.#field;
    const hub = this.#hub[position] ?? 0;
    for (const site of used) {
      const [entering, leaving] = [this.#entering[site] ?? 0, this.#leaving[site] ?? 0];
      if (startAt(state, site) === position) {
        if (position === 0) network.connect(hub, entering, Math.min(wanted, this.#links.entry(site)));
        if (withGaps) network.connect(hub, entering, wanted, 1);
      }
      if (endAt(state, site) !== position) continue;
      if (position === layerCount) network.connect(leaving, hub, Math.min(wanted, this.#links.exit(site)));
      if (withGaps) network.connect(leaving, hub, wanted, 1);
      for (const to of used)
        if (startAt(state, to) === position) {
          const capacity = Math.min(wanted, this.#links.between(site, to));
          this.#hops.push({ from: site, to, arc: network.connect(leaving, this.#entering[to] ?? 0, capacity) });
        }
    }
  }

  #decompose(state: State): readonly PathFlow[] {
    const network = this.#network;
    const starting: Starting = new Map();
    const bySite = new Map<number, Step>();
    for (const site of this.#used) {
      const step = { site, left: network.flow(this.#arcs[site] ?? 0) };
      bySite.set(site, step);
      if (step.left <= 0) continue;
      const regions = starting.get(startAt(state, site)) ?? new Map<string, Step[]>();
      starting.set(startAt(state, site), regions);
      listIn(regions, siteAt(this.#field, site).region).push(step);
    }
    const over = new Map<number, { readonly to: number; left: number }[]>();
    for (const { from, to, arc } of this.#hops)
      if (network.flow(arc) > 0) listIn(over, from).push({ to, left: network.flow(arc) });
    const paths: PathFlow[] = [];
    const lengthMax = this.#field.layerCount;
    for (;;) {
      const taken: { left: number }[] = [];
      const sites: number[] = [];
      let step = this.#nearest(undefined, starting.get(0));
      while (step !== undefined) {
        taken.push(step);
        sites.push(step.site);
        const end = endAt(state, step.site);
        if (end === lengthMax) break;
        const hop = over.get(step.site)?.find(({ left }) => left > 0);
        if (hop !== undefined) taken.push(hop);
        step = hop !== undefined ? bySite.get(hop.to) : this.#nearest(step.site, starting.get(end));
      }
      if (step === undefined) return paths.sort((a, b) => b.flow - a.flow);
      const flow = taken.reduce((least, { left }) => Math.min(least, left), UNBOUNDED);
      for (const each of taken) each.left -= flow;
      paths.push({ sites, flow: this.#links.areKnown ? flow : Math.min(flow, this.#thinnest(sites)) });
    }
  }

  /** The least that a link of the path carries: asked where there are too many pairs to have known it before. */
  #thinnest(sites: readonly number[]): number {
    const [first, last] = [sites[0] ?? 0, sites.at(-1) ?? 0];
    const ends = Math.min(this.#links.entry(first), this.#links.exit(last));
    return sites.reduce((least, site, index) => {
      const before = sites[index - 1];
      return before === undefined ? least : Math.min(least, this.#links.between(before, site));
    }, ends);
  }

  /** Of those with flow left, one that is reached soon: in the same region if there is one. */
  #nearest(from: number | undefined, regions: ReadonlyMap<string, Step[]> | undefined): Step | undefined {
    let best: Step | undefined;
    let least = Number.POSITIVE_INFINITY;
    const near = from === undefined ? undefined : regions?.get(siteAt(this.#field, from).region);
    for (const list of [...(near === undefined ? [] : [near]), ...(regions?.values() ?? [])]) {
      while (list.length > 0 && (list.at(-1)?.left ?? 0) <= 0) list.pop();
      for (const step of list.slice(-NEAR_MAX)) {
        if (step.left <= 0) continue;
        const seconds = from === undefined ? 0 : linkBetween(this.#field, from, step.site).seconds;
        if (seconds >= least) continue;
        least = seconds;
        best = step;
      }
      if (best !== undefined && (list === near || from === undefined)) return best;
    }
    return best;
  }

  #bottleneck(): readonly string[] {
    const reached = this.#network.reached(0);
    const name = (site: number): string => siteAt(this.#field, site).name;
    const isCut = (tail: number | undefined, head: number | undefined): boolean =>
      reached.has(tail ?? 0) && !reached.has(head ?? 0);
    return [
      ...this.#used.filter((site) => isCut(this.#entering[site], this.#leaving[site])).map(name),
      ...this.#hops
        .filter(({ from, to }) => isCut(this.#leaving[from], this.#entering[to]))
        .map(({ from, to }) => `${name(from)} → ${name(to)}`),
    ];
  }
}

const NO_POSITIONS: ReadonlySet<number> = new Set();
/** More than so many that a holding could hand over to are not compared one by one. */
const NEAR_MAX = 24;

type Step = { readonly site: number; left: number };
/** By the layer at which they begin, then by region. */
type Starting = Map<number, Map<string, Step[]>>;

function listIn<Key, Item>(lists: Map<Key, Item[]>, key: Key): Item[] {
  const list = lists.get(key) ?? [];
  if (list.length === 0) lists.set(key, list);
  return list;
}
