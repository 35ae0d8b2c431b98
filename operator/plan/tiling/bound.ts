/**
 * A bound on the flow that no tiling exceeds, from room alone: where the flow is F, every layer is crossed by F, and a
 * site that holds k layers adds at most k · min(rate(k), F) to the sum over layers, so
 *   F · layers ≤ Σ over sites of the greatest k · min(rate(k), F).
 * Both sides divided by F, the right one only falls as F grows, so halving finds the greatest F that keeps it. Much
 * below the usual sum of the greatest k · rate(k), which lets one fast site share out what only it can hold.
 */
import { type Field, sessionRate } from "./field.ts";

/** Sums of floating-point products that are equal on paper differ by less. */
const ROUNDING = 1e-12;

/** Micro-tokens a second, of all sites or of those that `counts` names. */
export function flowBound(field: Field, counts: (site: number) => boolean = () => true): number {
  let low = 0;
  let high = roomAt(field, Number.POSITIVE_INFINITY, counts) / field.layerCount;
  const covers = (flow: number): boolean => roomAt(field, flow, counts) >= flow * field.layerCount * (1 - ROUNDING);
  if (covers(high)) return high;
  for (let round = 0; round < 80 && high - low > 0.5; round += 1) {
    const middle = (low + high) / 2;
    if (covers(middle)) low = middle;
    else high = middle;
  }
  return high;
}

/**
 * The right side. Of sites that share nodes only some can be held: each node counts with its best share of any site,
 * and no choice of sites that share none sums to more.
 */
function roomAt(field: Field, flow: number, counts: (site: number) => boolean): number {
  const byNode = new Map<string, number>();
  let sum = 0;
  field.sites.forEach(({ nodes }, site) => {
    if (!counts(site)) return;
    const room = greatest(field, site, flow);
    if ((field.rivals[site] ?? []).length === 0) sum += room;
    else for (const node of nodes) byNode.set(node, Math.max(byNode.get(node) ?? 0, room / nodes.length));
  });
  for (const room of byNode.values()) sum += room;
  return sum;
}

function greatest(field: Field, site: number, flow: number): number {
  const [rates, lastRates] = [field.rates[site], field.lastRates[site]];
  const longest = field.longest[site] ?? 0;
  let best = 0;
  for (let k = 1; k <= longest; k += 1)
    best = Math.max(best, k * Math.min(Math.max(rates?.[k] ?? 0, lastRates?.[k] ?? 0), flow));
  return best;
}

/**
 * What one chain carries at most by its sessions: none is quicker than the layers dealt out to who takes least for each,
 * as far as room goes, links left aside. Infinite where sessions do not count.
 */
export function chainBound(field: Field): number {
  if (sessionRate(field, 1) === Number.POSITIVE_INFINITY) return Number.POSITIVE_INFINITY;
  const paces = field.sites
    .map((_, site) => ({ secondsPerLayer: quickest(field, site), room: field.longest[site] ?? 0 }))
    .sort((a, b) => a.secondsPerLayer - b.secondsPerLayer);
  let [left, seconds] = [field.layerCount, 0];
  for (const { secondsPerLayer, room } of paces) {
    const taken = Math.min(left, room);
    if (taken === 0) continue;
    seconds += taken * secondsPerLayer;
    left -= taken;
  }
  return sessionRate(field, seconds);
}

function quickest(field: Field, site: number): number {
  const [seconds, lastSeconds] = [field.seconds[site], field.lastSeconds[site]];
  let best = Number.POSITIVE_INFINITY;
  for (let k = 1; k <= (field.longest[site] ?? 0); k += 1)
    best = Math.min(best, Math.min(seconds?.[k] ?? 0, lastSeconds?.[k] ?? 0) / k);
  return best;
}
