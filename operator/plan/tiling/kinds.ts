/**
 * Sites that nothing tells apart but their names: they are counted, not permuted. A search that would try each of them
 * in the same place tries one.
 */
import { type Field, siteAt } from "./field.ts";
import { isFlowOnly } from "./judge.ts";
import type { Site } from "./problem.ts";

export type Kinds = {
  readonly kindOf: readonly number[]; // of each site
  readonly members: readonly (readonly number[])[]; // of each kind, by name
};

export function kindsOf(field: Field): Kinds {
  const { aim, rules } = field.problem;
  const tellsOwners = !(isFlowOnly(field.problem) && aim.kind === "throughput" && rules.pricePerHourMax === undefined);
  const byLook = new Map<string, number[]>(); // kinds that look alike at first sight
  const members: number[][] = [];
  const kindOf = field.sites.map((site, index) => {
    const look = lookOf(site, (field.rivals[index] ?? []).length > 0, tellsOwners);
    const alike = byLook.get(look) ?? [];
    byLook.set(look, alike);
    let kind = alike.find((each) => isAlike(site, siteAt(field, members[each]?.[0] ?? 0), tellsOwners));
    if (kind === undefined) {
      kind = members.length;
      alike.push(kind);
      members.push([]);
    }
    members[kind]?.push(index);
    return kind;
  });
  return { kindOf, members };
}

/** Cheap to compare, and seldom the same for sites that are not alike. */
function lookOf(site: Site, hasRivals: boolean, tellsOwners: boolean): string {
  const { inner, first, last, whole } = site.layersMax;
  const owners = tellsOwners ? `${site.provider} ${site.pricePerHour} ${site.secondsPerToken.at(-1)}` : "";
  const rates = `${site.tokensPerSecond.length} ${site.tokensPerSecond[0]} ${site.tokensPerSecond.at(-1)}`;
  return [hasRivals ? site.name : "", owners, site.region, site.mayHoldEnds, inner, first, last, whole, rates].join(
    "|",
  );
}

const isAlike = (a: Site, b: Site, tellsOwners: boolean): boolean =>
  isEqual(a.tokensPerSecond, b.tokensPerSecond) &&
  isEqual(a.last?.tokensPerSecond ?? [], b.last?.tokensPerSecond ?? []) &&
  (!tellsOwners || isEqual(a.secondsPerToken, b.secondsPerToken));

const isEqual = (a: readonly number[], b: readonly number[]): boolean =>
  a === b || (a.length === b.length && a.every((value, index) => value === b[index]));
