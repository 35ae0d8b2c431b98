/**
 * Two plans side by side: the one that would be in force, and what it would become after some changes. The second is
 * planned from the first, as the operator would: what may stay where it is stays.
 */
import { lengthOf } from "../../../core/ranges.ts";
import { formatBytes } from "../../../core/units.ts";
import { plan } from "../plan.ts";
import type { Assignment, ModelSpec, Placement, World } from "../types.ts";
import { type Change, changeWords, changed } from "./change.ts";
import { placementDocument } from "./document.ts";
import { countOf, formatChange, formatMillis, formatPrice, formatRate } from "./figures.ts";
import { type Line, renderLines, wrapText } from "./lines.ts";
import { type PictureStyle, pictureLines } from "./plan-words.ts";
import { showTable } from "./table.ts";
import type { Known as Drawn } from "./times.ts";
import { countsOf, layersText } from "./view.ts";

type Known = World & Drawn;

export type Outcome =
  | { readonly world: Known; readonly placement: Placement }
  | { readonly world: Known; readonly placement: undefined; readonly code: string; readonly detail: string };

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

export type Comparison = {
  readonly changes: readonly Change[];
  readonly before: Outcome;
  readonly after: Outcome;
  readonly moves: readonly Move[]; // shards that start anew, in the order of the plan
  readonly loadBytes: number;
  readonly freedNodes: readonly string[]; // that held something and no longer do
};

/** `world` without ranks: what would be planned, and what would be planned from there after the changes. */
export function compare(world: Known, changes: readonly Change[]): Comparison {
  const first = plan({ ...world, ranks: [], previous: undefined, probes: [] });
  const before = outcomeOf(world, first);
  const next = changed(world, changes);
  const previous =
    first.placement === undefined ? undefined : { revision: first.revision, assignments: first.placement.assignments };
  const second = plan({ ...next, ranks: [], previous, probes: [] });
  const after = outcomeOf(next, second);
  const held = first.placement?.assignments ?? [];
  const wanted = second.placement?.assignments ?? [];
  const isSameForm = sameForm(world.model, next.model);
  const moves =
    first.revision === second.revision ? wanted.filter((each) => !held.some((old) => isSameShard(old, each))) : wanted;
  const moved = moves.map((each) => moveOf(each, isSameForm ? held : []));
  return {
    changes,
    before,
    after,
    moves: second.placement === undefined ? [] : moved,
    loadBytes: moved.reduce((sum, { loadBytes }) => sum + loadBytes, 0),
    freedNodes: [...new Set(held.map(({ node }) => node))].filter((name) => !wanted.some(({ node }) => node === name)),
  };
}

function outcomeOf(world: Known, { placement, conditions }: ReturnType<typeof plan>): Outcome {
  if (placement !== undefined) return { world, placement };
  const planned = conditions.find(({ type }) => type === "Planned");
  return { world, placement: undefined, code: planned?.reason ?? "NotPlanned", detail: planned?.message ?? "" };
}

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

/** The comparison for people: figures side by side, what moves, both pictures. */
export function comparisonText(comparison: Comparison, style: PictureStyle & { readonly colour: boolean }): string {
  const { before, after, changes } = comparison;
  const title = wrapText(changes.map(changeWords).join(" · "), style.width, [{ text: "what if   " }], " ".repeat(10));
  const parts: readonly (readonly Line[])[] = [
    title,
    figures(before, after)
      .split("\n")
      .map((text): Line => [{ text }]),
    moveLines(comparison, style),
    [[{ text: "now", tone: "strong" }], ...outcomeLines(before, style)],
    [[{ text: "then", tone: "strong" }], ...outcomeLines(after, style)],
  ];
  return parts
    .filter((lines) => lines.length > 0)
    .map((lines) => renderLines(lines, style.colour))
    .join("\n\n");
}

function outcomeLines(outcome: Outcome, style: PictureStyle): readonly Line[] {
  if (outcome.placement !== undefined) return pictureLines(outcome.world, outcome.placement, style);
  return wrapText(`nothing fits: ${outcome.detail} (${outcome.code})`, style.width);
}

function figures(before: Outcome, after: Outcome): string {
  const rows = [
    figure("tok/s", before, after, ({ estimate }) => estimate.tokensPerSecond, formatRate),
    figure("time per token", before, after, ({ estimate }) => estimate.millisecondsPerToken, formatMillis),
    figure("credits/h", before, after, ({ estimate }) => numberOf(estimate.pricePerHour), formatPrice),
    figure("chains", before, after, (placement) => countsOf(placement).chainCount, String),
    figure("nodes", before, after, (placement) => countsOf(placement).nodeCount, String),
    figure("providers", before, after, (placement) => countsOf(placement).providerCount, String),
    figure("weights", before, after, (placement) => countsOf(placement).weightBytes, formatBytes),
    ["bottleneck", bottleneckOf(before), bottleneckOf(after), ""],
  ];
  return showTable(
    ["", "now", "then", "change"],
    rows.filter((row) => row.length > 0),
    ["now", "then", "change"],
  );
}

const numberOf = (amount: bigint | undefined): number | undefined =>
  amount === undefined ? undefined : Number(amount);
const bottleneckOf = ({ placement }: Outcome): string => placement?.estimate.bottleneck ?? "–";

/** One row; none where neither plan has the figure. */
function figure(
  name: string,
  before: Outcome,
  after: Outcome,
  pick: (placement: Placement) => number | undefined,
  show: (value: number) => string,
): readonly string[] {
  const [old, next] = [before, after].map(({ placement }) => (placement === undefined ? undefined : pick(placement)));
  if (old === undefined && next === undefined) return [];
  const change = old === undefined || next === undefined ? "" : formatChange(old, next);
  return [name, old === undefined ? "–" : show(old), next === undefined ? "–" : show(next), change];
}

function moveLines({ after, moves, loadBytes, freedNodes }: Comparison, { width }: PictureStyle): readonly Line[] {
  if (after.placement === undefined) return [];
  const rest = " ".repeat(10);
  if (moves.length === 0) return [[{ text: "moves     nothing: every shard stays where it is" }]];
  const shardCount = after.placement.assignments.length;
  const head = `${moves.length} of ${countOf(shardCount, "shard")} start anew, ${formatBytes(loadBytes)} to load`;
  const each = moves.map(({ node, layers, loadBytes: bytes }) =>
    bytes === 0
      ? `${node} keeps the weights of layers ${layersText(layers)}`
      : `${node} loads ${formatBytes(bytes)} for layers ${layersText(layers)}`,
  );
  const freed = freedNodes.length === 0 ? "" : `; free again: ${freedNodes.join(", ")}`;
  return wrapText(`${head}: ${each.join("; ")}${freed}`, width, [{ text: "moves     " }], rest);
}

/** The comparison for programs; every field of it is stable. */
export function comparisonDocument({ changes, before, after, moves, loadBytes, freedNodes }: Comparison) {
  const side = (outcome: Outcome) =>
    outcome.placement === undefined
      ? { fits: false, code: outcome.code, detail: outcome.detail }
      : { fits: true, ...placementDocument(outcome.world, outcome.placement) };
  return {
    whatIf: changes.map(changeWords),
    before: side(before),
    after: side(after),
    moves: moves.map(({ layers, ...move }) => ({ ...move, layers: [layers.start, layers.end] })),
    loadBytes,
    freedNodes,
  };
}
