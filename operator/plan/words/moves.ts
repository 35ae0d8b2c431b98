/** What starts anew between two plans, and what its nodes have to load for it. */
import { lengthOf } from "../../../core/ranges.ts";
import { formatBytes } from "../../../core/units.ts";
import type { Assignment, ModelSpec } from "../types.ts";
import { countOf } from "./figures.ts";
import { layersText } from "./view.ts";

/** What becomes of one shard of the plan after the changes. */
export type Move = {
  readonly node: string;
  readonly provider: string;
  readonly chain: number;
  readonly segment: number;
  readonly rank: number;
  readonly layers: { readonly start: number; readonly end: number };
  readonly loadBytes: number; // of weights that its node does not hold yet
};

type Before = { readonly model: ModelSpec; readonly held: readonly Assignment[] };
type After = { readonly model: ModelSpec; readonly wanted: readonly Assignment[] };

/** Every shard of the second plan that the first does not have as it is, in the order of the second. */
export function movesBetween({ model, held }: Before, { model: next, wanted }: After): readonly Move[] {
  const anew = sameRun(model, next) ? wanted.filter((each) => !held.some((old) => isSameShard(old, each))) : wanted;
  return anew.map((each) => moveOf(each, sameForm(model, next) ? held : []));
}

export const loadBytesOf = (moves: readonly Move[]): number => moves.reduce((sum, move) => sum + move.loadBytes, 0);

/** `2 of 5 shards start anew, 4.2 GiB to load: garage-3 loads 3.1 GiB for layers 12–20; …`. */
export function movesText(moves: readonly Move[], shardCount: number): string {
  if (moves.length === 0) return "every shard stays where it is";
  const each = moves.map(({ node, layers, loadBytes }) =>
    loadBytes === 0
      ? `${node} keeps the weights of layers ${layersText(layers)}`
      : `${node} loads ${formatBytes(loadBytes)} for layers ${layersText(layers)}`,
  );
  const head = `${moves.length} of ${countOf(shardCount, "shard")} start anew, ${formatBytes(loadBytesOf(moves))} to load`;
  return `${head}: ${each.join("; ")}`;
}

/** What ranks of one plan run, those of the other may go on running: nothing that they were told at start differs. */
const sameRun = (a: ModelSpec, b: ModelSpec): boolean =>
  sameForm(a, b) &&
  a.contextLength === b.contextLength &&
  a.slotCount === b.slotCount &&
  a.kvDtype === b.kvDtype &&
  a.handOffDtype === b.handOffDtype;

/** Weights in one form need not be loaded again for another context or number of slots. */
const sameForm = (a: ModelSpec, b: ModelSpec): boolean => a.quantization === b.quantization;

const isSameShard = (a: Assignment, b: Assignment): boolean =>
  a.chain === b.chain &&
  a.segment === b.segment &&
  isSameSlice(a, b) &&
  overlap(a, b) === lengthOf(a.layers) &&
  lengthOf(a.layers) === lengthOf(b.layers);

const isSameSlice = (a: Assignment, b: Assignment): boolean =>
  a.node === b.node && a.rank === b.rank && a.sliceWeights.join() === b.sliceWeights.join();

const overlap = (a: Assignment, b: Assignment): number =>
  Math.max(0, Math.min(a.layers.end, b.layers.end) - Math.max(a.layers.start, b.layers.start));

function moveOf(wanted: Assignment, held: readonly Assignment[]): Move {
  const { node, provider, chain, segment, rank, layers, weightBytes } = wanted;
  const kept = held.filter((old) => isSameSlice(old, wanted)).map((old) => overlap(old, wanted));
  const share = 1 - Math.max(0, ...kept) / lengthOf(layers);
  return { node, provider, chain, segment, rank, layers, loadBytes: Math.round(weightBytes * share) };
}
