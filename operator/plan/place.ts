/**
 * A fresh placement: which holder serves which layers of which chain. Layers go one at a time to the holder that would
 * be done soonest, within its memory and its provider's share: for contiguous ranges of equal layers this minimises the
 * slowest segment, which is what bounds a pipeline's throughput.
 */
import type { LayerRange } from "../../core/ranges.ts";
import { type Result, ok, refuse } from "../../core/result.ts";
import { formatBytes } from "../../core/units.ts";
import { type Footprint, footprint } from "./footprint.ts";
import { type Holder, bandwidthOf, eligible, holders } from "./holders.ts";
import type { Assignment, LeftOut, ModelFacts, ModelSpec, NodeFacts, Placement, World } from "./types.ts";

export type PlaceCode = "NoNodes" | "TooFewProviders" | "NotEnoughRoom";

type Share = { readonly holder: Holder; readonly layers: LayerRange };

/** Decides afresh, whatever runs now. `world.facts` must be readable. Deterministic, whatever the order of the nodes. */
export function place(world: World & { readonly facts: ModelFacts }): Result<Placement, PlaceCode> {
  const { model, facts } = world;
  const { nodes, leftOut } = eligible(model, world.nodes);
  if (nodes.length === 0)
    return refuse(
      "NoNodes",
      `no node may serve this model: ${leftOut.map(({ node, why }) => `${node}: ${why}`).join("; ") || "there is none"}`,
    );
  const all = holders(model, facts.config, nodes);
  const providerCount = new Set(nodes.map(({ provider }) => provider)).size;
  if (providerCount < model.placement.providersMin) {
    return refuse(
      "TooFewProviders",
      `spec.placement.providers.min asks for ${model.placement.providersMin}, and ${providerCount} offer nodes that may serve this model`,
    );
  }
  if (facts.config.layerCount < model.placement.providersMin) {
    return refuse(
      "TooFewProviders",
      `the model has ${facts.config.layerCount} layers, too few for spec.placement.providers.min ${model.placement.providersMin}`,
    );
  }
  const sizes = footprint(model, facts);
  const apart = placeChains(model, facts, sizes, divide(all, model.replicas, sizes), "apart");
  const chains = apart.ok
    ? apart
    : placeChains(
        model,
        facts,
        sizes,
        Array.from({ length: model.replicas }, () => all),
        "shared",
      );
  if (!chains.ok) return chains;
  const assignments = chains.value.flatMap((shares, chain) =>
    shares.flatMap((share, segment) => assignmentsOf(share, segment, chain, sizes, shares.length)),
  );
  return ok(describePlacement(world, assignments));
}

/** Deals holders out to chains, largest first, each to the chain that has the least room: no chain shares a node. */
function divide(all: readonly Holder[], chainCount: number, sizes: Footprint): readonly (readonly Holder[])[] {
  const chains: Holder[][] = Array.from({ length: chainCount }, () => []);
  const rooms = new Array<number>(chainCount).fill(0);
  const bySize = [...all].sort(
    (a, b) => sizes.layerCapacity(b) - sizes.layerCapacity(a) || (nameOf(a) < nameOf(b) ? -1 : 1),
  );
  for (const holder of bySize) {
    const least = rooms.indexOf(Math.min(...rooms));
    chains[least]?.push(holder);
    rooms[least] = (rooms[least] ?? 0) + sizes.layerCapacity(holder);
  }
  return chains;
}

function placeChains(
  model: ModelSpec,
  facts: ModelFacts,
  sizes: Footprint,
  pools: readonly (readonly Holder[])[],
  nodes: "apart" | "shared",
): Result<readonly (readonly Share[])[], PlaceCode> {
  const chains: (readonly Share[])[] = [];
  const used = new Map<string, number>(); // bytes by node, of chains placed already
  for (const pool of pools) {
    const chain = placeChain(model, facts, sizes, pool, used);
    if (!chain.ok) return chain;
    chains.push(chain.value);
    if (nodes === "shared")
      chain.value.forEach((share, index) =>
        sizes
          .bytes(share, index === 0, index === chain.value.length - 1)
          .forEach(({ node, weightBytes, kvBytes }) => used.set(node, (used.get(node) ?? 0) + weightBytes + kvBytes)),
      );
  }
  return ok(chains);
}

function placeChain(
  model: ModelSpec,
  facts: ModelFacts,
  sizes: Footprint,
  pool: readonly Holder[],
  used: ReadonlyMap<string, number>,
): Result<readonly Share[], PlaceCode> {
  const providers = new Set(pool.map(({ provider }) => provider));
  if (providers.size < model.placement.providersMin) {
    return refuse(
      "TooFewProviders",
      `a chain needs ${model.placement.providersMin} providers, and only ${providers.size} are left for it: add providers or ask for fewer replicas`,
    );
  }
  // First as if the embedding and the head took no room; if they then do not fit, with room kept for them everywhere.
  for (const reserveEnds of [false, true]) {
    const capacities = pool.map((holder) => sizes.layerCapacity(holder, used, reserveEnds));
    const counts = dealLayers(model, facts.config.layerCount, pool, capacities);
    if (counts === undefined) {
      if (!reserveEnds) return notEnoughRoom(model, facts, sizes, pool, capacities);
      continue;
    }
    const shares = inOrder(pool, counts, capacities);
    if (shares.every((share, index) => sizes.fits(share, index === 0, index === shares.length - 1, used)))
      return ok(shares);
  }
  return notEnoughRoom(
    model,
    facts,
    sizes,
    pool,
    pool.map((holder) => sizes.layerCapacity(holder, used, true)),
  );
}

/** Layers for each holder of the pool, or undefined where they cannot all be placed. */
function dealLayers(
  model: ModelSpec,
  layerCount: number,
  pool: readonly Holder[],
  capacities: readonly number[],
): readonly number[] | undefined {
  const providerLimit = providerLayerLimit(model, layerCount);
  const counts = pool.map(() => 0);
  const byProvider = new Map<string, number>();
  const give = (candidates: readonly number[]): boolean => {
    const open = candidates.filter(
      (index) =>
        (counts[index] ?? 0) < (capacities[index] ?? 0) &&
        (byProvider.get(pool[index]?.provider ?? "") ?? 0) < providerLimit,
    );
    const soonest = open.reduce<number | undefined>(
      (best, index) => (best === undefined || doneAfter(index) < doneAfter(best) ? index : best),
      undefined,
    );
    if (soonest === undefined) return false;
    counts[soonest] = (counts[soonest] ?? 0) + 1;
    const provider = pool[soonest]?.provider ?? "";
    byProvider.set(provider, (byProvider.get(provider) ?? 0) + 1);
    return true;
  };
  const doneAfter = (index: number) => ((counts[index] ?? 0) + 1) / (pool[index]?.bytesPerSecond ?? 1);
  const indexes = pool.map((_, index) => index);
  let left = layerCount;
  // One layer for each of as many providers as the model asks for, fastest first; the rest wherever it is done soonest.
  for (let count = 0; count < model.placement.providersMin && left > 0; count++, left--) {
    if (!give(indexes.filter((index) => !byProvider.has(pool[index]?.provider ?? "")))) return undefined;
  }
  for (; left > 0; left--) if (!give(indexes)) return undefined;
  return counts;
}

/** Order of segments: the holders with most room left at the two ends, where the embedding and the head lie. */
function inOrder(pool: readonly Holder[], counts: readonly number[], capacities: readonly number[]): readonly Share[] {
  const chosen = pool
    .map((holder, index) => ({
      holder,
      count: counts[index] ?? 0,
      slack: (capacities[index] ?? 0) - (counts[index] ?? 0),
    }))
    .filter(({ count }) => count > 0);
  const bySlack = [...chosen].sort((a, b) => b.slack - a.slack || (nameOf(a.holder) < nameOf(b.holder) ? -1 : 1));
  const ends = bySlack.length > 1 ? bySlack.slice(0, 2) : [];
  const between = bySlack.slice(ends.length).sort((a, b) => (nameOf(a.holder) < nameOf(b.holder) ? -1 : 1));
  const [last, first] = ends;
  let start = 0;
  return [first, ...between, last].flatMap((part) =>
    part === undefined ? [] : [{ holder: part.holder, layers: { start, end: (start += part.count) } }],
  );
}

function assignmentsOf(
  share: Share,
  segment: number,
  chain: number,
  sizes: Footprint,
  segmentCount: number,
): readonly Assignment[] {
  const bytes = sizes.bytes(share, segment === 0, segment === segmentCount - 1);
  return share.holder.nodes.map((node, rank) => ({
    chain,
    segment,
    rank,
    node: node.name,
    provider: node.provider,
    layers: share.layers,
    sliceWeights: share.holder.sliceWeights,
    weightBytes: bytes[rank]?.weightBytes ?? 0,
    kvBytes: bytes[rank]?.kvBytes ?? 0,
  }));
}

function notEnoughRoom(
  model: ModelSpec,
  facts: ModelFacts,
  sizes: Footprint,
  pool: readonly Holder[],
  capacities: readonly number[],
): Result<never, "NotEnoughRoom"> {
  const { layerCount } = facts.config;
  const rooms = pool.map(
    (holder, index) =>
      `${nameOf(holder)} ${formatBytes(Math.min(...holder.nodes.map(({ freeBytes }) => freeBytes)))} free, room for ${capacities[index] ?? 0} layers`,
  );
  const held = capacities.reduce((sum, capacity) => sum + capacity, 0);
  const shortBytes = Math.max(1, layerCount - held) * sizes.layerBytes;
  const smaller = model.quantization === "int4" ? "a smaller contextLength or fewer slots" : "quantization int4";
  const limit =
    model.placement.providersMaxSharePercent < 100
      ? `, or a larger placement.providers.maxShare (now ${model.placement.providersMaxSharePercent}%)`
      : "";
  return refuse(
    "NotEnoughRoom",
    [
      `${formatBytes(shortBytes)} short: ${layerCount} layers of ${formatBytes(sizes.layerBytes)} each (weights and KV), `,
      `embedding and head ${formatBytes(sizes.endBytes)}; ${rooms.join("; ")}. `,
      `Add a node with ${formatBytes(shortBytes + sizes.endBytes)} free, or use ${smaller}`,
      `${model.replicas > 1 ? ", or fewer replicas" : ""}${limit}`,
    ].join(""),
  );
}

/** The nodes that the assignments leave out, each with its reason, and what the assignments promise. */
export function describePlacement({ model, nodes }: World, assignments: readonly Assignment[]): Placement {
  const { nodes: fit, leftOut } = eligible(model, nodes);
  return { assignments, leftOut: [...leftOut, ...unused(fit, assignments)], estimate: estimate(assignments, nodes) };
}

function unused(nodes: readonly NodeFacts[], assignments: readonly Assignment[]): readonly LeftOut[] {
  const used = new Set(assignments.map(({ node }) => node));
  return nodes
    .filter(({ name }) => !used.has(name))
    .map(({ name }) => ({ node: name, code: "NotNeeded", why: "no layer would be done sooner here, or none fits" }));
}

/** Decoding reads every weight once a token: bytes over bandwidth, the slowest rank of each segment, segments in turn. */
function estimate(assignments: readonly Assignment[], nodes: readonly NodeFacts[]): Placement["estimate"] {
  const byName = new Map(nodes.map((node) => [node.name, node]));
  const slowest = new Map<number, { seconds: number; node: string }>();
  for (const assignment of assignments.filter(({ chain }) => chain === 0)) {
    const node = byName.get(assignment.node);
    const seconds = node === undefined ? 0 : assignment.weightBytes / bandwidthOf(node);
    if (seconds > (slowest.get(assignment.segment)?.seconds ?? -1))
      slowest.set(assignment.segment, { seconds, node: assignment.node });
  }
  const segments = [...slowest.values()];
  const bottleneck = segments.reduce((worst, segment) => (segment.seconds > worst.seconds ? segment : worst), {
    seconds: -1,
    node: "",
  });
  return {
    millisecondsPerToken: 1000 * segments.reduce((sum, { seconds }) => sum + seconds, 0),
    bottleneck: bottleneck.node,
  };
}

const nameOf = (holder: Holder): string => holder.nodes.map(({ name }) => name).join("+");

/** The most layers of one chain that one provider may hold. */
export const providerLayerLimit = (model: ModelSpec, layerCount: number): number =>
  Math.max(1, Math.floor((layerCount * model.placement.providersMaxSharePercent) / 100));

/** Whether the assignments of one chain cover [0, layerCount) once, in segment order, with every rank of every segment. */
export function layersCovered(chain: readonly Assignment[], layerCount: number): boolean {
  let next = 0;
  const segmentCount = new Set(chain.map(({ segment }) => segment)).size;
  for (let segment = 0; segment < segmentCount; segment++) {
    const ranks = chain.filter((assignment) => assignment.segment === segment);
    const leader = ranks.find(({ rank }) => rank === 0);
    if (leader === undefined || leader.layers.start !== next || ranks.length !== leader.sliceWeights.length)
      return false;
    if (ranks.some(({ layers }) => layers.start !== leader.layers.start || layers.end !== leader.layers.end))
      return false;
    next = leader.layers.end;
  }
  return next === layerCount;
}
