/** Objects that we wrote a moment ago and that the copies may not show yet. */
import type { Clock } from "../../core/clock.ts";
import type { KubeObject } from "./objects.ts";

/** Copies lag by milliseconds; an object that is not there after this long was deleted by somebody else. */
const LAG_MS = 10_000;

export class Recent {
  readonly #clock: Clock;
  readonly #entries = new Map<string, { readonly object: KubeObject; readonly untilMs: number }>(); // oldest first

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get size(): number {
    return this.#entries.size;
  }

  set(key: string, object: KubeObject): void {
    this.#entries.delete(key);
    this.#entries.set(key, { object, untilMs: this.#clock.monotonicMs() + LAG_MS });
    this.#dropOld();
  }

  get(key: string): KubeObject | undefined {
    this.#dropOld();
    return this.#entries.get(key)?.object;
  }

  delete(key: string): void {
    this.#entries.delete(key);
  }

  all(): ReadonlyMap<string, KubeObject> {
    this.#dropOld();
    return new Map([...this.#entries].map(([key, { object }]) => [key, object]));
  }

  #dropOld(): void {
    const nowMs = this.#clock.monotonicMs();
    for (const [key, { untilMs }] of this.#entries) {
      if (untilMs > nowMs) return;
      this.#entries.delete(key);
    }
  }
}
