/** Random small worlds for comparing the search with an exact solver, and large ones for measuring how it grows. */
import { type Seeded, seededBy } from "../../operator/plan/seeded.ts";
import type { Aim, Link, Rules, Site, TilingProblem } from "../../operator/plan/tiling/problem.ts";

export const AIMS = ["flow", "chains", "rules", "latency", "price", "sessions"] as const;
export type AimName = (typeof AIMS)[number];

const lengths = (most: number): readonly number[] => Array.from({ length: most }, (_, index) => index + 1);

function aRandomSite(index: number, layerCount: number, seeded: Seeded): Site {
  const speed = 50 + 200 * seeded.unit();
  const most = 1 + seeded.below(layerCount);
  const fall = 1 + seeded.unit(); // more layers leave less memory for batches
  const first = Math.max(1, most - seeded.below(2));
  return {
    name: `n${index}`,
    provider: `p${seeded.below(3)}`,
    nodes: [`n${index}`],
    region: `r${seeded.below(2)}`,
    layersMax: { inner: most, first, last: first, whole: Math.max(1, first - seeded.below(2)) },
    mayHoldEnds: seeded.unit() < 0.8,
    tokensPerSecond: lengths(most).map((k) => (speed / k ** fall) * (0.85 + 0.3 * seeded.unit())),
    secondsPerToken: lengths(most).map((k) => k / speed),
    pricePerHour: 100 + seeded.below(900),
    reliability: 1,
    isEstimated: false,
  };
}

/** Two to five sites, three to ten layers, links that bind now and then. The same for the same seed. */
export function aSmallWorld(seed: number, aim: AimName, evaluationCount: number): TilingProblem {
  const seeded = seededBy(`small ${seed}`);
  const siteCount = 2 + seeded.below(4);
  const layerCount = 3 + seeded.below(Math.max(1, [0, 0, 8, 5, 3, 2][siteCount] ?? 1));
  const sites = Array.from({ length: siteCount }, (_, index) => aRandomSite(index, layerCount, seeded));
  const links = new Map<string, Link>();
  for (const from of [...sites, { name: "gateway", region: "r0" }])
    for (const to of [...sites, { name: "gateway", region: "r0" }])
      links.set(`${from.name} ${to.name}`, {
        tokensPerSecond: from.region === to.region ? 1000 : 20 + 100 * seeded.unit(),
        seconds: from.region === to.region ? 0.0005 : 0.002 + 0.01 * seeded.unit(),
      });
  const link = (from: string, to: string): Link => links.get(`${from} ${to}`) ?? { tokensPerSecond: 0, seconds: 1 };
  const rules: Rules = {
    providersMin: 1 + seeded.below(2),
    providerLayersMax: Math.max(Math.ceil(layerCount / 2), layerCount - seeded.below(2)),
    chainsAfterLoss: seeded.below(2),
    ...(seeded.unit() < 0.3 ? { pricePerHourMax: 700 + 400 * siteCount * seeded.unit() } : {}),
  };
  const none: Rules = { providersMin: 1, providerLayersMax: layerCount, chainsAfterLoss: 0 };
  const wanted = 3 + 25 * seeded.unit();
  const chainCount = 1 + seeded.below(3);
  const slowest = 0.05 + 0.2 * seeded.unit();
  const aims: Readonly<Record<AimName, readonly [Aim, Rules, number | undefined]>> = {
    flow: [{ kind: "throughput" }, none, undefined],
    chains: [{ kind: "throughput" }, none, chainCount],
    rules: [{ kind: "throughput", secondsPerTokenMax: slowest }, rules, seeded.below(2) === 0 ? undefined : chainCount],
    latency: [
      { kind: "latency", pricePerHourMax: 500 * siteCount },
      { ...rules, chainsAfterLoss: 0 },
      1 + (chainCount % 2),
    ],
    price: [{ kind: "price", tokensPerSecondMin: wanted }, none, undefined],
    sessions: [
      seeded.below(4) === 0 ? { kind: "price", tokensPerSecondMin: wanted } : { kind: "throughput" },
      seeded.below(2) === 0 ? none : { ...rules, chainsAfterLoss: 0 },
      chainCount,
    ],
  };
  // Between so few that they bind everywhere and so many that nodes do.
  const tokensInFlightMax = 0.1 * 30 ** seeded.unit();
  return {
    layerCount,
    sites,
    links: {
      between: (from, to) => link(from.name, to.name),
      entry: (site) => link("gateway", site.name),
      exit: (site) => link(site.name, "gateway"),
    },
    aim: aims[aim][0],
    rules: aims[aim][1],
    chainCount: aims[aim][2],
    ...(aim === "sessions" ? { tokensInFlightMax } : {}),
    evaluationCount,
  };
}

/** A site that is one of a dozen machines, in one of four regions. */
function aMachine(index: number, seeded: Seeded): Site {
  const machine = seededBy(`machine ${seeded.below(12)}`);
  const speed = 8000 + 80_000 * machine.unit();
  const most = 2 + machine.below(24);
  const rates = lengths(most).map((k) => (speed / k) * (1 - (0.5 * k) / most));
  return {
    name: `n${index}`,
    provider: `p${seeded.below(20)}`,
    nodes: [`n${index}`],
    region: `r${seeded.below(4)}`,
    layersMax: { inner: most, first: most, last: most, whole: most },
    mayHoldEnds: true,
    tokensPerSecond: rates,
    secondsPerToken: lengths(most).map((k) => (40 * k) / speed),
    pricePerHour: 1000,
    reliability: 1,
    isEstimated: false,
  };
}

/** 126 layers over so many sites in four regions with thin links between them. */
export function aLargeWorld(siteCount: number, evaluationCount: number): TilingProblem {
  const seeded = seededBy(`large ${siteCount}`);
  const layerCount = 126;
  const near = { tokensPerSecond: 76_000, seconds: 0.0005 };
  const far = { tokensPerSecond: 700, seconds: 0.03 };
  return {
    layerCount,
    sites: Array.from({ length: siteCount }, (_, index) => aMachine(index, seeded)),
    links: {
      between: (from, to) => (from.region === to.region ? near : far),
      entry: () => near,
      exit: () => near,
    },
    aim: { kind: "throughput" },
    rules: { providersMin: 1, providerLayersMax: layerCount, chainsAfterLoss: 0 },
    chainCount: undefined,
    evaluationCount,
  };
}
