/** How long each phase of a long test took, for whoever wants to know where the minutes go. */

/** A note took no time. */
type Phase = { readonly name: string; readonly milliseconds?: number };

export class Timeline {
  readonly #phases: Phase[] = [];

  /** Does `work`, and notes how long it took, whether it went well or not. */
  async phase<T>(name: string, work: () => Promise<T>): Promise<T> {
    const startedMs = performance.now();
    try {
      return await work();
    } finally {
      this.#phases.push({ name, milliseconds: performance.now() - startedMs });
    }
  }

  /** A line of its own below the phase that ended last. */
  note(text: string): void {
    this.#phases.push({ name: `  ${text}` });
  }

  /** One line per phase in the order in which they ended, and their sum. */
  text(): string {
    const total = this.#phases.reduce((sum, { milliseconds = 0 }) => sum + milliseconds, 0);
    return [...this.#phases, { name: "together", milliseconds: total }]
      .map(({ name, milliseconds }) => {
        const seconds = milliseconds === undefined ? "" : `${(milliseconds / 1000).toFixed(1)} s`;
        return `${seconds.padStart(9)}  ${name}`;
      })
      .join("\n");
  }
}
