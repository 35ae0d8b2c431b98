/**
 * What a checkpoint's config.json says about its arithmetic, in our words. Anything that would change the arithmetic and
 * that the engine does not do is refused by name: a model that runs but answers differently from its makers' code is
 * worse than one that does not run. Each family of models reads its own config.json; see core/families.
 */
import { FAMILIES, NOT_SERVED } from "./families/all.ts";
import { Fields } from "./config-fields.ts";
import { type JsonObject, isJsonObject, parseJson, shown } from "./json.ts";
import { parseSourceQuantization } from "./quantized-source.ts";
import { type Refusal, type Result, ok, refuse } from "./result.ts";

/** How rotary frequencies are stretched. `attentionFactor` multiplies cosines and sines. */
export type RopeScaling =
  | { readonly kind: "none" }
  | { readonly kind: "linear"; readonly factor: number }
  | {
      readonly kind: "llama3"; // the frequency-dependent form of Llama 3.1
      readonly factor: number;
      readonly lowFrequencyFactor: number;
      readonly highFrequencyFactor: number;
      readonly originalPositions: number;
    }
  | {
      readonly kind: "yarn"; // Peng et al., YaRN
      readonly factor: number;
      readonly betaFast: number;
      readonly betaSlow: number;
      readonly originalPositions: number;
      readonly attentionFactor: number;
      readonly truncate: boolean; // the borders between kept and stretched pairs are whole numbers
    }
  | {
      readonly kind: "longrope"; // Ding et al., LongRoPE: a factor per pair, by whether the context is beyond the original
      readonly shortFactors: readonly number[]; // rotarySize / 2 each
      readonly longFactors: readonly number[];
      readonly originalPositions: number;
      readonly attentionFactor: number;
    };

/** `rotarySize`: the leading values of a head that turn, even and at most headSize; the others hold no position. */
export type Rope = { readonly theta: number; readonly rotarySize: number; readonly scaling: RopeScaling };

/** One way of attending; a model has few. */
export type AttentionKind = {
  readonly window?: number; // a token sees itself and the window - 1 before it; absent: all before it
  readonly rope?: Rope; // absent: queries and keys hold no position
};

export type LayerKind = {
  readonly attention: number; // index into attentionKinds
  readonly experts: boolean; // a mixture of experts in place of the one feed-forward network
};

export type Experts = {
  readonly count: number;
  readonly perToken: number; // the router's best so many; at most count
  readonly size: number; // FFN columns of one expert
  /** A token's weights of its experts: a softmax over the chosen logits, or the chosen of a softmax over all. */
  readonly weights: "softmaxOfChosen" | "chosenOfSoftmax";
  readonly routerBias: boolean;
  readonly bias: boolean; // on gate, up and down of every expert
};

/** What the gate goes through before it multiplies; `clampedSwiGlu` is that of gpt-oss, which bounds both factors. */
export type Activation =
  | { readonly kind: "silu" }
  | { readonly kind: "geluTanh" }
  | { readonly kind: "clampedSwiGlu"; readonly alpha: number; readonly limit: number };

export type ModelConfig = {
  readonly family: string; // a file in core/families
  readonly hiddenSize: number;
  readonly layerCount: number;
  readonly headCount: number; // query heads, a multiple of kvHeadCount
  readonly kvHeadCount: number;
  readonly headSize: number; // even; headCount × headSize need not be hiddenSize
  readonly ffnSize: number; // of the layers without experts
  readonly vocabularySize: number;
  readonly normEpsilon: number;
  readonly tiedEmbeddings: boolean; // the head is the embedding
  readonly maxPositions: number;
  readonly attentionKinds: readonly AttentionKind[];
  readonly layerKinds: readonly LayerKind[]; // one per layer
  readonly attentionScale: number; // multiplies q·k
  readonly attentionSoftcap?: number; // s becomes cap × tanh(s / cap)
  readonly sinks: boolean; // a learned logit per head that takes weight and gives nothing
  readonly qkNorm?: "head" | "row"; // RMS norm of q and k before they turn: of each head, or of all heads together
  readonly qkvBias: boolean;
  readonly attentionOutBias: boolean;
  readonly mlpBias: boolean; // on gate, up and down projections
  /** Where an RMS norm stands: on what attention and FFN read, and on what they add to the residual. */
  readonly norms: {
    readonly attentionIn: boolean;
    readonly attentionOut: boolean;
    readonly ffnIn: boolean;
    readonly ffnOut: boolean;
  };
  readonly activation: Activation;
  readonly experts?: Experts;
  readonly embeddingScale: number;
  readonly residualScale: number; // of what attention and FFN add
  readonly logitScale: number; // multiplies the logits, before the softcap
  readonly logitSoftcap?: number;
  readonly eosTokenIds: readonly number[]; // each within the vocabulary; may be empty
  readonly bosTokenId?: number;
};

export type ModelConfigCode = "MalformedConfig" | "UnknownModelType" | "UnsupportedOption";

/** Characters of a config.json; real ones are under 10 Ki. */
const TEXT_LENGTH_MAX = 1 << 20;

/** Of all layers together; the largest open models have about 20,000. Attacker: each has six names to make. */
const EXPERTS_MAX = 1 << 17;

/**
 * The configuration in a config.json. Refusals name the field, what was found and what to do:
 * `MalformedConfig` (no JSON, a missing or impossible value), `UnknownModelType`, `UnsupportedOption`.
 */
export function parseModelConfig(text: string): Result<ModelConfig, ModelConfigCode> {
  if (text.length > TEXT_LENGTH_MAX)
    return refuse("MalformedConfig", `config.json has ${text.length} characters, at most ${TEXT_LENGTH_MAX} are read`);
  const json = parseJson(text);
  if (!isJsonObject(json))
    return refuse("MalformedConfig", "config.json is no JSON object; fetch the checkpoint again");
  const family = FAMILIES.find(({ modelType }) => modelType === json["model_type"]);
  if (family === undefined) return unknownType(json["model_type"]);
  const unsupported = refusedArchitecture(json, family.architecture) ?? refusedOption(json, family.neutral);
  if (unsupported !== undefined) return unsupported;
  const quantization = parseSourceQuantization(json);
  if (!quantization.ok) return quantization;
  const fields = new Fields(json);
  const config = family.read(fields);
  if (fields.refusal !== undefined) return fields.refusal;
  return refusedShape(config) ?? ok(config);
}

function unknownType(modelType: unknown): Refusal<ModelConfigCode> {
  const known = FAMILIES.map((family) => family.modelType).join(", ");
  const named =
    typeof modelType === "string" && Object.hasOwn(NOT_SERVED, modelType) ? NOT_SERVED[modelType] : undefined;
  const hint = named ?? `served are: ${known}; choose a checkpoint of one of these families`;
  return refuse("UnknownModelType", `config.json: model_type is ${shown(modelType)}; ${hint}`);
}

function refusedArchitecture(json: JsonObject, architecture: string): Refusal<ModelConfigCode> | undefined {
  const architectures = json["architectures"] ?? [architecture];
  if (Array.isArray(architectures) && architectures.includes(architecture)) return undefined;
  return refuse(
    "UnsupportedOption",
    `config.json: architectures is ${shown(architectures)}, only ${architecture} (which writes text) is served`,
  );
}

function refusedOption(
  json: JsonObject,
  neutralOptions: Readonly<Record<string, readonly unknown[]>>,
): Refusal<ModelConfigCode> | undefined {
  for (const [option, neutral] of Object.entries(neutralOptions)) {
    const value = json[option];
    if (value === undefined || value === null || neutral.includes(value)) continue;
    const hint =
      neutral.length > 0
        ? `only ${neutral.map(shown).join(" or ")} is honoured`
        : "it is not honoured, so the answers would differ from the model's own";
    return refuse("UnsupportedOption", `config.json: ${option} is ${shown(value)}; ${hint}`);
  }
  return undefined;
}

/** Sizes that each are possible, but not together. */
function refusedShape(config: ModelConfig): Refusal<ModelConfigCode> | undefined {
  if (config.headCount % config.kvHeadCount !== 0)
    return refuse(
      "MalformedConfig",
      `config.json: num_attention_heads ${config.headCount} is no multiple of num_key_value_heads ${config.kvHeadCount}`,
    );
  if (config.headSize % 2 !== 0)
    return refuse("MalformedConfig", `config.json: head_dim ${config.headSize} is odd, rotary embeddings turn pairs`);
  const expertCount = config.layerCount * (config.experts?.count ?? 0);
  if (expertCount > EXPERTS_MAX)
    return refuse(
      "MalformedConfig",
      `config.json: ${config.experts?.count} experts in ${config.layerCount} layers; at most ${EXPERTS_MAX} in all are read`,
    );
  return undefined;
}
