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
      for (const kind of candidates) {
        const site = kind.find((each) => !isUsed(field, partial, each));
        if (site === undefined) continue;
        for (const end of endsFor(field, site, position, rate, beam.ends))
          offer(field, beams, partial, { site, end, rate, cost, fresh: true });
      }
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

function candidatesOf(
  field: Field,
  kinds: Kinds,
  state: State,
  rate: number,
  most: number,
): readonly (readonly number[])[] {
  const free = kinds.members
    .map((members) =>
      members.filter(
        (site) => startAt(state, site) < 0 && !(field.rivals[site] ?? []).some((rival) => startAt(state, rival) >= 0),
      ),
    )
    .filter((members) => members.length > 0);
  if (free.length <= most) return free;
  const merit = (members: readonly number[]): number => longestAt(field, members[0] ?? 0, rate);
  const pace = (members: readonly number[]): number => {
    const site = members[0] ?? 0;
    const most = longestAt(field, site, rate);
    return most === 0 ? Number.POSITIVE_INFINITY : (field.seconds[site]?.[most] ?? 0) / most;
  };
  const price = (members: readonly number[]): number => {
    const site = members[0] ?? 0;
    return siteAt(field, site).pricePerHour / Math.max(0.1, longestAt(field, site, rate));
  };
  const third = Math.ceil(most / 3);
  const paces = new Map(free.map((members) => [members, pace(members)]));
  const merits = new Map(free.map((members) => [members, merit(members)]));
  const prices = new Map(free.map((members) => [members, price(members)]));
  const by = (of: ReadonlyMap<readonly number[], number>, sign: number) =>
    [...free].sort((a, b) => sign * ((of.get(a) ?? 0) - (of.get(b) ?? 0))).slice(0, third);
  return [...new Set([...by(merits, -1), ...by(paces, 1), ...by(prices, 1)])];
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
