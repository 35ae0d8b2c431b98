/** A placement as a table, a row for each rank: what a script greps and what has room for every figure. */
import { lengthOf } from "../../../core/ranges.ts";
import { formatBytes } from "../../../core/units.ts";
import type { Assignment, Placement } from "../types.ts";
import { formatMillis } from "./figures.ts";
import { headlineText } from "./headline.ts";
import { type Known, timesOf } from "./times.ts";

/** `whole` for a rank that is its segment; `2 of 3 (34/100)` for the second rank of three with 34 of 100 parts. */
export function showSlice({ rank, sliceWeights }: Pick<Assignment, "rank" | "sliceWeights">): string {
  if (sliceWeights.length === 1) return "whole";
  const total = sliceWeights.reduce((sum, weight) => sum + weight, 0);
  return `${rank + 1} of ${sliceWeights.length} (${sliceWeights[rank] ?? 0}/${total})`;
}

/** Rows of text, each column as wide as its widest cell; columns named in `right` are aligned to the right. */
export function showTable(
  header: readonly string[],
  rows: readonly (readonly string[])[],
  right: readonly string[] = [],
): string {
  const widths = header.map((name, column) => Math.max(name.length, ...rows.map((row) => (row[column] ?? "").length)));
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, column) => {
        const width = widths[column] ?? 0;
        return right.includes(header[column] ?? "") ? cell.padStart(width) : cell.padEnd(width);
      })
      .join("  ")
      .trimEnd();
  return [header, ...rows].map(line).join("\n");
}

/** The headline, one row for each rank, and every node left out with its reason. */
export function showPlacement(world: Known, placement: Placement): string {
  const { assignments, leftOut } = placement;
  const times = timesOf(world, placement);
  const groupOf = ({ chain, segment }: Assignment) =>
    assignments.filter((each) => each.chain === chain && each.segment === segment).sort((a, b) => a.rank - b.rank);
  const rows = assignments.map((assignment) => [
    isSpare(placement, assignment) ? "spare" : String(assignment.chain),
    assignment.provider,
    assignment.node,
    `${assignment.layers.start}–${assignment.layers.end} (${lengthOf(assignment.layers)})`,
    showSlice(assignment),
    formatMillis(times.segment(groupOf(assignment)).milliseconds),
    formatBytes(assignment.weightBytes),
    formatBytes(assignment.kvBytes),
    formatBytes(assignment.weightBytes + assignment.kvBytes),
  ]);
  const header = ["chain", "provider", "node", "layers", "slice", "time", "weights", "kv", "bytes"];
  const table = showTable(header, rows, ["time", "weights", "kv", "bytes"]);
  const routes = placement.routes?.filter(({ chain, segments }) => segments.some((each) => each.chain !== chain)) ?? [];
  const crossing = routes.map(
    ({ chain, segments }) =>
      `chain ${chain} goes by ${segments.map((each) => `${each.chain}.${each.segment}`).join(" ")}`,
  );
  const out = leftOut.map(({ node, why }) => `left out  ${node}: ${why}`);
  const parts = [[headlineText(world, placement), `model ${world.facts.root}`], [table], crossing, out];
  return parts
    .filter((lines) => lines.length > 0)
    .map((lines) => lines.join("\n"))
    .join("\n\n");
}

/** A shard that is loaded and on no route. */
const isSpare = ({ routes }: Placement, { chain, segment }: Assignment): boolean =>
  routes !== undefined &&
  !routes.some(({ segments }) => segments.some((each) => each.chain === chain && each.segment === segment));
