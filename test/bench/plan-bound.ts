/**
 * How much no placement can exceed, proved by linear programmes that HiGHS solves. Where a flow F passes, every layer is
 * covered by a set of nodes whose rates sum to F at least; whole nodes seldom sum to F exactly, and what is over is lost.
 * So: may so many layers each be given such a set (some fractions of sets), while a node that holds k layers is in k of
 * them, and no more nodes of a kind are used than there are? Where not, F cannot flow. Sets are added as they are needed
 * (column generation): the best new one is a knapsack. Links, and that a node's layers lie side by side, are left out.
 */
import loadHighs from "highs";
import type { Site, TilingProblem } from "../../operator/plan/tiling/problem.ts";

type Solve = (
  program: string,
  options: Readonly<Record<string, boolean>>,
) => {
  readonly Status: string;
  readonly ObjectiveValue: number;
  readonly Rows: readonly { readonly Dual: number }[];
};
type Kind = { readonly rates: readonly number[]; readonly count: number };
type Item = { readonly kind: number; readonly layers: number; readonly rate: number };
/** How many holdings of each item cover a layer. */
type Cover = ReadonlyMap<number, number>;

/** Rates are rounded up to so many parts of the flow asked about: the bound grows by less than nodes in a set / GRID. */
const GRID = 4000;
const ROUNDS_MAX = 400;
const HALVINGS = 9;

export type ProvedBound = { readonly tokensPerSecond: number; readonly programmeCount: number };

/** `known`: a bound to begin from; `reached`: a flow that some placement has. In tokens a second. */
export async function provedBound(problem: TilingProblem, known: number, reached: number): Promise<ProvedBound> {
  const highs = await (loadHighs as unknown as () => Promise<{ readonly solve: Solve }>)();
  const kinds = kindsOf(problem);
  let programmeCount = 0;
  const solve: Solve = (program, options) => {
    programmeCount += 1;
    return highs.solve(program, options);
  };
  let [low, high] = [reached, known];
  for (let round = 0; round < HALVINGS && high - low > 1e-4 * high; round += 1) {
    const middle = (low + high) / 2;
    if (canFlow(solve, kinds, problem.layerCount, middle)) low = middle;
    else high = middle;
  }
  return { tokensPerSecond: high, programmeCount };
}

function kindsOf({ sites, layerCount }: TilingProblem): readonly Kind[] {
  // Where a site with the head as well is said to be quicker, it counts as that quick everywhere.
  const ratesOf = ({ tokensPerSecond, last }: Site): readonly number[] =>
    tokensPerSecond.slice(0, layerCount).map((rate, index) => Math.max(rate, last?.tokensPerSecond[index] ?? 0));
  const byRates = Map.groupBy(sites, (site) => ratesOf(site).join());
  return [...byRates.values()].map((those) => ({ rates: those[0] ? ratesOf(those[0]) : [], count: those.length }));
}

/** False is a proof that it cannot. */
function canFlow(solve: Solve, kinds: readonly Kind[], layerCount: number, flow: number): boolean {
  const items = kinds.flatMap(({ rates }, kind) =>
    rates.map((rate, index): Item => ({ kind, layers: index + 1, rate: Math.min(rate, flow) })),
  );
  const units = items.map(({ rate }) => Math.min(GRID, Math.ceil((rate / flow) * GRID - 1e-9)));
  const covers: Cover[] = [];
  const known = new Set<string>();
  let prices = items.map(({ rate }) => rate / flow);
  let most = 0; // layers that the covers so far can cover
  for (let round = 0; round < ROUNDS_MAX; round += 1) {
    const best = cheapestCover(kinds, items, units, prices);
    if (best === undefined) return false; // all nodes together are too slow
    // Prices that were divided by the cheapest cover's are a solution of the dual programme: no covers do better.
    if (round > 0 && most / best.price < layerCount * (1 - 1e-6)) return false;
    const look = [...best.cover].join("|");
    if (known.has(look)) return true;
    known.add(look);
    covers.push(best.cover);
    const solution = solve(programOf(kinds, items, covers), {});
    if (solution.Status !== "Optimal") return true;
    most = solution.ObjectiveValue;
    if (most >= layerCount * (1 - 1e-9)) return true;
    prices = items.map((_, item) => Math.max(0, solution.Rows[item]?.Dual ?? 0));
  }
  return true;
}

/** The most layers that these covers can cover. Rows: one for each item, then one for each kind. */
function programOf(kinds: readonly Kind[], items: readonly Item[], covers: readonly Cover[]): string {
  const rows = items.map(({ layers }, item) => {
    const takes = covers.flatMap((cover, index) => (cover.has(item) ? [`${cover.get(item)} c${index}`] : []));
    return `${[...takes, `- ${layers} y${item}`].join(" + ").replaceAll("+ -", "-")} <= 0`;
  });
  const counts = kinds.map(({ count }, kind) => {
    const own = items.flatMap((each, item) => (each.kind === kind ? [`y${item}`] : []));
    return `${own.join(" + ")} <= ${count}`;
  });
  const goal = covers.map((_, index) => `c${index}`).join(" + ");
  const all = [...rows, ...counts].map((row, index) => ` r${index}: ${row}`);
  return `Maximize\n ${goal}\nSubject To\n${all.join("\n")}\nEnd\n`;
}

/** The cheapest nodes that sum to the flow: a knapsack over units, kind by kind, of each kind no more than there are. */
function cheapestCover(
  kinds: readonly Kind[],
  items: readonly Item[],
  units: readonly number[],
  prices: readonly number[],
): { readonly price: number; readonly cover: Cover } | undefined {
  let least = new Float64Array(GRID + 1).fill(Number.POSITIVE_INFINITY); // at [u]: u units are reached
  least[0] = 0;
  const choices: Int32Array[] = []; // at each step, which item was added last; −1: none
  kinds.forEach(({ count }, kind) => {
    const own = dominant(items, units, prices, kind);
    for (let turn = 0; turn < count && own.length > 0; turn += 1) {
      const next = least.slice();
      const choice = new Int32Array(GRID + 1).fill(-1);
      for (const item of own) {
        const [by, price] = [units[item] ?? 0, prices[item] ?? 0];
        for (let from = 0; from <= GRID; from += 1) {
          const to = Math.min(GRID, from + by);
          const sum = (least[from] ?? 0) + price;
          if (sum >= (next[to] ?? 0)) continue;
          next[to] = sum;
          choice[to] = item * (GRID + 1) + from;
        }
      }
      least = next;
      choices.push(choice);
    }
  });
  if (!Number.isFinite(least[GRID] ?? Number.POSITIVE_INFINITY)) return undefined;
  return { price: Math.max(1e-12, least[GRID] ?? 0), cover: coverFrom(choices) };
}

/** Of one kind those items of which no other gives as much for less. */
function dominant(
  items: readonly Item[],
  units: readonly number[],
  prices: readonly number[],
  kind: number,
): readonly number[] {
  const own = [...items.keys()].filter((item) => items[item]?.kind === kind && (units[item] ?? 0) > 0);
  own.sort((a, b) => (prices[a] ?? 0) - (prices[b] ?? 0) || (units[b] ?? 0) - (units[a] ?? 0));
  let most = 0;
  return own.filter((item) => {
    const isMore = (units[item] ?? 0) > most;
    most = Math.max(most, units[item] ?? 0);
    return isMore;
  });
}

function coverFrom(choices: readonly Int32Array[]): Cover {
  const cover = new Map<number, number>();
  let at = GRID;
  for (const choice of choices.toReversed()) {
    const made = choice[at] ?? -1;
    if (made < 0) continue;
    const item = Math.floor(made / (GRID + 1));
    cover.set(item, (cover.get(item) ?? 0) + 1);
    at = made % (GRID + 1);
  }
  return cover;
}
