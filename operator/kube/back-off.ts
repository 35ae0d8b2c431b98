/** Waiting longer after each failure, so that a server in trouble is left alone, yet never long once it answers. */
export class BackOff {
  readonly #leastMs: number;
  readonly #mostMs: number;
  readonly #random: () => number;
  #failureCount = 0;

  /** `random` draws from [0, 1). */
  constructor(options: { readonly leastMs: number; readonly mostMs: number; readonly random?: () => number }) {
    this.#leastMs = options.leastMs;
    this.#mostMs = options.mostMs;
    this.#random = options.random ?? Math.random;
  }

  reset(): void {
    this.#failureCount = 0;
  }

  /** The next pause: doubling, and between a half and the whole of that, so that many clients do not return at once. */
  nextMs(): number {
    const wholeMs = Math.min(this.#mostMs, this.#leastMs * 2 ** this.#failureCount);
    this.#failureCount += 1;
    return wholeMs * (0.5 + this.#random() / 2);
  }
}
