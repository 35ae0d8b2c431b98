/**
 * The chains that given holdings allow when rules, bounds or a number of chains make paths unlike one another: which
 * to name, and how much each carries. Paths are listed one by one, so this is for what has few; see `PATHS_MAX`.
 */
import {
  type Field,
  type State,
  endAt,
  linkBetween,
  micro,
  rateAt,
  secondsAt,
  sessionRate,
  siteAt,
  startAt,
} from "./field.ts";
import { pack } from "./simplex.ts";

/** Beyond so many paths, the widest at each fork are taken and the rest are not looked at. */
const PATHS_MAX = 96;
/** Chains beyond which choices are not bettered by exchanging one: each costs a programme as large as all of them. */
const EXCHANGED_MAX = 8;
/** So many choices of chains are all tried; beyond, chains are taken one by one. */
const CHOICES_MAX = 220;

export type Path = {
  readonly sites: readonly number[];
  readonly rate: number; // micro-tokens a second if it had everything for itself, and sessions enough
  readonly width: number; // the same with the sessions there are
  readonly seconds: number; // a token of one session alone
  readonly providers: readonly number[]; // each once
};

export type Chosen = { readonly paths: readonly Path[]; readonly flows: readonly number[] }; // micro-tokens a second

/** Paths from the first layer to the last that keep the rules of a chain and the bound on its time. */
export function pathsOf(field: Field, state: State): readonly Path[] {
  const starting = new Map<number, number[]>();
  field.sites.forEach((_, site) => {
    const start = startAt(state, site);
    if (start >= 0) starting.set(start, [...(starting.get(start) ?? []), site]);
  });
  const rateOf = (site: number): number => rateAt(field, site, startAt(state, site), endAt(state, site));
  for (const list of starting.values()) list.sort((a, b) => rateOf(b) - rateOf(a) || a - b);
  const leads = leadsToEnd(field, state, starting);
  const found: Path[] = [];
  const pathsMax = Math.max(PATHS_MAX, 2 * (field.problem.chainCount ?? 0));
  let steps = 0;
  const walk = (sites: readonly number[], width: number, seconds: number): void => {
    const last = sites.at(-1);
    const position = last === undefined ? 0 : endAt(state, last);
    if (last !== undefined && position === field.layerCount) {
      const exit = field.problem.links.exit(siteAt(field, last));
      const path = pathWith(field, sites, Math.min(width, micro(exit.tokensPerSecond)), seconds + exit.seconds);
      if (keepsRules(field, state, path)) found.push(path);
      return;
    }
    for (const site of starting.get(position) ?? []) {
      steps += 1;
      if (found.length >= pathsMax || steps > pathsMax * 200) return;
      if (!leads.has(endAt(state, site))) continue;
      const link = last === undefined ? field.problem.links.entry(siteAt(field, site)) : linkBetween(field, last, site);
      const own = secondsAt(field, site, position, endAt(state, site));
      walk([...sites, site], Math.min(width, micro(link.tokensPerSecond), rateOf(site)), seconds + link.seconds + own);
    }
  };
  if (leads.has(0)) walk([], Number.POSITIVE_INFINITY, 0);
  return found;
}

/** The chains that a state was built of, if there are as many as asked for and all keep the rules. */
export function builtOf(field: Field, state: State): Chosen | undefined {
  const { chains = [] } = state;
  const paths = chains.flatMap((sites) => pathThrough(field, state, sites) ?? []);
  const { chainCount = chains.length } = field.problem;
  const isEnough = field.mayRepeat ? paths.length <= chainCount : paths.length === chainCount;
  if (paths.length === 0 || !isEnough) return undefined;
  return survives(field, paths) ? { paths, flows: flowsOf(field, state, paths) } : undefined;
}

/** Undefined where it breaks a rule. */
function pathThrough(field: Field, state: State, sites: readonly number[]): Path | undefined {
  const { links } = field.problem;
  let [width, seconds] = [Number.POSITIVE_INFINITY, 0];
  sites.forEach((site, index) => {
    const before = sites[index - 1];
    const link = before === undefined ? links.entry(siteAt(field, site)) : linkBetween(field, before, site);
    const [start, end] = [startAt(state, site), endAt(state, site)];
    width = Math.min(width, micro(link.tokensPerSecond), rateAt(field, site, start, end));
    seconds += link.seconds + secondsAt(field, site, start, end);
  });
  const exit = links.exit(siteAt(field, sites.at(-1) ?? 0));
  const path = pathWith(field, sites, Math.min(width, micro(exit.tokensPerSecond)), seconds + exit.seconds);
  return keepsRules(field, state, path) ? path : undefined;
}

/** Positions from which holdings lead to the last layer. */
function leadsToEnd(field: Field, state: State, starting: ReadonlyMap<number, readonly number[]>): ReadonlySet<number> {
  const leads = new Set([field.layerCount]);
  const positions = [...starting.keys()].sort((a, b) => b - a);
  for (const position of positions)
    if ((starting.get(position) ?? []).some((site) => leads.has(endAt(state, site)))) leads.add(position);
  return leads;
}

function pathWith(field: Field, sites: readonly number[], rate: number, seconds: number): Path {
  const width = Math.min(rate, sessionRate(field, seconds));
  return { sites, rate, width, seconds, providers: [...new Set(sites.map((site) => field.provider[site] ?? 0))] };
}

function keepsRules(field: Field, state: State, { sites, width, seconds, providers }: Path): boolean {
  const { aim, rules } = field.problem;
  if (width <= 0 || providers.length < rules.providersMin) return false;
  if (aim.kind === "throughput" && aim.secondsPerTokenMax !== undefined && seconds > aim.secondsPerTokenMax)
    return false;
  if (rules.providerLayersMax >= field.layerCount) return true;
  return providers.every(
    (provider) =>
      sites.reduce(
        (sum, site) => sum + (field.provider[site] === provider ? endAt(state, site) - startAt(state, site) : 0),
        0,
      ) <= rules.providerLayersMax,
  );
}

/** How much each of these paths carries when all of them together carry the most. */
export function flowsOf(field: Field, state: State, paths: readonly Path[]): readonly number[] {
  const users = usersOf(field, paths);
  const most = mostOf(field, paths, users);
  return isFree(field, state, paths, users, most) ? most.map(Math.floor) : packed(field, state, paths, users, most);
}

/** What each would carry if all it shares with others were wide enough: sessions are dealt out evenly. */
function mostOf(field: Field, paths: readonly Path[], users: Uint16Array): readonly number[] {
  return paths.map(({ sites, width, seconds }) => {
    let crowd = 1;
    for (const site of sites) crowd = Math.max(crowd, users[site] ?? 1);
    return crowd === 1 ? width : Math.min(width, sessionRate(field, seconds) / crowd);
  });
}

/** Whether all of them together fit through whatever several of them share. */
function isFree(
  field: Field,
  state: State,
  paths: readonly Path[],
  users: Uint16Array,
  most: readonly number[],
): boolean {
  const passing = new Float64Array(users.length);
  paths.forEach(({ sites }, index) => {
    for (const site of sites) passing[site] = (passing[site] ?? 0) + (most[index] ?? 0);
  });
  return paths.every(({ sites }) =>
    sites.every((site, hop) => {
      if ((users[site] ?? 0) < 2) return true;
      const all = passing[site] ?? 0;
      return sharedLimits(field, state, sites, hop).every(([, limit]) => all <= limit);
    }),
  );
}

/** Of a hop that others may share: what it goes by, by name, and how much passes there. */
function sharedLimits(
  field: Field,
  state: State,
  sites: readonly number[],
  hop: number,
): readonly (readonly [name: string, limit: number])[] {
  const { entry, exit } = field.problem.links;
  const site = sites[hop] ?? 0;
  const before = sites[hop - 1];
  const inward = before === undefined ? entry(siteAt(field, site)) : linkBetween(field, before, site);
  const limits: (readonly [string, number])[] = [
    [`at ${site}`, rateAt(field, site, startAt(state, site), endAt(state, site))],
    [`${before ?? "entry"} to ${site}`, micro(inward.tokensPerSecond)],
  ];
  if (hop === sites.length - 1) limits.push([`${site} to exit`, micro(exit(siteAt(field, site)).tokensPerSecond)]);
  return limits;
}

function packed(
  field: Field,
  state: State,
  paths: readonly Path[],
  users: Uint16Array,
  most: readonly number[],
): readonly number[] {
  const rows = new Map<string, number>();
  const limits = [...most];
  const columns = paths.map(({ sites }, index) => {
    const takes = [index];
    sites.forEach((site, hop) => {
      if ((users[site] ?? 0) < 2) return;
      for (const [name, limit] of sharedLimits(field, state, sites, hop)) {
        const row = rows.get(name) ?? limits.push(limit) - 1;
        rows.set(name, row);
        takes.push(row);
      }
    });
    return takes;
  });
  return pack(columns, limits).map((amount) => Math.floor(amount + 1e-3));
}

/** How many of these paths pass each site. */
function usersOf(field: Field, paths: readonly Path[]): Uint16Array {
  const users = new Uint16Array(field.sites.length);
  for (const { sites } of paths) for (const site of sites) users[site] = (users[site] ?? 0) + 1;
  return users;
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

/** Whether after the loss of any one provider enough of these chains are left whole. */
export function survives(field: Field, paths: readonly Path[]): boolean {
  const { chainsAfterLoss } = field.problem.rules;
  if (chainsAfterLoss <= 0) return true;
  return field.providerNames.every(
    (_, provider) => paths.filter(({ providers }) => !providers.includes(provider)).length >= chainsAfterLoss,
  );
}

/** The chains to name: all that carry flow, or the best `chainCount`. Undefined where rules or number cannot be kept. */
export function choose(field: Field, state: State, paths: readonly Path[]): Chosen | undefined {
  const { chainCount } = field.problem;
  if (paths.length < Math.max(1, field.mayRepeat ? 1 : (chainCount ?? 1))) return undefined;
  if (chainCount === undefined) return chooseFree(field, state, paths);
  const most = chooseOf(field, state, paths, Math.min(chainCount, paths.length));
  if (!field.mayRepeat || (most !== undefined && isApart(field, most.paths))) return most;
  const counts = chainCount <= FEWER_TRIED_MAX ? Array.from({ length: chainCount - 1 }, (_, index) => index + 1) : [1];
  const fewer = counts.filter((count) => count < paths.length).map((count) => chooseOf(field, state, paths, count));
  let best = most;
  for (const each of fewer)
    if (each !== undefined && (best === undefined || servedBy(field, each) > servedBy(field, best))) best = each;
  return best;
}

/** Chains up to which every smaller number is looked at as well; beyond, only a single one. */
const FEWER_TRIED_MAX = 4;
/** What serving along one route instead of so many unlike ones may bring before it is done, as a share. */
export const UNLIKE_WORTH = 0.01;

/** Micro-tokens a second; of chains that are named again a little less, so that of equals the unlike are taken. */
export function servedBy({ problem: { chainCount }, mayRepeat }: Field, { paths, flows }: Chosen): number {
  const total = sum(flows);
  return mayRepeat && chainCount !== undefined
    ? total * (1 - (UNLIKE_WORTH * (chainCount - paths.length)) / chainCount)
    : total;
}

const isApart = (field: Field, paths: readonly Path[]): boolean => usersOf(field, paths).every((count) => count < 2);

function chooseOf(field: Field, state: State, paths: readonly Path[], chainCount: number): Chosen | undefined {
  const { aim } = field.problem;
  if (chainCount === paths.length)
    return survives(field, paths) ? { paths, flows: flowsOf(field, state, paths) } : undefined;
  const better = (a: Chosen, b: Chosen | undefined): boolean => {
    if (b === undefined) return true;
    const [worst, other] = [slowest(a.paths), slowest(b.paths)];
    if (aim.kind === "latency" && worst !== other) return worst < other;
    return sum(a.flows) > sum(b.flows);
  };
  let best: Chosen | undefined;
  const consider = (choice: readonly Path[]): void => {
    const isQuickest = aim.kind === "latency" && (best === undefined || slowest(choice) <= slowest(best.paths));
    if (!survives(field, choice) || !(isQuickest || mayCarryMore(field, choice, best))) return;
    const chosen = { paths: choice, flows: flowsOf(field, state, choice) };
    if (better(chosen, best)) best = chosen;
  };
  if (choicesOf(paths.length, chainCount) <= CHOICES_MAX)
    for (const choice of subsets(paths, chainCount)) consider(choice);
  else for (const choice of likely(field, state, paths, chainCount)) consider(choice);
  return best;
}

/** Whether more than the best could pass, before it is worked out. */
const mayCarryMore = (field: Field, paths: readonly Path[], best: Chosen | undefined): boolean =>
  best === undefined || sum(mostOf(field, paths, usersOf(field, paths))) > sum(best.flows);

export const slowest = (paths: readonly Path[]): number =>
  paths.reduce((most, { seconds }) => Math.max(most, seconds), 0);

function chooseFree(field: Field, state: State, paths: readonly Path[]): Chosen | undefined {
  if (!survives(field, paths)) return undefined;
  const flows = flowsOf(field, state, paths);
  const kept = paths.map((path, index) => ({ path, flow: flows[index] ?? 0 }));
  const carrying = kept.filter(({ flow }) => flow > 0);
  // Chains that carry nothing are named only where a loss would otherwise leave too few.
  for (const each of kept)
    if (
      each.flow <= 0 &&
      !survives(
        field,
        carrying.map(({ path }) => path),
      )
    )
      carrying.push(each);
  return { paths: carrying.map(({ path }) => path), flows: carrying.map(({ flow }) => flow) };
}

function choicesOf(count: number, chosen: number): number {
  let choices = 1;
  for (let index = 0; index < chosen && choices <= CHOICES_MAX; index += 1)
    choices = (choices * (count - index)) / (index + 1);
  return choices;
}

function* subsets<Item>(items: readonly Item[], count: number, from = 0): Generator<readonly Item[]> {
  if (count === 0) yield [];
  else
    for (let index = from; index <= items.length - count; index += 1)
      for (const rest of subsets(items, count - 1, index + 1)) {
        const item = items[index];
        if (item !== undefined) yield [item, ...rest];
      }
}

/** A few choices worth trying: by what all paths together would carry, by width, by time; then one exchanged. */
function* likely(field: Field, state: State, paths: readonly Path[], chainCount: number): Generator<readonly Path[]> {
  // What all would carry together says little of a few where each has its own part of the sessions.
  const together = field.mayRepeat ? paths.map(({ width }) => width) : flowsOf(field, state, paths);
  const order = paths.map((path, index) => ({ path, flow: together[index] ?? 0 }));
  const by = (compare: (a: (typeof order)[number], b: (typeof order)[number]) => number): readonly Path[] =>
    [...order].sort(compare).map(({ path }) => path);
  for (const list of [
    by((a, b) => b.flow - a.flow || b.path.width - a.path.width),
    by((a, b) => a.path.seconds - b.path.seconds),
    apart(
      by((a, b) => b.path.width - a.path.width || a.path.seconds - b.path.seconds),
      chainCount,
    ),
    apart(
      by((a, b) => a.path.seconds - b.path.seconds),
      chainCount,
    ),
  ]) {
    const first = list.slice(0, chainCount);
    yield first;
    if (chainCount > EXCHANGED_MAX) continue;
    for (let index = 0; index < chainCount; index += 1)
      for (const other of list.slice(chainCount, chainCount + 4)) yield first.with(index, other);
  }
}

/** Those first that share nothing with one already taken. */
function apart(paths: readonly Path[], count: number): readonly Path[] {
  const taken = new Set<number>();
  const lone: Path[] = [];
  for (const path of paths) {
    if (lone.length === count) break;
    if (path.sites.some((site) => taken.has(site))) continue;
    for (const site of path.sites) taken.add(site);
    lone.push(path);
  }
  return [...lone, ...paths.filter((path) => !lone.includes(path))];
}

/** The sites and links that let no more through a chain than it carries, each once. */
export function narrowest(field: Field, state: State, { paths, flows }: Chosen): readonly string[] {
  const names = new Set<string>();
  paths.forEach(({ sites, width }, index) => {
    if ((flows[index] ?? 0) < width) return; // others share what bounds it, and name it
    sites.forEach((site, at) => {
      const { name } = siteAt(field, site);
      const before = sites[at - 1];
      if (rateAt(field, site, startAt(state, site), endAt(state, site)) <= width) names.add(name);
      if (before !== undefined && micro(linkBetween(field, before, site).tokensPerSecond) <= width)
        names.add(`${siteAt(field, before).name} → ${name}`);
    });
  });
  return [...names];
}
