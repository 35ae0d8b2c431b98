/** One answer as text: tokens become pieces that never end inside a character or a stop string, until the answer ends. */
import { type Result, ok } from "../../core/result.ts";
import type { SampledToken } from "../session/types.ts";
import type { Detokenizer } from "../tokenizer/detokenizer.ts";
import { StopScanner } from "../tokenizer/stop.ts";

export type FinishReason = "stop" | "length";

export type Piece = {
  readonly text: string; // "" while something is held back
  readonly token: SampledToken;
  readonly finish: FinishReason | undefined; // set on the last piece
};

export type Ending = {
  readonly maxTokens: number;
  readonly stops: readonly string[];
  readonly eosTokenIds: readonly number[]; // not part of the text, but of the tokens
};

export class AnswerText {
  readonly #tokens: { next(): Promise<Result<SampledToken>> };
  readonly #detokenizer: Detokenizer | undefined;
  readonly #scanner: StopScanner;
  readonly #ending: Ending;
  #tokenCount = 0;

  /** `detokenizer`: undefined where the model has no tokenizer; all text is "" then. */
  constructor(tokens: { next(): Promise<Result<SampledToken>> }, detokenizer: Detokenizer | undefined, ending: Ending) {
    this.#tokens = tokens;
    this.#detokenizer = detokenizer;
    this.#scanner = new StopScanner(ending.stops);
    this.#ending = ending;
  }

  /** Not to be called again after a piece with a finish, or a refusal. */
  async next(): Promise<Result<Piece>> {
    const sampled = await this.#tokens.next();
    if (!sampled.ok) return sampled;
    const token = sampled.value;
    this.#tokenCount += 1;
    const ended = this.#ending.eosTokenIds.includes(token.tokenId);
    const last = ended || this.#tokenCount >= this.#ending.maxTokens;
    const { text, stop } = this.#scanner.push(this.#textOf(token, ended, last));
    if (stop !== undefined) return ok({ text, token, finish: "stop" });
    if (!last) return ok({ text, token, finish: undefined });
    return ok({ text: text + this.#scanner.flush(), token, finish: ended ? "stop" : "length" });
  }

  #textOf(token: SampledToken, ended: boolean, last: boolean): string {
    if (this.#detokenizer === undefined) return "";
    const text = ended ? "" : this.#detokenizer.push(token.tokenId);
    return last ? text + this.#detokenizer.flush() : text;
  }
}
