/** A placement in words: the table that people read, and the JSON that programs do. */
import { lengthOf } from "../../core/ranges.ts";
import { formatBytes } from "../../core/units.ts";
import type { Assignment, ModelFacts, ModelSpec, Placement } from "./types.ts";

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
export function showPlacement(model: ModelSpec, { config, root }: ModelFacts, placement: Placement): string {
  const { assignments, leftOut, estimate } = placement;
  const chainCount = new Set(assignments.map(({ chain }) => chain)).size;
  const headline = [
    model.name,
    `${config.layerCount} layers`,
    model.quantization,
    ...(model.kvDtype === "f32" ? [] : [`KV in ${model.kvDtype}`]),
    `${chainCount} ${chainCount === 1 ? "chain" : "chains"} of ${new Set(assignments.map(({ segment }) => segment)).size} segments`,
    `reads ${estimate.millisecondsPerToken.toFixed(1)} ms of weights a token`,
    `bottleneck ${estimate.bottleneck}`,
  ].join(" · ");
  const rows = assignments.map((assignment) => [
    String(assignment.chain),
    assignment.provider,
    assignment.node,
    `${assignment.layers.start}–${assignment.layers.end} (${lengthOf(assignment.layers)})`,
    showSlice(assignment),
    formatBytes(assignment.weightBytes),
    formatBytes(assignment.kvBytes),
    formatBytes(assignment.weightBytes + assignment.kvBytes),
  ]);
  const header = ["chain", "provider", "node", "layers", "slice", "weights", "kv", "bytes"];
  const table = showTable(header, rows, ["weights", "kv", "bytes"]);
  const out = leftOut.map(({ node, why }) => `left out  ${node}: ${why}`);
  return [headline, `model ${root}`, "", table, ...(out.length === 0 ? [] : ["", ...out])].join("\n");
}

/** The same as data; every field of it is stable. */
export function placementDocument(model: ModelSpec, facts: ModelFacts, placement: Placement) {
  return {
    model: model.name,
    root: facts.root,
    quantization: model.quantization,
    kvDtype: model.kvDtype,
    layerCount: facts.config.layerCount,
    contextLength: model.contextLength,
    estimate: placement.estimate,
    ranks: placement.assignments.map((assignment) => ({
      chain: assignment.chain,
      segment: assignment.segment,
      rank: assignment.rank,
      provider: assignment.provider,
      node: assignment.node,
      layers: [assignment.layers.start, assignment.layers.end],
      slice: { rank: assignment.rank, rankCount: assignment.sliceWeights.length, weights: assignment.sliceWeights },
      weightBytes: assignment.weightBytes,
      kvBytes: assignment.kvBytes,
    })),
    leftOut: placement.leftOut,
  };
}
