/** Tokens that a tokenizer has and its model has no row for. */
import { isJsonObject } from "./json.ts";

/** Further past the model's rows than this, a tokenizer is another model's. */
const ROWLESS_MAX = 64;

/**
 * Whether an entry of a tokenizer.json's added_tokens is a special token just past the model's rows: Gemma 3's language
 * models come with a token for pictures that only their larger kin have a row for. Whoever packs lets it pass, whoever
 * encodes leaves it out: a text that names it would ask for an embedding that is not there.
 */
export const isRowless = (token: unknown, vocabularySize: number): boolean =>
  isJsonObject(token) &&
  token["special"] === true &&
  Number(token["id"]) >= vocabularySize &&
  Number(token["id"]) < vocabularySize + ROWLESS_MAX;
