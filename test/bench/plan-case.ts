/**
 * `npm run bench -- plan --case FILE.json`: a file of the "planner-bench" form (nodes with a rate for each number of
 * layers, links in bits a second) as a problem of the search, and its answer as a placement of that form.
 */
import { readFile } from "node:fs/promises";
import type { Link, Site, Tiling, TilingProblem } from "../../operator/plan/tiling/problem.ts";

type Pair = readonly [from: string, to: string, bitsPerSecond: number, seconds: number];
export type PlanCase = {
  readonly case: string;
  readonly model: { readonly layers: number; readonly activationBytesPerToken: number; readonly tokenIdBytes: number };
  readonly nodes: readonly {
    readonly id: string;
    readonly region: string;
    readonly throughput: readonly number[];
    readonly nicBitsPerSec: number;
  }[];
  readonly source: { readonly links: readonly (readonly [node: string, bitsPerSecond: number, seconds: number])[] };
  readonly sink: { readonly links: readonly (readonly [node: string, bitsPerSecond: number, seconds: number])[] };
  readonly links: { readonly pairs: readonly Pair[] };
};

/** Throws where the file is not of that form. */
export async function readCase(path: string): Promise<PlanCase> {
  const read: PlanCase & { readonly schema?: string } = JSON.parse(await readFile(path, "utf8"));
  if (!String(read.schema ?? "").startsWith("planner-bench/"))
    throw new Error(`${path} has no schema of the form planner-bench/…`);
  return read;
}

const NO_LINK: Link = { tokensPerSecond: 0, seconds: Number.POSITIVE_INFINITY };

export function problemOfCase(read: PlanCase, evaluationCount: number): TilingProblem {
  const activationBits = 8 * read.model.activationBytesPerToken;
  const tokenBits = 8 * read.model.tokenIdBytes;
  const layerCount = read.model.layers;
  const pairs = new Map<string, Link>();
  for (const [a, b, bits, seconds] of read.links.pairs) {
    pairs.set(`${a} ${b}`, { tokensPerSecond: bits / activationBits, seconds });
    pairs.set(`${b} ${a}`, { tokensPerSecond: bits / activationBits, seconds });
  }
  const ends = (list: PlanCase["source"]["links"]) =>
    new Map(list.map(([node, bits, seconds]) => [node, { tokensPerSecond: bits / tokenBits, seconds }]));
  const [entries, exits] = [ends(read.source.links), ends(read.sink.links)];
  return {
    layerCount,
    sites: read.nodes.map((node): Site => {
      const tokensPerSecond = node.throughput.map((rate) => Math.min(rate, node.nicBitsPerSec / activationBits));
      const most = tokensPerSecond.length;
      return {
        name: node.id,
        provider: node.region,
        nodes: [node.id],
        region: node.region,
        layersMax: { inner: most, first: most, last: most, whole: most },
        mayHoldEnds: true,
        tokensPerSecond,
        secondsPerToken: tokensPerSecond.map((rate) => 1 / rate),
        pricePerHour: 0,
        reliability: 1,
        isEstimated: false,
      };
    }),
    links: {
      between: (from, to) => pairs.get(`${from.name} ${to.name}`) ?? NO_LINK,
      entry: (site) => entries.get(site.name) ?? NO_LINK,
      exit: (site) => exits.get(site.name) ?? NO_LINK,
    },
    aim: { kind: "throughput" },
    rules: { providersMin: 1, providerLayersMax: layerCount, chainsAfterLoss: 0 },
    chainCount: undefined,
    evaluationCount,
  };
}

export const placementOf = (tiling: Tiling): Readonly<Record<string, readonly [number, number]>> =>
  Object.fromEntries(tiling.holdings.map(({ site, layers }) => [site, [layers.start, layers.end]]));
