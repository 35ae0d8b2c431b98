/** Who may hold what, at which rates, as the search wants it: sites and links of a tiling problem, stated from nodes. */
import { lengthOf } from "../../core/ranges.ts";
import { type Costs, costs } from "./cost/costs.ts";
import { type Footprint, footprint } from "./footprint.ts";
import { type Holder, holderName, holders, maySeeText } from "./holders.ts";
import type { Link, Links, Site } from "./tiling/problem.ts";
import type { Assignment, ModelFacts, ModelSpec, NodeFacts } from "./types.ts";

export type Grounds = {
  readonly model: ModelSpec; // with the slots that the figures are for
  readonly facts: ModelFacts;
  readonly costs: Costs;
  readonly sizes: Footprint;
  readonly nodes: ReadonlyMap<string, NodeFacts>;
};

export type Sites = {
  readonly sites: readonly Site[];
  readonly holderAt: ReadonlyMap<string, Holder>; // by the site's name
  readonly links: Links;
};

/** `nodes`: those that may take part, in order of name. */
export const groundsOf = (model: ModelSpec, facts: ModelFacts, nodes: readonly NodeFacts[]): Grounds => ({
  model,
  facts,
  costs: costs(model, facts, nodes),
  sizes: footprint(model, facts),
  nodes: new Map(nodes.map((node) => [node.name, node])),
});

/** Sites that hold at least a layer; `standing` segments are offered as they are, whatever else their nodes could be. */
export function sitesOf(grounds: Grounds, standing: readonly Holder[] = []): Sites {
  const { model, facts, nodes } = grounds;
  const offered = holders(model, facts.config, [...nodes.values()]);
  const all = new Map<string, Holder>();
  // Where a group stands its slices stay as they are: other weights would be other shards.
  for (const holder of [...standing, ...offered]) {
    const name = holderName(holder);
    if (!all.has(name)) all.set(name, holder);
  }
  const useful = [...all.values()].filter(
    (holder) => holder.nodes.length === 1 || standing.includes(holder) || isQuicker(grounds, holder),
  );
  const sites = useful
    .map((holder) => siteOf(grounds, holder))
    .filter(({ layersMax }) => layersMax.inner > 0)
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  return { sites, holderAt: all, links: linksOf(grounds, sites, all) };
}

function siteOf({ model, costs: figures, sizes }: Grounds, holder: Holder): Site {
  const layersMax = sizes.layersMax(holder);
  const site = figures.site(holder.nodes, holder.sliceWeights);
  const { inner, first, last: atEnd, whole } = layersMax;
  const { tokensPerSecond, secondsPerToken, last } = site.rates(Math.max(1, inner, first, atEnd, whole));
  return {
    name: holderName(holder),
    provider: holder.provider,
    nodes: holder.nodes.map(({ name }) => name),
    region: holder.nodes[0]?.region ?? "",
    layersMax,
    mayHoldEnds: maySeeText(model, holder.nodes),
    tokensPerSecond,
    secondsPerToken,
    last,
    pricePerHour: holder.nodes.reduce((sum, { pricePerHour = 0n }) => sum + Number(pricePerHour), 0),
    reliability: holder.nodes.reduce((product, { reliability = 1 }) => product * reliability, 1),
    isEstimated: site.estimated.length > 0,
  };
}

/** Whether a group is better than its nodes one after the other, for a token alone or for all sessions together. */
function isQuicker({ model, facts, costs: figures, sizes }: Grounds, holder: Holder): boolean {
  if (model.placement.tensorParallelAlways === true) return true;
  const layerCount = Math.min(facts.config.layerCount, Math.max(1, sizes.layersMax(holder).inner));
  const total = holder.sliceWeights.reduce((sum, weight) => sum + weight, 0);
  const group = figures.site(holder.nodes, holder.sliceWeights);
  let apartSeconds = 0;
  let apartRate = Number.POSITIVE_INFINITY;
  holder.nodes.forEach((node, index) => {
    const share = Math.max(1, Math.round((layerCount * (holder.sliceWeights[index] ?? 1)) / total));
    const alone = figures.site([node], [1]);
    const next = holder.nodes[index + 1];
    apartSeconds += alone.tokenSeconds(share, false) + (next === undefined ? 0 : figures.link(node, next).seconds);
    apartRate = Math.min(apartRate, alone.rates(facts.config.layerCount).tokensPerSecond[share - 1] ?? 0);
  });
  const groupRate = group.rates(facts.config.layerCount).tokensPerSecond[layerCount - 1] ?? 0;
  return group.tokenSeconds(layerCount, false) < apartSeconds || groupRate > apartRate;
}

/** Leaders speak for their groups. The search asks again and again: what lies between two places is worked out once. */
function linksOf({ costs: figures }: Grounds, sites: readonly Site[], holderAt: ReadonlyMap<string, Holder>): Links {
  const leaders = new Map(sites.map(({ name }) => [name, holderAt.get(name)?.nodes[0]]));
  const measured = new Set([...leaders.values()].flatMap((node) => (node?.links ?? []).map(({ to }) => to)));
  const numbers = new Map<string, number>();
  const placeAt = new Map<string, number>();
  for (const [name, leader] of leaders) {
    const key = placeKey(leader, measured);
    const number = numbers.get(key) ?? numbers.size;
    numbers.set(key, number);
    placeAt.set(name, number);
  }
  const known = new Map<number, Link>();
  const between = (from: Site, to: Site): Link => {
    const pair = (placeAt.get(from.name) ?? 0) * numbers.size + (placeAt.get(to.name) ?? 0);
    const found = known.get(pair);
    if (found !== undefined && from.name !== to.name) return found;
    const [a, b] = [leaders.get(from.name), leaders.get(to.name)];
    const link = a === undefined || b === undefined ? NO_LINK : plain(figures.link(a, b));
    if (from.name !== to.name) known.set(pair, link);
    return link;
  };
  const way = (kind: "entry" | "exit") => {
    const ends = new Map<string, Link>();
    return ({ name }: Site): Link => {
      const leader = leaders.get(name);
      const link = ends.get(name) ?? (leader === undefined ? NO_LINK : plain(figures[kind](leader)));
      ends.set(name, link);
      return link;
    };
  };
  return { between, entry: way("entry"), exit: way("exit") };
}

const NO_LINK: Link = { tokensPerSecond: 0, seconds: Number.POSITIVE_INFINITY };
const plain = ({ tokensPerSecond, seconds }: Link): Link => ({ tokensPerSecond, seconds });

/** Two nodes of one place are alike to every other node: nothing was measured of them, and they stand side by side. */
const placeKey = (node: NodeFacts | undefined, measured: ReadonlySet<string>): string =>
  node === undefined || node.links !== undefined || node.machine !== undefined || measured.has(node.name)
    ? `node ${node?.name}`
    : `${node.provider} ${node.region ?? "?"}`;

/** Those of a segment's ranks that there still are, as the holder that they are. */
export function standingHolder(
  group: readonly Assignment[],
  nodes: ReadonlyMap<string, NodeFacts>,
): Holder | undefined {
  const found = group.flatMap(({ node }) => nodes.get(node) ?? []);
  const [leader] = group;
  if (leader === undefined || found.length !== group.length || lengthOf(leader.layers) === 0) return undefined;
  return { nodes: found, provider: found[0]?.provider ?? "", sliceWeights: leader.sliceWeights };
}
