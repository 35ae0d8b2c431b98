/**
 * The planner's problem without Kubernetes, memory units or models: sites that may hold runs of layers at measured
 * rates, links between them, an aim, and rules. `place` states one from a World; the search answers with a Tiling.
 */
import type { LayerRange } from "../../../core/ranges.ts";

/** One that may hold a run of layers: a node alone, or a tensor-parallel group of nodes. */
export type Site = {
  readonly name: string; // unique
  readonly provider: string;
  readonly nodes: readonly string[]; // in rank order; two sites that share a node exclude each other
  readonly region: string;
  /** Layers that fit: in the middle of a chain, and where the site also holds the embedding, the head, or both. */
  readonly layersMax: { readonly inner: number; readonly first: number; readonly last: number; readonly whole: number };
  readonly mayHoldEnds: boolean; // whether raw text may reach it: first and last layers, embedding, head
  /** At [k − 1]: tokens a second, prompt and generated together, at full batches, when it holds k layers. */
  readonly tokensPerSecond: readonly number[];
  /** At [k − 1]: seconds that one token of a session alone spends in k layers here. */
  readonly secondsPerToken: readonly number[];
  /** The same where it also holds the head, which costs time as layers do; left out: the head costs nothing. */
  readonly last?: { readonly tokensPerSecond: readonly number[]; readonly secondsPerToken: readonly number[] };
  readonly pricePerHour: number; // micro-credits, for all its nodes while it holds anything
  readonly reliability: number; // share of time it answers, in (0, 1]
  readonly isEstimated: boolean; // some of the above was not measured
};

/** One direction. */
export type Link = { readonly tokensPerSecond: number; readonly seconds: number };

/** Links by exception: a pair that was measured, else what lies between the two regions. */
export type Links = {
  readonly between: (from: Site, to: Site) => Link;
  readonly entry: (site: Site) => Link; // gateway to a first segment
  readonly exit: (site: Site) => Link; // last segment to the gateway
};

export type Aim =
  | { readonly kind: "throughput"; readonly secondsPerTokenMax?: number } // most tokens a second
  | { readonly kind: "latency"; readonly pricePerHourMax?: number } // fewest seconds a token, of the slowest chain
  | { readonly kind: "price"; readonly tokensPerSecondMin: number }; // lowest price an hour

/** What every answer keeps to. */
export type Rules = {
  readonly providersMin: number; // in each chain
  readonly providerLayersMax: number; // layers of any one chain that one provider may hold
  readonly chainsAfterLoss: number; // chains left whole after the loss of any one provider
  readonly pricePerHourMax?: number;
};

export type TilingProblem = {
  readonly layerCount: number;
  readonly sites: readonly Site[];
  readonly links: Links;
  readonly aim: Aim;
  readonly rules: Rules;
  /**
   * By sessions that have room in one holding: tokens a second × seconds a token. A session gets its next token only after
   * the last one, so a slow chain carries little however wide it is, and chains that share a holding share its sessions
   * evenly, as gateways deal them out. Left out: no limit. Looked at only where a number of chains is given.
   */
  readonly tokensInFlightMax?: number;
  /**
   * Chains asked for: each differs from the others in at least one holding, and may share all the rest where ends meet;
   * where the sites do not give so many, or where more would only take sessions from each other, the widest are named
   * again. Undefined: as many as carry flow.
   */
  readonly chainCount: number | undefined;
  /** What stands already: kept unless the gain is above `gainMin` (a share) or a rule forces a change. */
  readonly standing?: { readonly holdings: readonly Holding[]; readonly gainMin: number };
  /** How long to search, in evaluations: no clock in here, so that the same problem gives the same answer. */
  readonly evaluationCount: number;
};

/** A run of layers at a site. */
export type Holding = { readonly site: string; readonly layers: LayerRange };

/** A path of one session: holdings whose layers meet, from the first layer to the last. */
export type TilingChain = {
  readonly holdings: readonly number[]; // indexes into Tiling.holdings
  readonly tokensPerSecond: number; // its share of the flow
  readonly secondsPerToken: number; // one session alone, trips included
};

export type Tiling = {
  readonly holdings: readonly Holding[];
  readonly chains: readonly TilingChain[];
  readonly tokensPerSecond: number; // of all chains together
  readonly pricePerHour: number;
  /** What stands in the way of more: sites, or links as "from → to", of the minimum cut. */
  readonly bottleneck: readonly string[];
  /** No tiling of these sites carries more, whatever its chains: proved, see bound.ts. */
  readonly tokensPerSecondBound: number;
};

export type TilingCode = "NoSites" | "NotEnoughRoom" | "TooFewProviders" | "RulesNotMet";
