/**
 * How a checkpoint's own tensors are quantised, as `quantization_config` in its config.json says. Weights only: where
 * the makers' kernels round activations too (FP8, w8a8), we do not, so answers lie nearer to the unquantised model.
 * Everything else that would change a weight's value is refused by name before a weight is read.
 */
import { Fields } from "./config-fields.ts";
import { type JsonObject, isJsonObject, shown } from "./json.ts";
import type { ModelConfigCode } from "./model-config.ts";
import { type Result, ok } from "./result.ts";

/** `groupSize`: neighbouring inputs of one output that share a scale; absent: all inputs of an output do. */
export type SourceQuantization =
  | { readonly kind: "none" }
  | {
      readonly kind: "gptq"; // .qweight .qzeros .scales .g_idx
      readonly bits: 4 | 8;
      readonly groupSize?: number;
      readonly symmetric: boolean;
      readonly descAct: boolean; // inputs are grouped by .g_idx and not by neighbourhood
      readonly zeroPointOffset: 0 | 1; // to add to a stored zero point: 1 in the first format, 0 in "gptq_v2"
    }
  | { readonly kind: "awq"; readonly bits: 4; readonly groupSize?: number; readonly zeroPoint: boolean } // "gemm" order
  /** `blockSize`: [outputs, inputs] under one `.weight_scale_inv`; absent: one `.weight_scale` per tensor or per output. */
  | { readonly kind: "fp8"; readonly blockSize?: readonly [outputs: number, inputs: number] }
  | {
      readonly kind: "compressedTensors";
      /** Several numbers in an int32 (`.weight_packed`), or one each in an int8 or an FP8 (`.weight`). */
      readonly stored: "packed" | "int8" | "fp8";
      readonly bits: 4 | 8;
      readonly scaleOf: "group" | "output" | "tensor" | "block";
      readonly groupSize?: number; // where scaleOf is "group"
      readonly blockSize?: readonly [outputs: number, inputs: number]; // where scaleOf is "block"
      readonly symmetric: boolean;
      readonly actOrder: boolean; // inputs are grouped by .weight_g_idx
    }
  | { readonly kind: "mxfp4" }; // _blocks and _scales

const METHODS: Readonly<Record<string, (fields: Fields) => SourceQuantization>> = {
  gptq: readGptq,
  awq: readAwq,
  fp8: readFp8,
  "compressed-tensors": readCompressedTensors,
  mxfp4: () => ({ kind: "mxfp4" }),
};

/** Group sizes are powers of two in practice; this bounds what a hostile file can ask for. */
const GROUP_MAX = 65_536;

/**
 * The quantisation of the checkpoint with this config.json. Refusals name the field: `UnsupportedOption` (a way that we
 * do not read), `MalformedConfig`.
 */
export function parseSourceQuantization(config: JsonObject): Result<SourceQuantization, ModelConfigCode> {
  const fields = new Fields(config);
  const read = readQuantization(config, fields);
  return fields.refusal ?? ok(read);
}

function readQuantization(config: JsonObject, outer: Fields): SourceQuantization {
  const name = config["quantization_config"] == null ? "compression_config" : "quantization_config";
  const settings = config[name] ?? undefined;
  if (settings === undefined) return { kind: "none" };
  if (!isJsonObject(settings)) {
    outer.refuse("MalformedConfig", `${name} is ${shown(settings)}, expected an object`);
    return { kind: "none" };
  }
  const fields = outer.within(settings, `${name}.`);
  const method = settings["quant_method"];
  const reader = typeof method === "string" && Object.hasOwn(METHODS, method) ? METHODS[method] : undefined;
  if (reader !== undefined) return reader(fields);
  const known = Object.keys(METHODS).join(", ");
  fields.refuse(
    "UnsupportedOption",
    `quant_method is ${shown(method)}, read are: ${known}; use one of these or the unquantised checkpoint and let ` +
      "spec.quantization shrink it",
  );
  return { kind: "none" };
}

function readGptq(fields: Fields): SourceQuantization {
  const format = fields.json["checkpoint_format"] ?? "gptq";
  if (format !== "gptq" && format !== "gptq_v2")
    fields.refuse("UnsupportedOption", `checkpoint_format is ${shown(format)}; only "gptq" and "gptq_v2" are read`);
  only(fields, "pack_dtype", "int32");
  only(fields, "is_marlin_format", false);
  only(fields, "lm_head", false);
  if (isJsonObject(fields.json["dynamic"]) && Object.keys(fields.json["dynamic"]).length > 0)
    fields.refuse("UnsupportedOption", "dynamic gives modules settings of their own; only one for all is read");
  return {
    kind: "gptq",
    bits: bitsOf(fields, "bits", [4, 8]) === 8 ? 8 : 4,
    ...groupOf(fields),
    symmetric: fields.flag("sym", true),
    descAct: fields.flag("desc_act"),
    zeroPointOffset: format === "gptq_v2" ? 0 : 1,
  };
}

function readAwq(fields: Fields): SourceQuantization {
  const version = String(fields.json["version"] ?? "gemm").toLowerCase();
  if (version !== "gemm")
    fields.refuse(
      "UnsupportedOption",
      `version is ${shown(version)}; only "gemm" is read, which most checkpoints have`,
    );
  bitsOf(fields, "bits", [4]);
  return { kind: "awq", bits: 4, ...groupOf(fields), zeroPoint: fields.flag("zero_point", true) };
}

function readFp8(fields: Fields): SourceQuantization {
  only(fields, "fmt", "e4m3");
  const blockSize = blockOf(fields, "weight_block_size");
  return { kind: "fp8", ...(blockSize === undefined ? {} : { blockSize }) };
}

const STORED: Readonly<Record<string, { stored: "packed" | "int8" | "fp8"; type: string; bits: readonly number[] }>> = {
  "pack-quantized": { stored: "packed", type: "int", bits: [4, 8] },
  "int-quantized": { stored: "int8", type: "int", bits: [8] },
  "float-quantized": { stored: "fp8", type: "float", bits: [8] },
  "naive-quantized": { stored: "fp8", type: "float", bits: [8] },
};

const SCALE_OF: Readonly<Record<string, "group" | "output" | "tensor" | "block">> = {
  group: "group",
  channel: "output",
  tensor: "tensor",
  block: "block",
};

function readCompressedTensors(fields: Fields): SourceQuantization {
  const none: SourceQuantization = { kind: "none" };
  const { format, config_groups: groups, sparsity_config: sparsity, transform_config: transform } = fields.json;
  const storage = typeof format === "string" && Object.hasOwn(STORED, format) ? STORED[format] : undefined;
  if (storage === undefined) {
    fields.refuse("UnsupportedOption", `format is ${shown(format)}, read are: ${Object.keys(STORED).join(", ")}`);
    return none;
  }
  if (isJsonObject(sparsity) && (sparsity["format"] ?? "dense") !== "dense")
    fields.refuse("UnsupportedOption", `sparsity_config.format is ${shown(sparsity["format"])}; only "dense" is read`);
  if (isJsonObject(transform) && Object.keys(transform).length > 0)
    fields.refuse(
      "UnsupportedOption",
      "transform_config turns weights before they are rounded; that is not undone here",
    );
  const listed = isJsonObject(groups) ? Object.entries(groups) : [];
  const [first] = listed;
  if (first === undefined || listed.length > 1) {
    fields.refuse("UnsupportedOption", `config_groups has ${listed.length} groups; exactly one is read`);
    return none;
  }
  const [name, group] = first;
  const weights = isJsonObject(group) ? group["weights"] : undefined;
  if (!isJsonObject(weights)) {
    fields.refuse("MalformedConfig", `config_groups.${name}.weights is ${shown(weights)}, expected an object`);
    return none;
  }
  return readWeights(fields.within(weights, `config_groups.${name}.weights.`), storage);
}

function readWeights(
  fields: Fields,
  storage: { stored: "packed" | "int8" | "fp8"; type: string; bits: readonly number[] },
): SourceQuantization {
  only(fields, "type", storage.type);
  only(fields, "dynamic", false);
  const strategy = String(fields.json["strategy"]);
  const scaleOf = Object.hasOwn(SCALE_OF, strategy) ? SCALE_OF[strategy] : undefined;
  if (scaleOf === undefined)
    fields.refuse(
      "UnsupportedOption",
      `strategy is ${shown(fields.json["strategy"])}; read are: ${Object.keys(SCALE_OF).join(", ")}`,
    );
  const blockSize = scaleOf === "block" ? blockOf(fields, "block_structure") : undefined;
  if (scaleOf === "block" && blockSize === undefined)
    fields.refuse("MalformedConfig", "block_structure is nothing, but strategy is block; expected two sizes");
  const order = fields.json["actorder"] ?? false;
  if (order !== false && order !== "group" && order !== "weight" && order !== "static")
    fields.refuse("UnsupportedOption", `actorder is ${shown(order)}; only "group" and "static" are read`);
  return {
    kind: "compressedTensors",
    stored: storage.stored,
    bits: bitsOf(fields, "num_bits", storage.bits) === 8 ? 8 : 4,
    scaleOf: scaleOf ?? "tensor",
    ...(scaleOf === "group" ? { groupSize: fields.integer("group_size", { max: GROUP_MAX }) } : {}),
    ...(blockSize === undefined ? {} : { blockSize }),
    symmetric: fields.flag("symmetric", true),
    actOrder: order === "group",
  };
}

function only(fields: Fields, name: string, value: unknown): void {
  const found = fields.json[name] ?? value;
  if (found !== value) fields.refuse("UnsupportedOption", `${name} is ${shown(found)}; only ${shown(value)} is read`);
}

function bitsOf(fields: Fields, name: string, read: readonly number[]): number {
  const bits = fields.json[name];
  if (typeof bits === "number" && read.includes(bits)) return bits;
  fields.refuse("UnsupportedOption", `${name} is ${shown(bits)}; only ${read.join(" and ")} bits are read`);
  return 8;
}

/** -1 says one group for all inputs. */
function groupOf(fields: Fields): { groupSize?: number } {
  return fields.json["group_size"] === -1 ? {} : { groupSize: fields.integer("group_size", { max: GROUP_MAX }) };
}

function blockOf(fields: Fields, name: string): readonly [number, number] | undefined {
  const value = fields.json[name] ?? undefined;
  if (value === undefined) return undefined;
  const [outputs, inputs, ...rest]: readonly unknown[] = Array.isArray(value) ? value : [];
  if (isSize(outputs) && isSize(inputs) && rest.length === 0) return [outputs, inputs];
  fields.refuse("MalformedConfig", `${name} is ${shown(value)}, expected two whole numbers from 1 to ${GROUP_MAX}`);
  return undefined;
}

const isSize = (value: unknown): value is number =>
  typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= GROUP_MAX;
