/**
 * How much flows through given holdings when any path may carry it (the whole-interval rule: a holding hands over only
 * where another begins), and how far they are from carrying what is wanted. Positions between layers are vertices and
 * a holding is an arc from its first position to its last, with its rate as capacity. Only where a link at a position
 * could bind is that vertex taken apart into the pairs that meet there.
 */
import { type Field, type State, endAt, linkBetween, micro, siteAt, startAt } from "./field.ts";
import { Network } from "./network.ts";

/** Sites above this are too many to look at every pair of them: links are then met only where chains are made. */
const PAIRS_MAX = 700;
const UNBOUNDED = Number.MAX_SAFE_INTEGER / 4;
/** A layer that nobody serves costs two, so that passing by a link too thin may cost one on each side. */
const LAYER_COST = 2;

export type LinkRates = {
  readonly mayBind: boolean;
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
    return { mayBind: false, between: (a, b) => micro(linkBetween(field, a, b).tokensPerSecond), ...ends };
  const top = field.rates.map((rates) => rates.reduce((most, rate) => Math.max(most, rate), 0));
  const pairs = new Float64Array(count * count);
  let mayBind = top.some((rate, site) => ends.entry(site) < rate || ends.exit(site) < rate);
  for (let from = 0; from < count; from += 1)
    for (let to = 0; to < count; to += 1) {
      if (from === to) continue;
      const rate = micro(linkBetween(field, from, to).tokensPerSecond);
      pairs[from * count + to] = rate;
      mayBind ||= rate < Math.min(top[from] ?? 0, top[to] ?? 0);
    }
  return { mayBind, between: (from, to) => pairs[from * count + to] ?? 0, ...ends };
}

type Drawn = {
  readonly source: number;
  readonly sink: number;
  readonly holdings: readonly {
    readonly site: number;
    readonly arc: number;
    readonly tail: number;
    readonly head: number;
  }[];
  readonly hops: readonly { readonly from: number; readonly to: number; readonly arc: number }[];
};

export type PathFlow = { readonly sites: readonly number[]; readonly flow: number };

export class FlowJudge {
  readonly #field: Field;
  readonly #links: LinkRates;
  readonly #network = new Network();
  readonly #hub: Int32Array;
  readonly #entering: Int32Array;
  readonly #leaving: Int32Array;

  constructor(field: Field, links = linkRatesOf(field)) {
    this.#field = field;
    this.#links = links;
    this.#hub = new Int32Array(field.layerCount + 1);
    this.#entering = new Int32Array(field.sites.length);
    this.#leaving = new Int32Array(field.sites.length);
  }

  /** The greatest flow, micro-tokens a second. */
  flow(state: State): number {
    const drawn = this.#draw(state, UNBOUNDED, false);
    return this.#network.send(drawn.source, drawn.sink, UNBOUNDED).sent;
  }

  /**
   * What is missing until `wanted` flows, in layers: the least that others would have to serve, as a share of `wanted`.
   * 0 just where it flows. Falls with every step towards it, where the flow itself stays the same until the last.
   */
  missing(state: State, wanted: number): number {
    const drawn = this.#draw(state, wanted, true);
    return this.#network.send(drawn.source, drawn.sink, wanted).cost / (wanted * LAYER_COST);
  }

  /** A greatest flow as paths, widest first, and what bounds it. */
  paths(state: State): { readonly paths: readonly PathFlow[]; readonly bottleneck: readonly string[] } {
    const drawn = this.#draw(state, UNBOUNDED, false);
    this.#network.send(drawn.source, drawn.sink, UNBOUNDED);
    return { paths: this.#decompose(state, drawn), bottleneck: this.#bottleneck(drawn) };
  }

  #draw(state: State, wanted: number, withGaps: boolean): Drawn {
    const { layerCount, rates, sites } = this.#field;
    const used: number[] = [];
    const hub = this.#hub;
    hub.fill(-1);
    hub[0] = 0;
    hub[layerCount] = 0;
    for (let site = 0; site < sites.length; site += 1) {
      const start = startAt(state, site);
      if (start < 0) continue;
      used.push(site);
      hub[start] = 0;
      hub[endAt(state, site)] = 0;
    }
    let vertexCount = 0;
    for (let position = 0; position <= layerCount; position += 1)
      if (hub[position] === 0) hub[position] = vertexCount++;
    const hubCount = vertexCount;
    for (const site of used) {
      this.#entering[site] = hub[startAt(state, site)] ?? 0;
      this.#leaving[site] = hub[endAt(state, site)] ?? 0;
    }
    const tight = this.#links.mayBind ? this.#tightPositions(state, used, wanted) : NO_POSITIONS;
    for (const site of used) {
      if (tight.has(startAt(state, site))) this.#entering[site] = vertexCount++;
      if (tight.has(endAt(state, site))) this.#leaving[site] = vertexCount++;
    }
    const network = this.#network;
    network.reset(vertexCount);
    const holdings = used.map((site) => {
      const [tail, head] = [this.#entering[site] ?? 0, this.#leaving[site] ?? 0];
      const rate = rates[site]?.[endAt(state, site) - startAt(state, site)] ?? 0;
      return { site, tail, head, arc: network.connect(tail, head, Math.min(rate, wanted)) };
    });
    const hops = [...tight].flatMap((position) => this.#takeApart(state, used, position, wanted, withGaps));
    if (withGaps)
      for (let position = 0, from = 0; position < layerCount; position += 1)
        if ((hub[position + 1] ?? -1) >= 0) {
          const at = hub[position + 1] ?? 0;
          network.connect(at - 1, at, wanted, LAYER_COST * (position + 1 - from));
          from = position + 1;
        }
    return { source: 0, sink: hubCount - 1, holdings, hops };
  }

  /** Positions where some link carries less than both sides of it could. */
  #tightPositions(state: State, used: readonly number[], wanted: number): ReadonlySet<number> {
    const { layerCount, rates } = this.#field;
    const tight = new Set<number>();
    const rateOf = (site: number): number =>
      Math.min(wanted, rates[site]?.[endAt(state, site) - startAt(state, site)] ?? 0);
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

  #takeApart(
    state: State,
    used: readonly number[],
    position: number,
    wanted: number,
    withGaps: boolean,
  ): Drawn["hops"] {
    const network = this.#network;
    const { layerCount } = this.#field;
    const hub = this.#hub[position] ?? 0;
    const hops: { from: number; to: number; arc: number }[] = [];
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
          hops.push({ from: site, to, arc: network.connect(leaving, this.#entering[to] ?? 0, capacity) });
        }
    }
    return hops;
  }

  #decompose(state: State, { holdings, hops }: Drawn): readonly PathFlow[] {
    const network = this.#network;
    type Step = { readonly site: number; left: number };
    const starting = new Map<number, Step[]>();
    const bySite = new Map<number, Step>();
    for (const { site, arc } of holdings) {
      const step = { site, left: network.flow(arc) };
      bySite.set(site, step);
      if (step.left > 0) listIn(starting, startAt(state, site)).push(step);
    }
    const over = new Map<number, { readonly to: number; left: number }[]>();
    for (const { from, to, arc } of hops)
      if (network.flow(arc) > 0) listIn(over, from).push({ to, left: network.flow(arc) });
    const paths: PathFlow[] = [];
    for (;;) {
      const taken: { left: number }[] = [];
      const sites: number[] = [];
      let step = this.#nearest(undefined, starting.get(0));
      while (step !== undefined) {
        taken.push(step);
        sites.push(step.site);
        const end = endAt(state, step.site);
        if (end === this.#field.layerCount) break;
        const hop = over.get(step.site)?.find(({ left }) => left > 0);
        if (hop !== undefined) taken.push(hop);
        step = hop !== undefined ? bySite.get(hop.to) : this.#nearest(step.site, starting.get(end));
      }
      if (step === undefined) return paths.sort((a, b) => b.flow - a.flow);
      const flow = taken.reduce((least, { left }) => Math.min(least, left), UNBOUNDED);
      for (const each of taken) each.left -= flow;
      paths.push({ sites, flow });
    }
  }

  /** Of those with flow left, the one that is reached soonest; takes out those with none. */
  #nearest<Step extends { readonly site: number; left: number }>(
    from: number | undefined,
    list: Step[] | undefined,
  ): Step | undefined {
    if (list === undefined) return undefined;
    while (list.length > 0 && (list.at(-1)?.left ?? 0) <= 0) list.pop();
    if (from === undefined || list.length > NEAR_MAX) return list.at(-1);
    let best: Step | undefined;
    let least = Number.POSITIVE_INFINITY;
    for (const step of list) {
      if (step.left <= 0) continue;
      const { seconds } = linkBetween(this.#field, from, step.site);
      if (seconds >= least) continue;
      least = seconds;
      best = step;
    }
    return best;
  }

  #bottleneck({ holdings, hops }: Drawn): readonly string[] {
    const reached = this.#network.reached(0);
    const name = (site: number): string => siteAt(this.#field, site).name;
    const cut = (tail: number, head: number): boolean => reached.has(tail) && !reached.has(head);
    return [
      ...holdings.filter(({ tail, head }) => cut(tail, head)).map(({ site }) => name(site)),
      ...hops
        .filter(({ from, to }) => cut(this.#leaving[from] ?? 0, this.#entering[to] ?? 0))
        .map(({ from, to }) => `${name(from)} → ${name(to)}`),
    ];
  }
}

const NO_POSITIONS: ReadonlySet<number> = new Set();
/** More than so many that a holding could hand over to are not compared one by one. */
const NEAR_MAX = 64;

function listIn<Item>(lists: Map<number, Item[]>, key: number): Item[] {
  const list = lists.get(key) ?? [];
  if (list.length === 0) lists.set(key, list);
  return list;
}
