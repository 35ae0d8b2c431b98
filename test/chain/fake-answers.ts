/** Asking fake chains, and looking at what they answered and signed. */
import type { PublicKey } from "../../core/keys.ts";
import type { Fault } from "../../core/receipt-chain.ts";
import type { SessionRequest } from "../../gateway/session/types.ts";
import { type Answer, faultsOf, generate as generateOn } from "./evidence.ts";
import type { FakeChain } from "./fake-chain.ts";
import { LAYER_COUNT, VOCABULARY_SIZE } from "./fake-engine.ts";

export const promptOf = (length: number, seed = 1): readonly number[] =>
  Array.from({ length }, (_, index) => (index * 7 + seed * 11 + 3) % VOCABULARY_SIZE);

export const generate = (
  chain: FakeChain,
  prompt: readonly number[],
  count: number,
  more: Partial<SessionRequest> = {},
): Promise<Answer> => generateOn(chain.wire, chain.request(prompt, more), count);

export const keysOf = (chain: FakeChain): readonly PublicKey[] => chain.ranks.map(({ key }) => key.publicKey);

export const faults = (chain: FakeChain, answer: Answer): readonly Fault[] =>
  faultsOf(answer, keysOf(chain), { name: "default/numbers", layerCount: LAYER_COUNT });
