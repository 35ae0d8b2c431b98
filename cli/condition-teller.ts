/**
 * Says how a model comes up. How far loading is changes all the time: a terminal shows that in one line that is redrawn, a
 * log gets it now and then.
 */
import { systemClock } from "../core/wire/clock.ts";
import type { Condition } from "../operator/plan/types.ts";
import { ProgressBar } from "./progress-bar.ts";

/** Where there is no terminal, a condition that only changes its words is told so often. */
const REPEAT_MS = 10_000;

type Told = { readonly what: string; readonly atMs: number };

export class ConditionTeller {
  readonly #bar = new ProgressBar();
  readonly #told = new Map<string, Told>(); // by type
  readonly #now: () => number;
  readonly #say: (line: string) => void;
  readonly #redraws: boolean;

  constructor({
    now = systemClock.monotonicMs,
    say = (line: string): void => console.error(line),
    redraws = process.stderr.isTTY,
  } = {}) {
    this.#now = now;
    this.#say = say;
    this.#redraws = redraws;
  }

  tell({ type, status, reason, message }: Condition): void {
    const what = `${type}=${status} ${reason}`;
    const last = this.#told.get(type);
    const isAgain = last?.what === what && reason === "Loading";
    if (isAgain && this.#redraws) return this.#bar.line(`${what}: ${message}`);
    const now = this.#now();
    if (isAgain && now - last.atMs < REPEAT_MS) return;
    this.#told.set(type, { what, atMs: now });
    this.pause();
    this.#say(`${what}: ${message}`);
  }

  /** Clears the line that is being redrawn: something else is about to be printed. */
  pause(): void {
    this.#bar.clear();
  }
}
