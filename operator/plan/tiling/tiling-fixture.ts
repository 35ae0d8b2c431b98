/** Sites and problems for tests: every default is boring, so that whatever a test sets is what the test is about. */
import type { Link, Site, TilingProblem } from "./problem.ts";

export const FAST_LINK: Link = { tokensPerSecond: 1e6, seconds: 0.001 };

/** `perLayer` is the rate with one layer: with k it is a k-th of that. */
export function aSite(name: string, perLayer = 100, most = 6, more: Partial<Site> = {}): Site {
  const lengths = Array.from({ length: most }, (_, index) => index + 1);
  return {
    name,
    provider: `of-${name}`,
    nodes: [name],
    region: "here",
    layersMax: { inner: most, first: most, last: most, whole: most },
    mayHoldEnds: true,
    tokensPerSecond: lengths.map((k) => perLayer / k),
    secondsPerToken: lengths.map((k) => k / perLayer),
    pricePerHour: 1000,
    reliability: 1,
    isEstimated: false,
    ...more,
  };
}

export function aProblem(sites: readonly Site[], more: Partial<TilingProblem> = {}): TilingProblem {
  const layerCount = more.layerCount ?? 6;
  return {
    layerCount,
    sites,
    links: { between: () => FAST_LINK, entry: () => FAST_LINK, exit: () => FAST_LINK },
    aim: { kind: "throughput" },
    rules: { providersMin: 1, providerLayersMax: layerCount, chainsAfterLoss: 0 },
    chainCount: undefined,
    evaluationCount: 2000,
    ...more,
  };
}
