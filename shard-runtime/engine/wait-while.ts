/** Sleeping on a word of shared memory. */

/**
 * Blocks this thread for as long as `word[0]` is `value`. A notification alone does not end it: whoever changes the word
 * may be interrupted before it notifies, and then its notification meets the next wait. `timed-out` after `timeoutMs`
 * without a change.
 */
export function waitWhile(word: Int32Array, value: number, timeoutMs: number): "changed" | "timed-out" {
  const endMs = performance.now() + timeoutMs;
  while (Atomics.load(word, 0) === value) {
    const leftMs = endMs - performance.now();
    if (leftMs <= 0) return "timed-out";
    Atomics.wait(word, 0, value, leftMs);
  }
  return "changed";
}
