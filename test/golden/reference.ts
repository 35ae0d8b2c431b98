/** What a golden of transformers holds, and how an answer of ours is got and compared with it. */
import type { LocalChain } from "../../shard-runtime/engine/local-chain.ts";

export type Golden = {
  readonly tokenIds: readonly number[];
  readonly greedy: readonly number[];
  readonly lastLogits: readonly number[];
  readonly allLogits?: readonly (readonly number[])[];
};

/** The first of equals. */
export const indexOfLargest = (values: Float32Array): number => values.indexOf(Math.max(...values));

/** The largest difference of two lists of one length; NaN where the second is shorter. */
export const distance = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Array.from(a).reduce((worst, value, index) => Math.max(worst, Math.abs(value - (b[index] ?? Number.NaN))), 0);

/** Logits after the prompt, and `count` greedy tokens, of a session of its own. */
export function answer(chain: LocalChain, tokenIds: readonly number[], count: number, chunkLength?: number) {
  chain.acquire("answer");
  const logits = chain.feed("answer", tokenIds, chunkLength);
  const tokens = [indexOfLargest(logits)];
  while (tokens.length < count) tokens.push(indexOfLargest(chain.feed("answer", tokens.slice(-1))));
  chain.release("answer");
  return { logits, tokens };
}
