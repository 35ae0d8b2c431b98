/**
 * The most flow, where flow is all that counts. First strips for a wanted flow, by halving; then annealing towards a
 * flow a little above the best so far, where the energy is what is missing until that flows. A maximum flow itself
 * would be a poor guide: it stays the same until the last of several bottlenecks is gone.
 */
import { type State, copyState } from "./field.ts";
import { type Found, type Judge, isBetter } from "./judge.ts";
import type { Kinds } from "./kinds.ts";
import { Moves } from "./moves.ts";
import type { Seeded } from "./seeded.ts";
import { type StripTaste, stripAt } from "./strip.ts";

const TASTES: readonly StripTaste[] = [
  { noise: 0, meeting: 1, smallest: 0.01 },
  { noise: 0, meeting: 1.3, smallest: 0.03 },
  { noise: 0.15, meeting: 1.15, smallest: 0.03 },
  { noise: 0.35, meeting: 1.4, smallest: 0.06 },
];

/** The widest strips that sites fill, of each taste; `share` of the work that few sites get. */
export function strips(judge: Judge, kinds: Kinds, seeded: Seeded, share: number): readonly State[] {
  const tries = Math.max(1, Math.round(4 * share));
  const { field, bound } = judge;
  const states: State[] = [];
  for (const taste of share > 0.001 ? TASTES : TASTES.slice(0, 2)) {
    let [low, high] = [0, bound];
    for (let round = 0; round < 9; round += 1) {
      const middle = round === 0 ? bound : (low + high) / 2;
      const strip = widest(tries, () => stripAt(field, kinds, middle, seeded, taste));
      if (strip.covered >= 1 - 2 * taste.smallest) states.push(strip.state);
      if (strip.covered >= 1 - 2 * taste.smallest) low = middle;
      else high = middle;
    }
  }
  return states;
}

function widest(tries: number, make: () => ReturnType<typeof stripAt>): ReturnType<typeof stripAt> {
  let best = make();
  for (let turn = 1; turn < tries && best.covered < 1; turn += 1) {
    const other = make();
    if (other.covered > best.covered) best = other;
  }
  return best;
}

export type Climb = {
  readonly evaluationCount: number;
  readonly hot: number; // layers missing
  readonly cold: number;
  readonly step: number; // how far above the best the wanted flow is, as a share
};

/** Anneals towards more and more flow. */
export function climb(judge: Judge, from: State, seeded: Seeded, { evaluationCount, hot, cold, step }: Climb): Found {
  const { flows, bound } = judge;
  const moves = new Moves(judge.field, seeded);
  const state = copyState(from);
  let best: Found = { state: copyState(state), worth: judge.worth(state) };
  const aimAbove = (flow: number): number => Math.min(Math.max(flow * (1 + step), flow + 1), Math.max(bound, flow + 1));
  let wanted = aimAbove(flows.flow(state));
  let energy = flows.missing(state, wanted);
  for (let done = 0; done < evaluationCount; done += 1) {
    if (!moves.change(state)) continue;
    const heat = hot * (cold / hot) ** (done / evaluationCount);
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
