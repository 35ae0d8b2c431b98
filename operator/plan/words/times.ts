/** What a drawing says that a segment and a link take, and whether anybody measured it. */
import { bandwidthOf } from "../holders.ts";
import type { Assignment, NodeFacts, World } from "../types.ts";

type Nodes = Pick<World, "nodes">;

const byName = new WeakMap<readonly NodeFacts[], ReadonlyMap<string, NodeFacts>>();

function nodeOf({ nodes }: Nodes, name: string): NodeFacts | undefined {
  const known = byName.get(nodes) ?? new Map(nodes.map((node) => [node.name, node]));
  byName.set(nodes, known);
  return known.get(name);
}

/** Milliseconds that one token alone spends in a segment: its slowest rank. */
export function segmentMillis(
  world: Nodes,
  ranks: readonly Assignment[],
): { readonly milliseconds: number; readonly isEstimated: boolean } {
  let milliseconds = 0;
  let isEstimated = false;
  for (const { node: name, weightBytes } of ranks) {
    const node = nodeOf(world, name);
    if (node === undefined) continue;
    milliseconds = Math.max(milliseconds, (1000 * weightBytes) / bandwidthOf(node));
    isEstimated ||= node.layerTimes === undefined && node.memoryBytesPerSecond === 0;
  }
  return { milliseconds, isEstimated };
}

/** The round trip between two ranks' nodes in milliseconds, as either of them measured it; undefined: neither did. */
export function hopMillis(world: Nodes, from: Assignment, to: Assignment): number | undefined {
  if (from.node === to.node) return 0;
  const measured =
    nodeOf(world, from.node)?.links?.find((link) => link.to === to.node) ??
    nodeOf(world, to.node)?.links?.find((link) => link.to === from.node);
  return measured === undefined ? undefined : measured.roundTripMicros / 1000;
}
