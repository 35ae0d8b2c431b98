/** A plan as data for programs: `tessellate plan -o json`. Every field of it is stable; new ones may come. */
import { formatCredits } from "../../../core/units.ts";
import { isLongAgo } from "../cost/speed.ts";
import type { Placement } from "../types.ts";
import type { Known } from "./times.ts";
import { viewOf } from "./view.ts";

/** Money is text in credits, exactly; times are in the units of their names; ranges are [start, end). */
export function placementDocument(world: Known, placement: Placement) {
  const { model, facts } = world;
  const { pricePerHour, ...estimate } = placement.estimate;
  const view = viewOf(world, placement);
  return {
    model: model.name,
    root: facts.root,
    quantization: model.quantization,
    kvDtype: model.kvDtype,
    layerCount: facts.config.layerCount,
    contextLength: model.contextLength,
    slotCount: model.slotCount,
    estimate: { ...estimate, ...(pricePerHour === undefined ? {} : { pricePerHour: formatCredits(pricePerHour) }) },
    chains: view.rows
      .filter(({ chain }) => chain !== undefined)
      .map(({ chain, blocks, hops, tokensPerSecond, millisecondsPerToken }) => ({
        chain,
        ...(tokensPerSecond === undefined ? {} : { tokensPerSecond }),
        ...(millisecondsPerToken === undefined ? {} : { millisecondsPerToken }),
        segments: blocks.map((block, index) => ({
          chain: block.home,
          segment: block.segment,
          layers: [block.layers.start, block.layers.end],
          nodes: block.ranks.map(({ node }) => node),
          milliseconds: block.milliseconds,
          isEstimated: block.isEstimated,
          ...(hops[index] === undefined
            ? {}
            : { roundTripToNextMs: hops[index].milliseconds, roundTripIsEstimated: hops[index].isEstimated }),
        })),
      })),
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
    measured: measuredIn(world, placement),
    leftOut: placement.leftOut,
  };
}

/** How old what is known of each node of the plan is, by its name; `daysAgo` null: nothing was measured, or no date given. */
function measuredIn({ nodes }: Known, { assignments }: Placement) {
  const held = new Set(assignments.map(({ node }) => node));
  return nodes
    .filter(({ name }) => held.has(name))
    .map((node) => ({ node: node.name, daysAgo: node.measuredDaysAgo ?? null, countsAsEstimated: isLongAgo(node) }))
    .sort((a, b) => (a.node < b.node ? -1 : 1));
}
