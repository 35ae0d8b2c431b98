/** Worlds so small that everything can be tried: what comes out is the best there is. */
import { type Field, copyState, emptyState, fits, hold, startAt } from "./field.ts";
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
  const from = (site: number): void => {
    if (site === field.sites.length) {
      const worth = judge.worth(state);
      if (isBetter(worth, best.worth)) best = { state: copyState(state), worth };
      return;
    }
    // Holding comes before not holding, so that of equal answers the one with the first names is found first.
    const isOpen = !(field.rivals[site] ?? []).some((rival) => rival < site && startAt(state, rival) >= 0);
    for (const [start, end] of isOpen ? (options[site] ?? []) : []) {
      hold(state, site, start, end);
      from(site + 1);
    }
    hold(state, site, -1, -1);
    from(site + 1);
  };
  from(0);
  return best;
}

function optionsOf(field: Field, site: number): readonly Option[] {
  const options: Option[] = [];
  for (let start = 0; start < field.layerCount; start += 1)
    for (let end = field.layerCount; end > start; end -= 1)
      if (fits(field, site, start, end)) options.push([start, end]);
  return options;
}
