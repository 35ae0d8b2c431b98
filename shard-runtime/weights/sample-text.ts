/**
 * What the cost of a quantisation is measured on: short passages of unlike kinds, through the model's own tokenizer. A
 * model that has none is given random tokens, on which costs can be compared but say little about text.
 */
import { Tokenizer } from "@huggingface/tokenizers";
import { isJsonObject, parseJson } from "../../core/json.ts";

const PASSAGES: readonly string[] = [
  "The harbour was quiet when the ferry came in. Two men in orange coats caught the ropes and laid them over the bollards, " +
    "and a dog that belonged to nobody watched from the steps. Most of the passengers were on their way home from the market: " +
    "they carried bread, onions and a crate of hens, and they talked about the price of diesel. By noon the wind had turned " +
    "to the north, so the captain decided to wait until the evening before he crossed the strait again.",
  "def moving_average(values, width):\n    if width < 1:\n        raise ValueError('width must be at least 1')\n    total = 0.0\n" +
    "    averages = []\n    for index, value in enumerate(values):\n        total += value\n        if index >= width:\n" +
    "            total -= values[index - width]\n        if index >= width - 1:\n            averages.append(total / width)\n" +
    "    return averages\n\n\nprint(moving_average([1, 4, 2, 8, 5, 7], 3))\n",
  "Question: A train leaves at 09:40 and arrives at 13:05. It stands still for 25 minutes on the way. How long does it move? " +
    "Answer: From 09:40 to 13:05 are 3 hours and 25 minutes. Without the 25 minutes that it stands still, 3 hours remain, so " +
    "it moves for 3 hours, or 180 minutes. Question: How many kilometres does it travel at 80 kilometres an hour? Answer: " +
    "In 3 hours it travels 3 times 80, which is 240 kilometres.",
  "Wasser gefriert bei null Grad und siedet, auf Meereshöhe, bei hundert. Auf einem hohen Berg siedet es früher, weil der " +
    "Luftdruck dort geringer ist; deshalb dauert es länger, bis die Kartoffeln gar sind. L'eau de mer, qui contient du sel, " +
    "gèle un peu au-dessous de zéro. El hielo flota porque es menos denso que el agua líquida, y por eso los lagos se " +
    "congelan desde la superficie hacia abajo.",
];

export type Sample = { readonly kind: "text" | "randomTokens"; readonly sequences: readonly (readonly number[])[] };

/**
 * Of each passage at most `lengthMax` tokens. `tokenizerText` is a tokenizer.json, `configText` a tokenizer_config.json or
 * "". Undefined where the library cannot use it, or it gives tokens that a vocabulary of this size does not have.
 */
export function textSample(
  tokenizerText: string,
  configText: string,
  { lengthMax, vocabularySize }: { readonly lengthMax: number; readonly vocabularySize: number },
): Sample | undefined {
  const [json, config] = [parseJson(tokenizerText), parseJson(configText)];
  const absent = { normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null, added_tokens: [] };
  try {
    const tokenizer = new Tokenizer(
      { ...absent, ...(isJsonObject(json) ? json : {}) },
      isJsonObject(config) ? config : {},
    );
    const sequences = PASSAGES.map((text) =>
      tokenizer.encode(text, { add_special_tokens: true }).ids.slice(0, lengthMax),
    );
    const isUsable = sequences.every((ids) => ids.length > 1 && ids.every((id: number) => id < vocabularySize));
    return isUsable ? { kind: "text", sequences } : undefined;
  } catch {
    return undefined;
  }
}

/** The same for everybody: a multiplicative generator (Lehmer, modulus 2^31 - 1). */
export function randomSample(vocabularySize: number, length: number): Sample {
  let state = 20_261_122;
  const next = (): number => {
    state = Number((BigInt(state) * 48_271n) % 2_147_483_647n);
    return state % vocabularySize;
  };
  return { kind: "randomTokens", sequences: PASSAGES.map(() => Array.from({ length }, next)) };
}
