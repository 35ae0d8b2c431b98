/** What is counted while a house is simulated. */
import type { Outcome, Quantiles } from "./house.ts";
import type { Session } from "./session.ts";

export class Tally {
  beganAt = 0;
  generated = 0;
  promptRows = 0;
  sessionCount = 0;
  #tokenSeconds: number[] = [];
  #firstTokenSeconds: number[] = [];

  /** Forgets what was so far. */
  begin(now: number): void {
    this.beganAt = now;
    this.generated = 0;
    this.promptRows = 0;
    this.sessionCount = 0;
    this.#tokenSeconds = [];
    this.#firstTokenSeconds = [];
  }

  token({ generated, isUnderWay, askedAt, lastTokenAt }: Session, now: number): void {
    this.generated += 1;
    if (generated > 1) this.#tokenSeconds.push(now - lastTokenAt);
    else if (!isUnderWay) this.#firstTokenSeconds.push(now - askedAt);
  }

  figures(now: number): Omit<Outcome, "stations" | "stuck"> {
    const seconds = now - this.beganAt;
    return {
      seconds,
      generatedPerSecond: seconds === 0 ? 0 : this.generated / seconds,
      promptPerSecond: seconds === 0 ? 0 : this.promptRows / seconds,
      secondsPerToken: quantiles(this.#tokenSeconds),
      firstTokenSeconds: quantiles(this.#firstTokenSeconds),
      sessionCount: this.sessionCount,
    };
  }
}

function quantiles(values: readonly number[]): Quantiles {
  const sorted = Float64Array.from(values).sort();
  const at = (share: number): number => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
  const mean = sorted.length === 0 ? 0 : sorted.reduce((sum, value) => sum + value, 0) / sorted.length;
  return { mean, median: at(0.5), p95: at(0.95) };
}
