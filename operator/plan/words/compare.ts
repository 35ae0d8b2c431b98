/**
 * Two plans side by side: the one that would be in force, and what it would become after some changes. The second is
 * planned from the first, as the operator would: what may stay where it is stays.
 */
import { formatBytes } from "../../../core/units.ts";
import { plan } from "../plan.ts";
import type { Placement, World } from "../types.ts";
import { type Change, changeWords, changed } from "./change.ts";
import { placementDocument } from "./document.ts";
import { formatChange, formatMillis, formatPrice, formatRate } from "./figures.ts";
import { type Line, renderLines, wrapText } from "./lines.ts";
import { type PictureStyle, pictureLines } from "./plan-words.ts";
import { showTable } from "./table.ts";
import type { Known as Drawn } from "./times.ts";
import { countsOf } from "./view.ts";
import { type Move, loadBytesOf, movesBetween, movesText } from "./moves.ts";

type Known = World & Drawn;

export type Outcome =
  | { readonly world: Known; readonly placement: Placement }
  | { readonly world: Known; readonly placement: undefined; readonly code: string; readonly detail: string };

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
  const moves =
    second.placement === undefined ? [] : movesBetween({ model: world.model, held }, { model: next.model, wanted });
  return {
    changes,
    before,
    after,
    moves,
    loadBytes: loadBytesOf(moves),
    freedNodes: [...new Set(held.map(({ node }) => node))].filter((name) => !wanted.some(({ node }) => node === name)),
  };
}

function outcomeOf(world: Known, { placement, conditions }: ReturnType<typeof plan>): Outcome {
  if (placement !== undefined) return { world, placement };
  const planned = conditions.find(({ type }) => type === "Planned");
  return { world, placement: undefined, code: planned?.reason ?? "NotPlanned", detail: planned?.message ?? "" };
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

function moveLines({ after, moves, freedNodes }: Comparison, { width }: PictureStyle): readonly Line[] {
  if (after.placement === undefined) return [];
  if (moves.length === 0) return [[{ text: "moves     nothing: every shard stays where it is" }]];
  const freed = freedNodes.length === 0 ? "" : `; free again: ${freedNodes.join(", ")}`;
  const text = `${movesText(moves, after.placement.assignments.length)}${freed}`;
  return wrapText(text, width, [{ text: "moves     " }], " ".repeat(10));
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
