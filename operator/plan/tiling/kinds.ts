/**
 * Sites that nothing tells apart but their names: they are counted, not permuted. A search that would try each of them
 * in the same place tries one.
 */
import type { Field } from "./field.ts";
import type { Site } from "./problem.ts";

export type Kinds = {
  readonly kindOf: readonly number[]; // of each site
  readonly members: readonly (readonly number[])[]; // of each kind, by name
};

export function kindsOf(field: Field): Kinds {
  const byLook = new Map<string, number>();
  const members: number[][] = [];
  const kindOf = field.sites.map((site, index) => {
    const look = lookOf(site, (field.rivals[index] ?? []).length > 0);
    const kind = byLook.get(look) ?? members.length;
    if (kind === members.length) {
      byLook.set(look, kind);
      members.push([]);
    }
    members[kind]?.push(index);
    return kind;
  });
  return { kindOf, members };
}

function lookOf(site: Site, hasRivals: boolean): string {
  const { inner, first, last, whole } = site.layersMax;
  return [
    hasRivals ? site.name : "",
    site.provider,
    site.region,
    site.mayHoldEnds,
    site.pricePerHour,
    inner,
    first,
    last,
    whole,
    site.tokensPerSecond.join(),
    site.secondsPerToken.join(),
  ].join("|");
}
