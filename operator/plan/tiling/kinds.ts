/**
 * Sites that nothing tells apart but their names: they are counted, not permuted. A search that would try each of them
 * in the same place tries one.
 */
import type { Field } from "./field.ts";
import { isFlowOnly } from "./judge.ts";
import type { Site } from "./problem.ts";

export type Kinds = {
  readonly kindOf: readonly number[]; // of each site
  readonly members: readonly (readonly number[])[]; // of each kind, by name
};

export function kindsOf(field: Field): Kinds {
  const { aim, rules } = field.problem;
  const tellsOwners = !(isFlowOnly(field.problem) && aim.kind === "throughput" && rules.pricePerHourMax === undefined);
  const byLook = new Map<string, number>();
  const members: number[][] = [];
  const kindOf = field.sites.map((site, index) => {
    const look = lookOf(site, (field.rivals[index] ?? []).length > 0, tellsOwners);
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

function lookOf(site: Site, hasRivals: boolean, tellsOwners: boolean): string {
  const { inner, first, last, whole } = site.layersMax;
  return [
    hasRivals ? site.name : "",
    tellsOwners ? [site.provider, site.pricePerHour, site.secondsPerToken].join() : "",
    site.region,
    site.mayHoldEnds,
    inner,
    first,
    last,
    whole,
    site.tokensPerSecond.join(),
    site.last?.tokensPerSecond.join() ?? "",
  ].join("|");
}
