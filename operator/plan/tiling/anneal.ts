/**
 * Simulated annealing over small moves: worse states are taken with a probability that falls with how much worse and
 * with the work done. What it leads to is the best state seen, never less than where it began.
 */
import { type State, copyState } from "./field.ts";
import { type Found, type Judge, isBetter } from "./judge.ts";
import { Moves } from "./moves.ts";
import type { Seeded } from "../seeded.ts";

export type Walk = {
  readonly evaluationCount: number;
  readonly hot: number; // in units of the energy
  readonly cold: number;
};

/** Where rules are broken, mending is worth this much energy a unit. */
const MENDING = 4;

/** Anneals on the judge's own scale. */
export function anneal(judge: Judge, from: State, seeded: Seeded, walk: Walk): Found {
  const moves = new Moves(judge.field, seeded);
  const state = copyState(from);
  let worth = judge.worth(state);
  let best: Found = { state: copyState(state), worth };
  for (let done = 0; done < walk.evaluationCount; done += 1) {
    if (!moves.change(state)) continue;
    const next = judge.worth(state);
    const rise = next.energy - worth.energy + MENDING * (next.broken - worth.broken);
    const heat = walk.hot * (walk.cold / walk.hot) ** (done / walk.evaluationCount);
    if (rise > 0 && seeded.unit() >= Math.exp(-rise / heat)) {
      moves.undo(state);
      continue;
    }
    worth = next;
    if (isBetter(worth, best.worth)) best = { state: copyState(state), worth };
  }
  return best;
}
