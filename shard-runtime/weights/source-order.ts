/**
 * Which of several sources is asked first. Pure. The order listed is the owner's wish; a source that failed stands behind
 * those that have not, so that a dead one costs its retries once and not at every tensor, and comes to the front again
 * only by working when all the others had failed too.
 */
export class SourceOrder {
  readonly #failureCounts: number[];

  constructor(sourceCount: number) {
    this.#failureCounts = new Array<number>(sourceCount).fill(0);
  }

  /** Indexes of the sources, all of them, the next to ask first. */
  order(): readonly number[] {
    const failures = (index: number): number => this.#failureCounts[index] ?? 0;
    return [...this.#failureCounts.keys()].sort((a, b) => failures(a) - failures(b) || a - b);
  }

  worked(index: number): void {
    this.#failureCounts[index] = 0;
  }

  failed(index: number): void {
    this.#failureCounts[index] = (this.#failureCounts[index] ?? 0) + 1;
  }
}
