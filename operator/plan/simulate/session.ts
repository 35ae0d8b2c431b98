/** One generation while it is simulated, its steps, and its visits to engines. */
import type { SimulatedStep } from "./batching.ts";

export type Session = {
  readonly path: number;
  readonly visits: readonly Visit[]; // by segment
  readonly promptTokens: number;
  readonly generatedTokens: number;
  readonly askedAt: number;
  readonly isUnderWay: boolean; // it had begun before the simulation did
  generated: number;
  lastTokenAt: number;
};

export type Step = SimulatedStep<Session>;

/** A session as one engine holds it: when its last step left, and how long its next usually takes to come. */
export type Visit = { leftAt: number | undefined; away: number | undefined; roundAt: number | undefined };
