/**
 * What is simulated, and what comes of it: stations that run batches, ways between them, sessions that pass through.
 * Times are seconds since the beginning; nothing in here is a clock.
 */

/** A segment: one engine that runs one batch at a time. */
export type Station = {
  readonly name: string;
  readonly devices: readonly string[]; // its nodes; stations that share one take turns
  readonly slotCount: number; // sessions that it can hold
  readonly stepSeconds: (batch: BatchShape) => number;
};

export type BatchShape = {
  readonly rowCount: number;
  readonly promptRowCount: number; // of these, rows of prompts
  readonly positionCount: number; // of the KV cache that its rows read, all together
  readonly sampleCount: number; // rows that a token is wanted of
};

/** One direction. Rows that leave together arrive together; the next ones wait until these are on their way. */
export type Way = { readonly seconds: number; readonly secondsPerRow: number };

/** A chain: stations by index, first to last. `weight`: its share of what the gateway gives out. */
export type Path = { readonly stations: readonly number[]; readonly weight: number };

export type House = {
  readonly stations: readonly Station[];
  readonly paths: readonly Path[];
  readonly between: (from: number, to: number) => Way; // by index
  readonly entry: (to: number) => Way; // from the gateway
  readonly exit: (from: number) => Way; // to the gateway
  readonly gatewaySeconds: number; // from a token's arrival there to the next step's departure
  readonly openSeconds: number; // of a session: from a request's arrival to its first step, and as long to close it
  readonly budget: Budget;
  readonly keepsPace: boolean; // engines leave waiting what is far more than comes in the time of a batch
  readonly lingers: boolean; // engines wait a moment for sessions that are about to come back
};

/** Rows of a batch, and of prompts beside decoded ones; see docs/simulation.md. */
export type Budget = {
  readonly rowsMax: number;
  readonly prefillRowsBesideDecode: number;
  readonly decodeRowsMax?: number; // left out: rowsMax
};

/** As ranks and gateway have it: engine/ort-engine.ts, rank.ts and session/rank-session.ts. */
export const RUNTIME_BUDGET: Budget = { rowsMax: 512, prefillRowsBesideDecode: 64 };
export const CHUNK_ROWS = 128;

/** What comes in: so many clients that each ask again at once, or arrivals at random (Poisson). */
export type Load = (
  | { readonly kind: "closed"; readonly clientCount: number }
  | { readonly kind: "open"; readonly sessionsPerSecond: number }
) & {
  readonly promptTokens: number; // on average
  readonly generatedTokens: number; // on average, ≥ 1
  readonly spread: number; // lengths are drawn evenly from (1 ± spread) times these, in [0, 1)
  /** Closed only: sessions begin with a part of their answer written, so that they do not all end at once. */
  readonly underWay?: boolean;
};

export type Run = {
  readonly seed: string;
  /** Generated tokens that are served before anything is counted, and that are then counted. */
  readonly warmUpTokens: number;
  readonly tokens: number;
};

export type Quantiles = { readonly mean: number; readonly median: number; readonly p95: number };

export type Outcome = {
  readonly seconds: number; // counted
  readonly generatedPerSecond: number;
  readonly promptPerSecond: number;
  readonly secondsPerToken: Quantiles; // between one token of a session and the next
  readonly firstTokenSeconds: Quantiles; // from a request's arrival
  readonly sessionCount: number; // ended while it was counted
  /** By station: share of the time in which it computes, rows and sessions of an average batch. */
  readonly stations: readonly {
    readonly name: string;
    readonly utilisation: number;
    readonly batchCount: number;
    readonly rowsPerBatch: number;
    readonly sessionsPerBatch: number;
  }[];
  /** True where nothing more could happen before enough tokens were served: some session can find no slot, ever. */
  readonly stuck: boolean;
};
