/** What a model's generation_config.json says: where an answer ends, and how it samples unless a request says otherwise. */
import { isJsonObject, parseJson, shown } from "../../core/json.ts";
import type { ModelConfig } from "../../core/model-config.ts";
import { type Result, ok, refuse } from "../../core/result.ts";

export type GenerationDefaults = {
  readonly eosTokenIds: readonly number[]; // sampling one of these ends the answer; may be empty
  readonly temperature: number;
  readonly topP: number;
};

/**
 * `text`: generation_config.json, undefined where the model has none. Its end ids replace those of config.json, as in the
 * models' own code. `MalformedGenerationConfig` names the field.
 */
export function parseGenerationConfig(
  text: string | undefined,
  config: ModelConfig,
): Result<GenerationDefaults, "MalformedGenerationConfig"> {
  const json = text === undefined ? {} : parseJson(text);
  const malformed = (detail: string) => refuse("MalformedGenerationConfig", `generation_config.json${detail}`);
  if (!isJsonObject(json)) return malformed(" is no JSON object; fetch the model again");
  const eos = json["eos_token_id"] ?? config.eosTokenIds;
  const eosTokenIds: readonly unknown[] = Array.isArray(eos) ? eos : [eos];
  const isId = (id: unknown): id is number =>
    typeof id === "number" && Number.isInteger(id) && id >= 0 && id < config.vocabularySize;
  if (!eosTokenIds.every(isId))
    return malformed(`: eos_token_id is ${shown(eos)}, but the model has ids 0 to ${config.vocabularySize - 1}`);
  const temperature = json["temperature"] ?? 1;
  if (typeof temperature !== "number" || !(temperature >= 0))
    return malformed(`: temperature is ${shown(temperature)}, expected a number from 0`);
  const topP = json["top_p"] ?? 1;
  if (typeof topP !== "number" || !(topP > 0 && topP <= 1))
    return malformed(`: top_p is ${shown(topP)}, expected a number above 0, at most 1`);
  return ok({ eosTokenIds, temperature: json["do_sample"] === false ? 0 : Math.min(temperature, 2), topP });
}
