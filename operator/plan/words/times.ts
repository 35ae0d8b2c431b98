/** What a drawing says that a segment and a link take, by the same arithmetic that the planner searched with. */
import { lengthOf } from "../../../core/ranges.ts";
import { present } from "../../../core/assert.ts";
import { type Costs, costs } from "../cost/costs.ts";
import { linkBetween } from "../cost/links.ts";
import type { Assignment, ModelFacts, Placement, World } from "../types.ts";

/** What is drawn on: a World whose model could be read, as far as words need it. */
export type Known = Pick<World, "model" | "nodes"> & { readonly facts: ModelFacts };

export type Time = { readonly milliseconds: number; readonly isEstimated: boolean };

export type Times = {
  /** One token alone in a segment, its ranks in order. */
  segment(ranks: readonly Assignment[]): Time;
  /** The round trip between two ranks' nodes. */
  hop(from: Assignment, to: Assignment): Time;
};

/** A rank's node may be gone from the world: what is not known takes no time, and counts as estimated. */
export function timesOf({ model, facts, nodes }: Known, placement: Pick<Placement, "slotCount">): Times {
  const byName = new Map(nodes.map((node) => [node.name, node]));
  const slotCount = placement.slotCount ?? model.slotCount;
  let known: Costs | undefined;
  const unknown: Time = { milliseconds: 0, isEstimated: true };
  return {
    segment: (ranks) => {
      const held = ranks.map(({ node }) => byName.get(node)).filter((node) => node !== undefined);
      if (held.length !== ranks.length) return unknown;
      known ??= costs({ ...model, slotCount }, facts, nodes);
      const { layers, sliceWeights } = present(ranks[0], "a segment has a rank");
      const site = known.site(held, ranks.length === sliceWeights.length ? sliceWeights : ranks.map(() => 1));
      const seconds = site.tokenSeconds(lengthOf(layers), layers.end === facts.config.layerCount);
      return { milliseconds: 1000 * seconds, isEstimated: site.estimated.length > 0 };
    },
    hop: (from, to) => {
      const [sender, receiver] = [byName.get(from.node), byName.get(to.node)];
      if (sender === undefined || receiver === undefined) return unknown;
      if (sender === receiver) return { milliseconds: 0, isEstimated: false };
      const { roundTripSeconds, isEstimated } = linkBetween(sender, receiver);
      return { milliseconds: 1000 * roundTripSeconds, isEstimated };
    },
  };
}
