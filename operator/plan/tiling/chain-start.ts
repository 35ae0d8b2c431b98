/**
 * Chains to begin from, one after the other: a beam over positions, in which every partial chain is extended by sites
 * not used yet, or by holdings that stand already and begin where it ends.
 */
import {
  type Field,
  type State,
  emptyState,
  endAt,
  fits,
  hold,
  linkBetween,
  micro,
  rateAt,
  secondsAt,
  sessionRate,
  siteAt,
  startAt,
} from "./field.ts";
import type { Kinds } from "./kinds.ts";

export type ChainCost = "seconds" | "price" | "sites";

export type Beam = {
  readonly width: number; // partial chains kept at each layer
  readonly kinds: number; // looked at for each extension: the roomiest, the fastest by layer, the cheapest
  readonly ends: number; // for each of them, the farthest first
};

type Partial = {
  readonly before: Partial | undefined;
  readonly site: number;
  readonly start: number;
  readonly end: number;
  readonly cost: number;
  readonly seconds: number; // so far
  readonly fresh: boolean; // some holding of it is new
  readonly providerCount: number;
  readonly layersOf: ReadonlyMap<number, number>; // by provider; empty where no rule asks
  readonly turn: number; // in which it was offered: what is equal stays in that order
};

/** Who may serve a chain of so many micro-tokens a second, in orders of merit: kinds of sites, whoever of them is free. */
export type Reach = {
  readonly field: Field;
  readonly members: readonly (readonly number[])[]; // of each kind with room at this rate
  readonly room: readonly number[]; // of each of these kinds, in layers
  readonly orders: () => readonly (readonly number[])[]; // the roomiest, the fastest by layer, the cheapest
  readonly rate: number;
};

export function reachOf(field: Field, kinds: Kinds, rate: number): Reach {
  const members = kinds.members.filter(([site]) => site !== undefined && longestAt(field, site, rate) > 0);
  const room = members.map(([site = 0]) => longestAt(field, site, rate));
  const by = (value: (site: number, layers: number) => number): readonly number[] => {
    const values = Float64Array.from(members, ([site = 0], index) => value(site, room[index] ?? 1));
    return [...members.keys()].sort((a, b) => (values[a] ?? 0) - (values[b] ?? 0));
  };
  let known: readonly (readonly number[])[] | undefined;
  const orders = (): readonly (readonly number[])[] => {
    known ??= [
      by((_, layers) => -layers),
      by((site, layers) => (field.seconds[site]?.[layers] ?? 0) / layers),
      by((site, layers) => siteAt(field, site).pricePerHour / layers),
    ];
    return known;
  };
  return { field, members, room, orders, rate };
}

/**
 * `state` with one more chain that carries at least the reach's rate and costs little, and the sites that it passes;
 * undefined where the beam finds none. Holdings that stand in `state` keep their layers.
 */
export function withChain(
  reach: Reach,
  state: State,
  cost: ChainCost,
  mayShare: boolean,
  beam: Beam,
): { readonly state: State; readonly sites: readonly number[] } | undefined {
  const { field, rate } = reach;
  const { layerCount } = field;
  const candidates = candidatesOf(reach, state, beam.kinds);
  const standing = mayShare ? standingByStart(field, state) : new Map<number, number[]>();
  const beams = new Beams(field, cost, rate, beam.width);
  const passed = new Uint8Array(field.sites.length);
  const mark = (from: Partial | undefined, value: number): void => {
    for (let at = from; at !== undefined && at.site >= 0; at = at.before) {
      passed[at.site] = value;
      for (const rival of field.rivals[at.site] ?? []) passed[rival] = value;
    }
  };
  for (let position = 0; position < layerCount; position += 1)
    for (const partial of beams.at(position)) {
      for (const site of standing.get(position) ?? []) beams.offer(partial, site, endAt(state, site), false);
      mark(partial, 1);
      const sites = new Set<number>();
      fresh(candidates.all, passed, beam.kinds, sites);
      if (partial.site >= 0) fresh(candidates.near(siteAt(field, partial.site).region), passed, beam.kinds, sites);
      for (const site of sites) {
        let left = beam.ends;
        const most = Math.min(
          position + (field.longest[site] ?? 0),
          position + shareLeft(field, partial, site),
          layerCount,
        );
        for (let end = most; end > position && left > 0; end -= 1) {
          if (rateAt(field, site, position, end) < rate || !fits(field, site, position, end)) continue;
          left -= 1;
          beams.offer(partial, site, end, true);
        }
      }
      mark(partial, 0);
    }
  const { providersMin } = field.problem.rules;
  const whole = beams.at(layerCount).find(({ providerCount, fresh }) => providerCount >= providersMin && fresh);
  if (whole === undefined) return undefined;
  const held: State = { starts: state.starts.slice(), ends: state.ends.slice() };
  const sites: number[] = [];
  for (let at: Partial | undefined = whole; at !== undefined && at.site >= 0; at = at.before) {
    hold(held, at.site, at.start, at.end);
    sites.unshift(at.site);
  }
  return { state: held, sites };
}

/** Layers that the site's owner may still hold of this chain. */
const shareLeft = ({ problem: { rules }, provider }: Field, { layersOf }: Partial, site: number): number =>
  rules.providerLayersMax - (layersOf.get(provider[site] ?? 0) ?? 0);

const NOTHING: readonly Partial[] = [];

/** Partial chains by the layer that they have come to: the cheapest few, and as many again that pass more providers. */
class Beams {
  readonly #field: Field;
  readonly #cost: ChainCost;
  readonly #rate: number;
  readonly #width: number;
  readonly #looks: (Partial[][] | undefined)[]; // at each position, by providers so far and whether anything is new
  readonly #tellsProviders: boolean;
  #turn = 0;

  constructor(field: Field, cost: ChainCost, rate: number, width: number) {
    const { rules } = field.problem;
    this.#field = field;
    this.#cost = cost;
    this.#rate = rate;
    this.#width = width;
    this.#tellsProviders = rules.providersMin > 1 || rules.providerLayersMax < field.layerCount;
    const root: Partial = {
      before: undefined,
      site: -1,
      start: 0,
      end: 0,
      cost: 0,
      seconds: 0,
      fresh: false,
      providerCount: this.#tellsProviders ? 0 : 1,
      layersOf: new Map(),
      turn: 0,
    };
    this.#looks = new Array(field.layerCount + 1);
    this.#looks[0] = [[root]];
  }

  /** Cheapest first. */
  at(position: number): readonly Partial[] {
    const looks = this.#looks[position];
    if (looks === undefined) return NOTHING;
    return looks.flat().sort((a, b) => a.cost - b.cost || a.turn - b.turn);
  }

  /** `partial` with `site` from where it ends to `end`, if links and rules allow. */
  offer(partial: Partial, site: number, end: number, fresh: boolean): void {
    const field = this.#field;
    const { links, rules } = field.problem;
    const link = partial.site < 0 ? links.entry(siteAt(field, site)) : linkBetween(field, partial.site, site);
    if (micro(link.tokensPerSecond) < this.#rate) return;
    const provider = field.provider[site] ?? 0;
    const layers = this.#tellsProviders ? (partial.layersOf.get(provider) ?? 0) + end - partial.end : 0;
    if (layers > rules.providerLayersMax) return;
    const exit = end === field.layerCount ? links.exit(siteAt(field, site)) : undefined;
    if (exit !== undefined && micro(exit.tokensPerSecond) < this.#rate) return;
    const seconds = link.seconds + (exit?.seconds ?? 0) + secondsAt(field, site, partial.end, end);
    if (sessionRate(field, partial.seconds + seconds) < this.#rate) return;
    const step =
      this.#cost === "seconds"
        ? seconds
        : (this.#cost === "price" && fresh ? siteAt(field, site).pricePerHour : 1) + seconds / 1e3;
    const isNew = this.#tellsProviders && !partial.layersOf.has(provider);
    const providerCount = partial.providerCount + (isNew ? 1 : 0);
    const cost = partial.cost + step;
    const isFresh = partial.fresh || fresh;
    const look = 2 * Math.min(providerCount, rules.providersMin) + (isFresh ? 1 : 0);
    const kept = this.#kept(end, look);
    if (kept.length >= this.#width && cost >= (kept.at(-1)?.cost ?? 0)) return;
    this.#turn += 1;
    let at = kept.length;
    while (at > 0 && (kept[at - 1]?.cost ?? 0) > cost) at -= 1;
    kept.splice(at, 0, {
      before: partial,
      site,
      start: partial.end,
      end,
      cost,
      seconds: partial.seconds + seconds,
      fresh: isFresh,
      providerCount,
      layersOf: this.#tellsProviders ? new Map([...partial.layersOf, [provider, layers]]) : partial.layersOf,
      turn: this.#turn,
    });
    if (kept.length > this.#width) kept.pop();
  }

  #kept(position: number, look: number): Partial[] {
    const looks = this.#looks[position] ?? [];
    this.#looks[position] = looks;
    const kept = looks[look] ?? [];
    looks[look] = kept;
    return kept;
  }
}

/** In each order the members of a kind that are free. */
type Lists = readonly (readonly (readonly number[])[])[];
type Candidates = { readonly all: Lists; readonly near: (region: string) => Lists };

function candidatesOf({ field, members, orders }: Reach, state: State, most: number): Candidates {
  const isFree = (site: number): boolean =>
    startAt(state, site) < 0 && !(field.rivals[site] ?? []).some((rival) => startAt(state, rival) >= 0);
  const free = members.map((those) => (those.every(isFree) ? those : those.filter(isFree)));
  const some = free.filter(({ length }) => length > 0);
  if (some.length <= most) return { all: [some], near: () => [some] };
  const inOrder = (counts: (those: readonly number[]) => boolean): Lists =>
    orders().map((order) => order.flatMap((kind) => [free[kind] ?? []]).filter(counts));
  const byRegion = new Map<string, Lists>();
  const near = (region: string): Lists => {
    const known = byRegion.get(region) ?? inOrder(([site]) => site !== undefined && regionAt(field, site) === region);
    byRegion.set(region, known);
    return known;
  };
  return { all: inOrder(({ length }) => length > 0), near };
}

const regionAt = (field: Field, site: number): string => siteAt(field, site).region;

/** From the top of each list, the first few kinds of which the chain has not passed everybody. */
function fresh(lists: Lists, passed: Uint8Array, most: number, found: Set<number>): void {
  for (const list of lists) {
    let left = Math.ceil(most / lists.length);
    for (const kind of list) {
      if (left <= 0) break;
      const site = kind.find((each) => passed[each] !== 1);
      if (site === undefined) continue;
      found.add(site);
      left -= 1;
    }
  }
}

/** Most layers that the site holds at `rate` or faster. */
export function longestAt(field: Field, site: number, rate: number): number {
  const rates = field.rates[site];
  for (let length = field.longest[site] ?? 0; length > 0; length -= 1)
    if ((rates?.[length] ?? 0) >= rate) return length;
  return 0;
}

function standingByStart(field: Field, state: State): Map<number, number[]> {
  const standing = new Map<number, number[]>();
  field.sites.forEach((_, site) => {
    const start = startAt(state, site);
    if (start < 0) return;
    const those = standing.get(start);
    if (those === undefined) standing.set(start, [site]);
    else those.push(site);
  });
  return standing;
}

/** As many chains as asked for, apart where the sites last, else crossing; undefined where the beam finds too few. */
export function chainsAt(
  field: Field,
  kinds: Kinds,
  count: number,
  rate: number,
  cost: ChainCost,
  beam: Beam,
): State | undefined {
  const reach = reachOf(field, kinds, rate);
  let state: State | undefined = emptyState(field);
  for (let chain = 0; chain < count && state !== undefined; chain += 1) {
    const held: State = state;
    state = (withChain(reach, held, cost, false, beam) ?? withChain(reach, held, cost, true, beam))?.state;
  }
  return state;
}
