/** Of nodes that are alike in all that the search looks at, those with more of the model in their cache load sooner. */
import type { Holder } from "./holders.ts";
import type { Holding, Site } from "./tiling/problem.ts";
import type { NodeFacts } from "./types.ts";

/** The holdings with nodes changed for unused ones of their kind that have cached more; what stands stays. */
export function preferCached(
  holdings: readonly Holding[],
  sites: readonly Site[],
  holderAt: ReadonlyMap<string, Holder>,
  root: string,
  standing: ReadonlySet<string>,
): readonly Holding[] {
  const nodeOf = (name: string): NodeFacts | undefined => {
    const nodes = holderAt.get(name)?.nodes ?? [];
    return nodes.length === 1 ? nodes[0] : undefined;
  };
  const cachedOn = (name: string) => nodeOf(name)?.cached?.[root] ?? 0;
  if (!sites.some(({ name }) => cachedOn(name) > 0)) return holdings;
  const used = new Set(holdings.flatMap(({ site }) => (holderAt.get(site)?.nodes ?? []).map(({ name }) => name)));
  const kinds = Map.groupBy(sites, (site) => kindOf(site, nodeOf(site.name)));
  return holdings.map((holding) => {
    const own = sites.find(({ name }) => name === holding.site);
    if (own === undefined || standing.has(holding.site) || nodeOf(holding.site) === undefined) return holding;
    const best = (kinds.get(kindOf(own, nodeOf(own.name))) ?? [])
      .filter(({ name }) => !used.has(name))
      .sort((a, b) => cachedOn(b.name) - cachedOn(a.name) || (a.name < b.name ? -1 : 1))[0];
    if (best === undefined || cachedOn(best.name) <= cachedOn(holding.site)) return holding;
    used.delete(holding.site);
    used.add(best.name);
    return { ...holding, site: best.name };
  });
}

/** What tells sites apart for the search; a node whose links were measured is of its own kind. */
const kindOf = (site: Site, node: NodeFacts | undefined): string =>
  node === undefined || node.links !== undefined || node.machine !== undefined
    ? site.name
    : [
        site.provider,
        site.region,
        node.device,
        site.mayHoldEnds,
        Object.values(site.layersMax),
        site.tokensPerSecond[0],
        site.secondsPerToken.at(-1),
        site.pricePerHour,
        site.reliability,
      ].join();
