/** Where most families keep their tensors, and the few ways in which they differ. */
import type { TensorPlace } from "../family.ts";
import type { ModelConfig } from "../model-config.ts";

/** One layer, with what the names of its tensors begin with. */
export type Layer = {
  readonly config: ModelConfig;
  readonly index: number;
  readonly role: string; // "layers.3."
  readonly stored: string; // "model.layers.3."
};

type Places = readonly TensorPlace[];

export type Naming = {
  /** What a layer calls its norms. The parts of a config's `norms` that are true must be here. */
  readonly norms?: Readonly<Partial<Record<keyof ModelConfig["norms"], string>>>;
  readonly gainAdd?: number; // Gemma stores the gains of norms less 1
  readonly qkv?: (layer: Layer) => Places;
  readonly ffn?: (layer: Layer) => Places;
};

const NORMS = { attentionIn: "input_layernorm", ffnIn: "post_attention_layernorm" };

/** Tensors in order of use, named as Llama names them but for what `naming` says. */
export const tensorsNamed =
  ({ norms = NORMS, gainAdd, qkv = separateQkv, ffn = denseFfn }: Naming = {}) =>
  (config: ModelConfig): Places => {
    const { hiddenSize, vocabularySize, tiedEmbeddings } = config;
    const gain = (role: string, length: number, stored: string): TensorPlace => ({
      ...plain(role, [length], stored),
      ...(gainAdd === undefined ? {} : { add: gainAdd }),
    });
    const norm = ({ role, stored }: Layer, where: keyof ModelConfig["norms"]) =>
      config.norms[where] ? [gain(`${role}${where}.norm`, hiddenSize, `${stored}${norms[where]}.weight`)] : [];
    const qkNorms = ({ role, stored }: Layer) =>
      config.qkNorm === undefined
        ? []
        : (["q", "k"] as const).map((which) =>
            gain(`${role}${which}.norm`, qkNormLength(config, which), `${stored}self_attn.${which}_norm.weight`),
          );
    const layerOf = (index: number): Places => {
      const layer: Layer = { config, index, role: `layers.${index}.`, stored: `model.layers.${index}.` };
      return [
        ...norm(layer, "attentionIn"),
        ...qkv(layer),
        ...qkNorms(layer),
        ...(config.sinks ? [plain(`${layer.role}sinks`, [config.headCount], `${layer.stored}self_attn.sinks`)] : []),
        ...linear(layer, "o", "self_attn.o_proj", [hiddenSize, queriesOf(config)], config.attentionOutBias),
        ...norm(layer, "attentionOut"),
        ...norm(layer, "ffnIn"),
        ...ffn(layer),
        ...norm(layer, "ffnOut"),
      ];
    };
    const embedding = "model.embed_tokens.weight";
    return [
      plain("embedding.weight", [vocabularySize, hiddenSize], embedding),
      ...Array.from({ length: config.layerCount }, (_, index) => layerOf(index)).flat(),
      gain("norm", hiddenSize, "model.norm.weight"),
      plain("head.weight", [vocabularySize, hiddenSize], tiedEmbeddings ? embedding : "lm_head.weight"),
    ];
  };

export const plain = (role: string, shape: readonly number[], stored: string): TensorPlace => ({
  role,
  shape,
  stored,
  storedShape: shape,
});

/** A matrix, and its bias where it has one. `theirs`: the checkpoint's name within the layer. */
export const linear = (
  { role, stored }: Layer,
  own: string,
  theirs: string,
  [outputs, inputs]: readonly [outputs: number, inputs: number],
  bias = false,
): Places => [
  plain(`${role}${own}.weight`, [outputs, inputs], `${stored}${theirs}.weight`),
  ...(bias ? [plain(`${role}${own}.bias`, [outputs], `${stored}${theirs}.bias`)] : []),
];

export const queriesOf = (config: ModelConfig): number => config.headCount * config.headSize;
export const keysOf = (config: ModelConfig): number => config.kvHeadCount * config.headSize;

const qkNormLength = (config: ModelConfig, which: "q" | "k"): number =>
  config.qkNorm === "head" ? config.headSize : which === "q" ? queriesOf(config) : keysOf(config);

const separateQkv = (layer: Layer): Places => {
  const { config } = layer;
  return [
    ...linear(layer, "q", "self_attn.q_proj", [queriesOf(config), config.hiddenSize], config.qkvBias),
    ...linear(layer, "k", "self_attn.k_proj", [keysOf(config), config.hiddenSize], config.qkvBias),
    ...linear(layer, "v", "self_attn.v_proj", [keysOf(config), config.hiddenSize], config.qkvBias),
  ];
};

export const denseFfn = (layer: Layer): Places => {
  const { hiddenSize, ffnSize, mlpBias } = layer.config;
  return [
    ...linear(layer, "gate", "mlp.gate_proj", [ffnSize, hiddenSize], mlpBias),
    ...linear(layer, "up", "mlp.up_proj", [ffnSize, hiddenSize], mlpBias),
    ...linear(layer, "down", "mlp.down_proj", [hiddenSize, ffnSize], mlpBias),
  ];
};

/** What a checkpoint calls its router and the three matrices of its expert E, which follow on `experts.E.`. */
export type ExpertNames = Readonly<Record<"router" | "experts" | "gate" | "up" | "down", string>>;

/** Experts that each have tensors of their own, without biases. */
export const separateExperts =
  (names: ExpertNames) =>
  (layer: Layer): Places => {
    const { hiddenSize, experts } = layer.config;
    if (experts === undefined) return [];
    const expert = (index: number): Places => {
      const [own, theirs] = [`experts.${index}.`, `${names.experts}.${index}.`];
      return [
        ...linear(layer, `${own}gate`, theirs + names.gate, [experts.size, hiddenSize]),
        ...linear(layer, `${own}up`, theirs + names.up, [experts.size, hiddenSize]),
        ...linear(layer, `${own}down`, theirs + names.down, [hiddenSize, experts.size]),
      ];
    };
    return [
      ...linear(layer, "router", names.router, [experts.count, hiddenSize]),
      ...Array.from({ length: experts.count }, (_, index) => expert(index)).flat(),
    ];
  };
