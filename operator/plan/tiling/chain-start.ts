/**
 * Chains to begin from, one after the other: a beam over positions, in which every partial chain is extended by sites
 * not used yet, or by holdings that stand already and begin where it ends.
 */
import {
  type Field,
  type State,
  copyState,
  emptyState,
  endAt,
  fits,
  hold,
  linkBetween,
  micro,
  rateAt,
  secondsAt,
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
  readonly fresh: boolean; // some holding of it is new
  readonly layersOf: ReadonlyMap<number, number>; // by provider
};

/**
 * `state` with one more chain that carries at least `rate` micro-tokens a second and costs little; undefined where the
 * beam finds none. Holdings that stand in `state` keep their layers.
 */
export function withChain(
  field: Field,
  kinds: Kinds,
  state: State,
  rate: number,
  cost: ChainCost,
  mayShare: boolean,
  beam: Beam,
): State | undefined {
  const { layerCount } = field;
  const candidates = candidatesOf(field, kinds, state, rate, beam.kinds);
  const standing = mayShare ? standingByStart(field, state) : new Map<number, number[]>();
  const beams: Partial[][] = Array.from({ length: layerCount + 1 }, () => []);
  const root: Partial = { before: undefined, site: -1, start: 0, end: 0, cost: 0, fresh: false, layersOf: new Map() };
  beams[0]?.push(root);
  for (let position = 0; position < layerCount; position += 1)
    for (const partial of thinned(field, beams[position] ?? [], beam.width)) {
      for (const site of standing.get(position) ?? [])
        offer(field, beams, partial, { site, end: endAt(state, site), rate, cost, fresh: false });
      const sites = new Set<number>();
      fresh(field, partial, candidates.all, beam.kinds, sites);
      if (partial.site >= 0)
        fresh(field, partial, candidates.near(siteAt(field, partial.site).region), beam.kinds, sites);
      for (const site of sites)
        for (const end of endsFor(field, site, position, rate, beam.ends))
          offer(field, beams, partial, { site, end, rate, cost, fresh: true });
    }
  const { providersMin } = field.problem.rules;
  const whole = (beams[layerCount] ?? [])
    .filter(({ layersOf, fresh }) => layersOf.size >= providersMin && fresh)
    .sort((a, b) => a.cost - b.cost)[0];
  if (whole === undefined) return undefined;
  const held = copyState(state);
  for (let at: Partial | undefined = whole; at !== undefined && at.site >= 0; at = at.before)
    hold(held, at.site, at.start, at.end);
  return held;
}

type Lists = readonly (readonly (readonly number[])[])[];

/** Kinds with somebody free, in orders of merit: of all, and of the region that a chain has come to. */
type Candidates = { readonly all: Lists; readonly near: (region: string) => Lists };

function candidatesOf(field: Field, kinds: Kinds, state: State, rate: number, most: number): Candidates {
  const isFree = (site: number): boolean =>
    startAt(state, site) < 0 && !(field.rivals[site] ?? []).some((rival) => startAt(state, rival) >= 0);
  const free = kinds.members
    .map((members) => (members.every(isFree) ? members : members.filter(isFree)))
    .filter(([site]) => site !== undefined && longestAt(field, site, rate) > 0);
  if (free.length <= most) return { all: [free], near: () => [free] };
  const first = (members: readonly number[]): number => members[0] ?? 0;
  const room = new Map(free.map((members) => [members, longestAt(field, first(members), rate)]));
  const lists = (of: readonly (readonly number[])[]): Lists => {
    const by = (value: (site: number, layers: number) => number) => {
      const values = new Map(of.map((members) => [members, value(first(members), room.get(members) ?? 1)]));
      return [...of].sort((a, b) => (values.get(a) ?? 0) - (values.get(b) ?? 0));
    };
    return [
      by((_, layers) => -layers),
      by((site, layers) => (field.seconds[site]?.[layers] ?? 0) / layers),
      by((site, layers) => siteAt(field, site).pricePerHour / layers),
    ];
  };
  const byRegion = new Map<string, Lists>();
  const near = (region: string): Lists => {
    const known = byRegion.get(region);
    if (known !== undefined) return known;
    const those = lists(free.filter((members) => siteAt(field, first(members)).region === region));
    byRegion.set(region, those);
    return those;
  };
  return { all: lists(free), near };
}

/** From the top of each list, the first few kinds of which the chain has not used everybody. */
function fresh(field: Field, partial: Partial, lists: Lists, most: number, found: Set<number>): void {
  for (const list of lists) {
    let taken = 0;
    for (const kind of list) {
      if (taken >= Math.ceil(most / lists.length)) break;
      const site = kind.find((each) => !isUsed(field, partial, each));
      if (site === undefined) continue;
      found.add(site);
      taken += 1;
    }
  }
}

/** Most layers that the site holds at `rate` or faster. */
function longestAt(field: Field, site: number, rate: number): number {
  const rates = field.rates[site];
  for (let length = field.longest[site] ?? 0; length > 0; length -= 1)
    if ((rates?.[length] ?? 0) >= rate) return length;
  return 0;
}

function endsFor(field: Field, site: number, start: number, rate: number, count: number): readonly number[] {
  const ends: number[] = [];
  const most = Math.min(start + (field.longest[site] ?? 0), field.layerCount);
  for (let end = most; end > start && ends.length < count; end -= 1)
    if (rateAt(field, site, start, end) >= rate && fits(field, site, start, end)) ends.push(end);
  return ends;
}

function standingByStart(field: Field, state: State): Map<number, number[]> {
  const standing = new Map<number, number[]>();
  field.sites.forEach((_, site) => {
    const start = startAt(state, site);
    if (start >= 0) standing.set(start, [...(standing.get(start) ?? []), site]);
  });
  return standing;
}

function isUsed(field: Field, partial: Partial, site: number): boolean {
  const rivals = field.rivals[site] ?? [];
  for (let at: Partial | undefined = partial; at !== undefined; at = at.before)
    if (at.site === site || rivals.includes(at.site)) return true;
  return false;
}

type Extension = {
  readonly site: number;
  readonly end: number;
  readonly rate: number;
  readonly cost: ChainCost;
  readonly fresh: boolean;
};

function offer(field: Field, beams: readonly Partial[][], partial: Partial, extension: Extension): void {
  const { site, end, rate, cost, fresh } = extension;
  const { links, rules } = field.problem;
  const link = partial.site < 0 ? links.entry(siteAt(field, site)) : linkBetween(field, partial.site, site);
  if (micro(link.tokensPerSecond) < rate) return;
  const length = end - partial.end;
  const provider = field.provider[site] ?? 0;
  const layers = (partial.layersOf.get(provider) ?? 0) + length;
  if (layers > rules.providerLayersMax) return;
  const isLast = end === field.layerCount;
  const exit = isLast ? links.exit(siteAt(field, site)) : undefined;
  if (exit !== undefined && micro(exit.tokensPerSecond) < rate) return;
  const seconds = link.seconds + (exit?.seconds ?? 0) + secondsAt(field, site, partial.end, end);
  const step =
    cost === "seconds" ? seconds : (cost === "price" && fresh ? siteAt(field, site).pricePerHour : 1) + seconds / 1e3;
  beams[end]?.push({
    before: partial,
    site,
    start: partial.end,
    end,
    cost: partial.cost + step,
    fresh: partial.fresh || fresh,
    layersOf: new Map([...partial.layersOf, [provider, layers]]),
  });
}

/** The cheapest few, and as many again of those that already pass more providers. */
function thinned(field: Field, beam: readonly Partial[], width: number): readonly Partial[] {
  const sorted = [...beam].sort((a, b) => a.cost - b.cost);
  const kept: Partial[] = [];
  const counts = new Map<string, number>();
  for (const partial of sorted) {
    const look = `${Math.min(partial.layersOf.size, field.problem.rules.providersMin)} ${partial.fresh}`;
    const count = counts.get(look) ?? 0;
    if (count >= width) continue;
    counts.set(look, count + 1);
    kept.push(partial);
  }
  return kept;
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
  let state: State | undefined = emptyState(field);
  for (let chain = 0; chain < count && state !== undefined; chain += 1) {
    const held: State = state;
    state =
      withChain(field, kinds, held, rate, cost, false, beam) ?? withChain(field, kinds, held, rate, cost, true, beam);
  }
  return state;
}
