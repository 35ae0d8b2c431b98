/** Objects that we wrote a moment ago and that the copies may not show yet. */
import type { Clock } from "../../core/clock.ts";
import type { KubeObject } from "./objects.ts";

/** Copies lag by milliseconds; an object that is not there after this long was deleted by somebody else. */
const LAG_MS = 10_000;

export class Recent {
  readonly #clock: Clock;
  readonly #entries = new Map<string, { readonly object: KubeObject; readonly untilMs: number }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  set(key: string, object: KubeObject): void {
    this.#entries.set(key, { object, untilMs: this.#clock.monotonicMs() + LAG_MS });
  }

  get(key: string): KubeObject | undefined {
    return this.all().get(key);
  }

  delete(key: string): void {
    this.#entries.delete(key);
  }

  all(): ReadonlyMap<string, KubeObject> {
    const nowMs = this.#clock.monotonicMs();
    for (const [key, { untilMs }] of this.#entries) if (untilMs <= nowMs) this.#entries.delete(key);
    return new Map([...this.#entries].map(([key, { object }]) => [key, object]));
  }
}
