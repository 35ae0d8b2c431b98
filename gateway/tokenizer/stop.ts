/**
 * Stop strings over text that comes in pieces. No part of a stop string is ever let out: what may still turn into one is
 * held back until the next piece decides. The outcome does not depend on how the text was cut into pieces: the match that
 * ends first wins, and of those that end together the longest.
 */
import { assert } from "../../core/assert.ts";

export type Scanned = {
  readonly text: string; // to let out now
  readonly stop: string | undefined; // found: the text ends before it, and nothing more is to come
};

/** One stop string and the Knuth-Morris-Pratt table by which a failed match goes on without looking back. */
type Pattern = { readonly text: string; readonly fallback: readonly number[] };

export class StopScanner {
  readonly #patterns: readonly Pattern[];
  readonly #matched: number[]; // per pattern, how much of it the text read so far ends with
  #held = "";

  /** `stops`: none empty. */
  constructor(stops: readonly string[]) {
    assert(
      stops.every((stop) => stop !== ""),
      "a stop string is not empty",
    );
    this.#patterns = stops.map((text) => ({ text, fallback: fallbackOf(text) }));
    this.#matched = stops.map(() => 0);
  }

  push(piece: string): Scanned {
    const text = this.#held + piece;
    for (let at = this.#held.length; at < text.length; at += 1) {
      const found = this.#step(text.charAt(at));
      if (found === undefined) continue;
      this.#held = "";
      return { text: text.slice(0, at + 1 - found.length), stop: found };
    }
    const heldLength = Math.max(0, ...this.#matched);
    this.#held = text.slice(text.length - heldLength);
    return { text: text.slice(0, text.length - heldLength), stop: undefined };
  }

  /** What was held back, once no more text comes. */
  flush(): string {
    const held = this.#held;
    this.#held = "";
    this.#matched.fill(0);
    return held;
  }

  /** The longest stop string that ends with this code unit. */
  #step(unit: string): string | undefined {
    let found: string | undefined;
    for (const [index, { text, fallback }] of this.#patterns.entries()) {
      let length = this.#matched[index] ?? 0;
      while (length > 0 && text[length] !== unit) length = fallback[length - 1] ?? 0;
      if (text[length] === unit) length += 1;
      this.#matched[index] = length;
      if (length === text.length && length > (found?.length ?? 0)) found = text;
    }
    return found;
  }
}

/** For each prefix of `text`, the length of the longest proper prefix that it also ends with. */
function fallbackOf(text: string): readonly number[] {
  const fallback = [0];
  let length = 0;
  for (let at = 1; at < text.length; at += 1) {
    while (length > 0 && text[length] !== text[at]) length = fallback[length - 1] ?? 0;
    if (text[length] === text[at]) length += 1;
    fallback.push(length);
  }
  return fallback;
}
