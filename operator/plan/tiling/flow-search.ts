/**
 * The most flow, where flow is all that counts. First strips for a wanted flow, by halving; then annealing towards a
 * flow a little above the best so far, where the energy is what is missing until that flows. A maximum flow itself
 * would be a poor guide: it stays the same until the last of several bottlenecks is gone.
 */
import { flowBound } from "./bound.ts";
import { type State, copyState, emptyState, endAt, hold } from "./field.ts";
import { type Found, type Judge, isBetter } from "./judge.ts";
import type { Kinds } from "./kinds.ts";
import { Moves } from "./moves.ts";
import type { Seeded } from "../seeded.ts";
import { type StripTaste, stripAt } from "./strip.ts";

const TASTES: readonly StripTaste[] = [
  { noise: 0, meeting: 1, smallest: 0.01, loss: 0 },
  { noise: 0, meeting: 1.3, smallest: 0.03, loss: 0 },
  { noise: 0.15, meeting: 1.15, smallest: 0.03, loss: 0 },
  { noise: 0.35, meeting: 1.4, smallest: 0.06, loss: 0 },
  { noise: 0.15, meeting: 1.15, smallest: 0, loss: 0.05 },
];
const TASTES_OF_MANY: readonly StripTaste[] = [{ noise: 0, meeting: 1.3, smallest: 0, loss: 0.05 }];

/** The widest strips that sites fill, of each taste; `share` of the work that few sites get. */
export function strips(judge: Judge, kinds: Kinds, seeded: Seeded, share: number): readonly State[] {
  const tries = Math.max(1, Math.round(4 * share));
  return tastesFor(share).flatMap((taste) => halved(judge, kinds, seeded, tries, taste));
}

/** Strips of one region each, side by side: for links between regions that are thinner than what sites could do. */
export function regionalStrips(judge: Judge, kinds: Kinds, seeded: Seeded, share: number): readonly State[] {
  const { field } = judge;
  const tries = Math.max(1, Math.round(4 * share));
  const regions = [...new Set(field.sites.map(({ region }) => region))].sort();
  if (regions.length < 2) return [];
  return tastesFor(share).map((taste) => {
    const all = emptyState(field);
    for (const region of regions) {
      const members = kinds.members.filter(([site = 0]) => field.sites[site]?.region === region);
      const widest = halved(judge, { ...kinds, members }, seeded, tries, taste).at(-1);
      widest?.starts.forEach((start, site) => {
        if (start >= 0) hold(all, site, start, endAt(widest, site));
      });
    }
    return all;
  });
}

const tastesFor = (share: number): readonly StripTaste[] => (share === 1 ? TASTES : TASTES_OF_MANY);

/** Ever wider strips that these kinds fill; of many sites only the widest. */
function halved(judge: Judge, kinds: Kinds, seeded: Seeded, tries: number, taste: StripTaste): readonly State[] {
  const { field } = judge;
  const members = new Set(kinds.members.flat());
  const bound = flowBound(field, (site) => members.has(site));
  const states: State[] = [];
  let [low, high] = [0, bound];
  for (let round = 0; round < 9; round += 1) {
    const middle = round === 0 ? bound : (low + high) / 2;
    const strip = widest(tries, () => stripAt(field, kinds, middle, seeded, taste));
    const { isWhole } = strip;
    if (isWhole) states.push(strip.state);
    if (isWhole) low = middle;
    else high = middle;
  }
  return field.sites.length > 64 ? states.slice(-1) : states;
}

function widest(tries: number, make: () => ReturnType<typeof stripAt>): ReturnType<typeof stripAt> {
  let best = make();
  for (let turn = 1; turn < tries && !best.isWhole; turn += 1) {
    const other = make();
    if (other.isWhole || other.covered > best.covered) best = other;
  }
  return best;
}

export type Climb = {
  readonly work: number; // as FlowJudge counts it
  readonly hot: number; // layers missing
  readonly cold: number;
  readonly step: number; // how far above the best the wanted flow is, as a share
};

/** What a move that does not fit counts for. */
const IDLE = 30;

/** Anneals towards more and more flow. */
export function climb(judge: Judge, from: State, seeded: Seeded, { work, hot, cold, step }: Climb): Found {
  const { flows, bound } = judge;
  const moves = new Moves(judge.field, seeded);
  const state = copyState(from);
  let best: Found = { state: copyState(state), worth: judge.worth(state) };
  const aimAbove = (flow: number): number => Math.min(Math.max(flow * (1 + step), flow + 1), Math.max(bound, flow + 1));
  let wanted = aimAbove(flows.flow(state));
  let energy = flows.missing(state, wanted);
  const begun = flows.work;
  let idle = 0;
  for (let done = 0; done < work; done = flows.work - begun + idle) {
    if (!moves.change(state)) {
      idle += IDLE;
      continue;
    }
    const heat = hot * (cold / hot) ** (done / work);
    const enough = energy - heat * Math.log(1 - seeded.unit());
    const next = flows.missing(state, wanted, enough);
    if (next > enough) {
      moves.undo(state);
      continue;
    }
    energy = next;
    if (energy > 0) continue;
    const worth = judge.worth(state);
    if (isBetter(worth, best.worth)) best = { state: copyState(state), worth };
    const flow = flows.flow(state);
    if (flow >= bound - 1) break;
    wanted = aimAbove(flow);
    energy = flows.missing(state, wanted);
  }
  return best;
}
