/**
 * Tilings made in one pass from the first layer to the last, for a flow F that is wanted: think of a strip F wide and as
 * long as the model. Where something ends a hole of its width opens, and sites fill it at once, each cut to the hole's
 * width. A strip filled to its end carries F: every strand of it goes on where the last piece ended. Which site comes
 * next is a matter of what it gives here against the most that it could give anywhere, and of chance.
 */
import { type Field, type State, emptyState, fits, hold, rateAt, startAt } from "./field.ts";
import type { Kinds } from "./kinds.ts";
import type { Seeded } from "../seeded.ts";

export type Strip = {
  readonly state: State;
  readonly covered: number; // share of the strip, 1: all of it
  readonly isWhole: boolean; // nothing was left open but what the taste gives up
};

/** Of what a site could give elsewhere, a piece must give so much, as long as its hole may be given up. */
const WORTHWHILE = 0.5;

export type StripTaste = {
  readonly noise: number; // 0: always the best; 1: as good as blind
  readonly meeting: number; // a factor from 1 on for ends where others end
  readonly smallest: number; // share of F below which a hole stays open: for few sites, which are wide
  readonly loss: number; // share of F that may be given up, hole by hole, where filling one would waste a site
};

/** Kinds that are looked at for each piece where there are very many. */
const KINDS_LOOKED_AT = 48;

export function stripAt(field: Field, kinds: Kinds, flow: number, seeded: Seeded, taste: StripTaste): Strip {
  const { layerCount } = field;
  const state = emptyState(field);
  const holes = new Float64Array(layerCount + 1);
  holes[0] = flow;
  const worths = kinds.members.map(([site = 0]) => greatestAt(field, site, flow));
  const left = kinds.members.map(() => 0); // how many of the kind are used
  const open = kinds.members.map((_, kind) => kind).filter((kind) => (worths[kind] ?? 0) > 0);
  let covered = 0;
  let lossLeft = taste.loss * flow;
  for (let position = 0; position < layerCount; position += 1) {
    while ((holes[position] ?? 0) > Math.max(0.5, taste.smallest * flow)) {
      const hole = holes[position] ?? 0;
      const piece = bestPiece(field, kinds, { open, left, worths, holes, position, state }, seeded, taste);
      const width = Math.min(piece?.rate ?? 0, hole);
      if (piece === undefined || ((piece.end - position) * width) / (worths[piece.kind] ?? 1) < WORTHWHILE) {
        if (hole <= lossLeft) {
          lossLeft -= hole;
          break;
        }
        if (piece === undefined) return { state, covered: covered / (flow * layerCount), isWhole: false };
      }
      hold(state, piece.site, position, piece.end);
      holes[position] = (holes[position] ?? 0) - width;
      holes[piece.end] = (holes[piece.end] ?? 0) + width;
      covered += width * (piece.end - position);
      left[piece.kind] = (left[piece.kind] ?? 0) + 1;
      if ((left[piece.kind] ?? 0) >= (kinds.members[piece.kind]?.length ?? 0)) removeAt(open, piece.at);
    }
  }
  return { state, covered: covered / (flow * layerCount), isWhole: true };
}

type Stand = {
  readonly open: readonly number[];
  readonly left: readonly number[];
  readonly worths: readonly number[];
  readonly holes: Float64Array;
  readonly position: number;
  readonly state: State;
};
type Piece = {
  readonly at: number;
  readonly kind: number;
  readonly site: number;
  readonly end: number;
  readonly rate: number;
};

function bestPiece(field: Field, kinds: Kinds, stand: Stand, seeded: Seeded, taste: StripTaste): Piece | undefined {
  const { open, left, worths, holes, position, state } = stand;
  const hole = holes[position] ?? 0;
  const tries = Math.min(open.length, KINDS_LOOKED_AT);
  const first = open.length > tries ? seeded.below(open.length) : 0;
  let best: Piece | undefined;
  let most = 0;
  for (let turn = 0; turn < tries; turn += 1) {
    const at = (first + turn) % open.length;
    const kind = open[at] ?? 0;
    const site = kinds.members[kind]?.[left[kind] ?? 0] ?? 0;
    if ((field.rivals[site] ?? []).some((rival) => startAt(state, rival) >= 0)) continue;
    const last = Math.min(field.layerCount, position + (field.longest[site] ?? 0));
    for (let end = position + 1; end <= last; end += 1) {
      if (!fits(field, site, position, end)) continue;
      const rate = rateAt(field, site, position, end);
      const meets = end === field.layerCount || (holes[end] ?? 0) > 0 ? taste.meeting : 1;
      const chance = taste.noise === 0 ? 1 : 1 - taste.noise * seeded.unit();
      const score = (((end - position) * Math.min(rate, hole)) / (worths[kind] ?? 1)) * meets * chance;
      if (score <= most) continue;
      most = score;
      best = { at, kind, site, end, rate };
    }
  }
  return best;
}

function removeAt(list: number[], at: number): void {
  const last = list.pop();
  if (last !== undefined && at < list.length) list[at] = last;
}

/** The most that a site could give to a strip so wide: layers times rate. */
function greatestAt(field: Field, site: number, flow: number): number {
  let most = 0;
  for (let length = 1; length <= (field.longest[site] ?? 0); length += 1)
    most = Math.max(most, length * Math.min(rateAt(field, site, 0, length), flow));
  return most;
}
