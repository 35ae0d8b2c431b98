/** Worlds so small that everything can be tried: what comes out is the best there is. */
import { type Field, type State, copyState, emptyState, endAt, fits, hold, startAt } from "./field.ts";
import { type Found, type Judge, isBetter } from "./judge.ts";

type Option = readonly [start: number, end: number];

/** The best of all states; undefined where there are more than `most` of them. */
export function bestOfEvery(judge: Judge, most: number): Found | undefined {
  const { field } = judge;
  const options: (readonly Option[])[] = [];
  let count = 1;
  for (const site of field.sites.keys()) {
    const own = optionsOf(field, site);
    count *= own.length + 1;
    if (count > most) return undefined;
    options.push(own);
  }
  const state = emptyState(field);
  let best: Found = { state: copyState(state), worth: judge.worth(state) };
  const [starts, ends] = [new Int32Array(field.layerCount + 1), new Int32Array(field.layerCount + 1)];
  starts[field.layerCount] = 1;
  ends[0] = 1;
  const put = (site: number, start: number, end: number): void => {
    const [oldStart, oldEnd] = [startAt(state, site), endAt(state, site)];
    if (oldStart >= 0) {
      starts[oldStart] = (starts[oldStart] ?? 0) - 1;
      ends[oldEnd] = (ends[oldEnd] ?? 0) - 1;
    }
    if (start >= 0) {
      starts[start] = (starts[start] ?? 0) + 1;
      ends[end] = (ends[end] ?? 0) + 1;
    }
    hold(state, site, start, end);
  };
  const from = (site: number): void => {
    if (site === field.sites.length) {
      if (!isLive(state, starts, ends)) return;
      const worth = judge.worth(state);
      if (isBetter(worth, best.worth)) best = { state: copyState(state), worth };
      return;
    }
    // Holding comes before not holding, so that of equal answers the one with the first names is found first.
    const isOpen = !(field.rivals[site] ?? []).some((rival) => rival < site && startAt(state, rival) >= 0);
    for (const [start, end] of isOpen ? (options[site] ?? []) : []) {
      put(site, start, end);
      from(site + 1);
    }
    put(site, -1, -1);
    from(site + 1);
  };
  from(0);
  return best;
}

/**
 * Whether something ends where each holding begins, and the other way round: where not, the holding serves nobody, and
 * the same state without it is tried as well. `starts`, `ends`: how many holdings begin and end at each position.
 */
function isLive({ starts: own, ends: last }: State, starts: Int32Array, ends: Int32Array): boolean {
  for (let site = 0; site < own.length; site += 1) {
    const start = own[site] ?? -1;
    if (start >= 0 && ((ends[start] ?? 0) === 0 || (starts[last[site] ?? 0] ?? 0) === 0)) return false;
  }
  return true;
}

function optionsOf(field: Field, site: number): readonly Option[] {
  const options: Option[] = [];
  for (let start = 0; start < field.layerCount; start += 1)
    for (let end = field.layerCount; end > start; end -= 1)
      if (fits(field, site, start, end)) options.push([start, end]);
  return options;
}
