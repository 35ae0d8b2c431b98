/**
 * A model's tokenizer.json at work. What the file says about ids is checked against the model before it is used: a
 * tokenizer of another model gives fluent nonsense or ids past the embedding, and both are better refused at the start.
 */
import { Tokenizer as HubTokenizer } from "@huggingface/tokenizers";
import { type JsonObject, isJsonObject, parseJson, shown } from "../../core/json.ts";
import { type Result, ok, refuse } from "../../core/result.ts";
import { isRowless } from "../../core/rowless-tokens.ts";
import { Detokenizer } from "./detokenizer.ts";

export const TOKENIZER_FILE = "tokenizer.json";

const KINDS: readonly string[] = ["BPE", "Unigram", "WordPiece"];

export type TokenizerCode = "MalformedTokenizer" | "TokenizerMismatch";

export type Tokenizer = {
  /** Token ids of `text`; `special`: with what the model's template adds around a bare text, such as a first token. */
  encode(text: string, special: boolean): Result<readonly number[], "Unencodable">;
  /** The text of `tokenIds`, special tokens left out, U+FFFD where bytes are no character. */
  decode(tokenIds: readonly number[]): string;
  /** The text of one token by itself, special tokens shown. */
  textOf(tokenId: number): string;
  detokenizer(): Detokenizer;
  /** A text of more UTF-16 units than this does not fit into `tokenCount` tokens: a refusal that costs no encoding. */
  lengthMax(tokenCount: number): number;
};

/**
 * The tokenizer of a tokenizer.json and tokenizer_config.json ("" where there is none) for a model of `vocabularySize`
 * rows. `MalformedTokenizer`: not usable; `TokenizerMismatch`: ids that the model does not have, or one id twice.
 */
export function parseTokenizer(
  text: string,
  configText: string,
  vocabularySize: number,
): Result<Tokenizer, TokenizerCode> {
  const whole = parseJson(text);
  if (!isJsonObject(whole))
    return refuse("MalformedTokenizer", `${TOKENIZER_FILE} is no JSON object; fetch the model again`);
  const json = withoutRowless(whole, vocabularySize);
  const config = parseJson(configText === "" ? "{}" : configText);
  if (!isJsonObject(config))
    return refuse("MalformedTokenizer", "tokenizer_config.json is no JSON object; fetch the model again");
  const tokens = tokensOf(json);
  if (!tokens.ok) return tokens;
  const wrong = wrongIds(tokens.value, vocabularySize);
  if (wrong !== undefined) return refuse("TokenizerMismatch", `${TOKENIZER_FILE}: ${wrong}`);
  const absent = { normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null, added_tokens: [] };
  try {
    const longest = tokens.value.reduce((most, [token]) => Math.max(most, token.length), 1);
    return ok(tokenizerOf(new HubTokenizer({ ...absent, ...json }, config), longest, vocabularySize));
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return refuse(
      "MalformedTokenizer",
      `${TOKENIZER_FILE}: ${why}; choose a model whose tokenizer.json is of a known kind`,
    );
  }
}

function tokenizerOf(inner: HubTokenizer, longestToken: number, vocabularySize: number): Tokenizer {
  const decode = (tokenIds: readonly number[], skipSpecial: boolean): string =>
    tokenIds.length === 0
      ? ""
      : inner.decode([...tokenIds], { skip_special_tokens: skipSpecial, clean_up_tokenization_spaces: false });
  return {
    encode: (text, special) => {
      const { ids, tokens } = inner.encode(text, { add_special_tokens: special });
      const unknown = ids.findIndex((id: number | undefined) => id === undefined || id >= vocabularySize);
      if (unknown < 0) return ok(ids);
      return refuse("Unencodable", `${shown(tokens[unknown])} has no token in this model's vocabulary; leave it out`);
    },
    decode: (tokenIds) => decode(tokenIds, true),
    textOf: (tokenId) => decode([tokenId], false),
    detokenizer: () => new Detokenizer((tokenIds) => decode(tokenIds, true)),
    // Normalizers may drop characters, hence the slack. Attacker: encoding megabytes would hold up everybody's tokens.
    lengthMax: (tokenCount) => 4096 + tokenCount * longestToken * 4,
  };
}

function withoutRowless(json: JsonObject, vocabularySize: number): JsonObject {
  const added = json["added_tokens"];
  if (!Array.isArray(added)) return json;
  return { ...json, added_tokens: added.filter((token: unknown) => !isRowless(token, vocabularySize)) };
}

/** Every token with its id, added ones last. */
function tokensOf(json: JsonObject): Result<readonly (readonly [token: string, id: unknown])[], TokenizerCode> {
  const model = json["model"];
  if (!isJsonObject(model))
    return refuse("MalformedTokenizer", `${TOKENIZER_FILE}: model is ${shown(model)}, expected an object`);
  const { type = "BPE", vocab } = model;
  if (typeof type !== "string" || !KINDS.includes(type)) {
    return refuse(
      "MalformedTokenizer",
      `${TOKENIZER_FILE}: model.type is ${shown(type)}, only ${KINDS.join(", ")} are known`,
    );
  }
  const listed = Array.isArray(vocab)
    ? vocab.map((piece: unknown, id) => [String(Array.isArray(piece) ? piece[0] : piece), id] as const)
    : isJsonObject(vocab)
      ? Object.entries(vocab)
      : undefined;
  if (listed === undefined || listed.length === 0) {
    return refuse(
      "MalformedTokenizer",
      `${TOKENIZER_FILE}: model.vocab is ${shown(vocab)}, expected tokens and their ids`,
    );
  }
  const added = json["added_tokens"] ?? [];
  if (!Array.isArray(added) || !added.every(isJsonObject)) {
    return refuse(
      "MalformedTokenizer",
      `${TOKENIZER_FILE}: added_tokens is ${shown(added)}, expected a list of objects`,
    );
  }
  return ok([...listed, ...added.map((token) => [String(token["content"]), token["id"]] as const)]);
}

function wrongIds(
  tokens: readonly (readonly [token: string, id: unknown])[],
  vocabularySize: number,
): string | undefined {
  const byId = new Map<number, string>();
  for (const [token, id] of tokens) {
    if (typeof id !== "number" || !Number.isInteger(id) || id < 0) {
      return `the token ${shown(token)} has the id ${shown(id)}, expected a whole number from 0 to ${vocabularySize - 1}`;
    }
    if (id >= vocabularySize) {
      const highest = tokens.reduce((most, [, other]) => (typeof other === "number" ? Math.max(most, other) : most), 0);
      return `it has ids up to ${highest} (${shown(token)} is ${id}), but config.json says vocab_size ${vocabularySize}; use the tokenizer of this model`;
    }
    const other = byId.get(id);
    if (other !== undefined && other !== token)
      return `the id ${id} stands for both ${shown(other)} and ${shown(token)}`;
    byId.set(id, token);
  }
  return undefined;
}
