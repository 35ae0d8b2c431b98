import { expect } from "chai";
import fc from "fast-check";
import { parseSourceQuantization } from "./quantized-source.ts";

const compressed = (weights: object, rest: object = {}) => ({
  quant_method: "compressed-tensors",
  format: "pack-quantized",
  config_groups: { group_0: { targets: ["Linear"], input_activations: null, weights } },
  ignore: ["lm_head"],
  ...rest,
});
const W4 = { num_bits: 4, type: "int", symmetric: true, strategy: "group", group_size: 128, dynamic: false };

describe("quantization_config", () => {
  const read = [
    { name: "none", settings: undefined, is: { kind: "none" } },
    { name: "null", settings: null, is: { kind: "none" } },
    {
      name: "GPTQ, its first format",
      settings: { quant_method: "gptq", bits: 4, group_size: 128, sym: true, desc_act: true, damp_percent: 0.1 },
      is: { kind: "gptq", bits: 4, groupSize: 128, symmetric: true, descAct: true, zeroPointOffset: 1 },
    },
    {
      name: "GPTQ v2, one scale a row",
      settings: {
        quant_method: "gptq",
        bits: 8,
        group_size: -1,
        sym: false,
        checkpoint_format: "gptq_v2",
        dynamic: {},
      },
      is: { kind: "gptq", bits: 8, symmetric: false, descAct: false, zeroPointOffset: 0 },
    },
    {
      name: "AWQ",
      settings: { quant_method: "awq", bits: 4, group_size: 64, version: "GEMM", zero_point: true },
      is: { kind: "awq", bits: 4, groupSize: 64, zeroPoint: true },
    },
    {
      name: "FP8 in blocks",
      settings: { quant_method: "fp8", activation_scheme: "dynamic", fmt: "e4m3", weight_block_size: [128, 128] },
      is: { kind: "fp8", blockSize: [128, 128] },
    },
    {
      name: "FP8, one scale a tensor",
      settings: { quant_method: "fp8", activation_scheme: "static" },
      is: { kind: "fp8" },
    },
    {
      name: "compressed-tensors w4a16",
      settings: compressed(W4),
      is: {
        kind: "compressedTensors",
        stored: "packed",
        bits: 4,
        scaleOf: "group",
        groupSize: 128,
        symmetric: true,
        actOrder: false,
      },
    },
    {
      name: "compressed-tensors w8a8",
      settings: compressed({ num_bits: 8, type: "int", strategy: "channel" }, { format: "int-quantized" }),
      is: {
        kind: "compressedTensors",
        stored: "int8",
        bits: 8,
        scaleOf: "output",
        symmetric: true,
        actOrder: false,
      },
    },
    {
      name: "compressed-tensors FP8",
      settings: compressed({ num_bits: 8, type: "float", strategy: "tensor" }, { format: "float-quantized" }),
      is: { kind: "compressedTensors", stored: "fp8", bits: 8, scaleOf: "tensor", symmetric: true, actOrder: false },
    },
    { name: "MXFP4", settings: { quant_method: "mxfp4", modules_to_not_convert: [] }, is: { kind: "mxfp4" } },
  ];
  for (const { name, settings, is } of read)
    it(`is read: ${name}`, () =>
      expect(parseSourceQuantization({ quantization_config: settings })).to.deep.equal({ ok: true, value: is }));

  const refused = [
    { settings: { quant_method: "bitsandbytes" }, names: ["quant_method", "bitsandbytes", "gptq, awq"] },
    { settings: { quant_method: "toString" }, names: ["quant_method"] },
    { settings: { quant_method: "gptq", bits: 3, group_size: 128 }, names: ["bits is 3", "4 and 8"] },
    { settings: { quant_method: "gptq", bits: 4, group_size: 0 }, names: ["group_size is 0"] },
    {
      settings: { quant_method: "gptq", bits: 4, group_size: 128, checkpoint_format: "marlin" },
      names: ["checkpoint_format"],
    },
    {
      settings: { quant_method: "gptq", bits: 4, group_size: 128, dynamic: { "-:.*down.*": {} } },
      names: ["dynamic"],
    },
    { settings: { quant_method: "awq", bits: 4, group_size: 128, version: "gemv" }, names: ["version", "gemv"] },
    { settings: { quant_method: "fp8", fmt: "e5m2" }, names: ["fmt"] },
    { settings: { quant_method: "fp8", weight_block_size: [128] }, names: ["weight_block_size"] },
    { settings: compressed(W4, { format: "nvfp4-pack-quantized" }), names: ["format", "nvfp4"] },
    { settings: compressed(W4, { config_groups: {} }), names: ["config_groups has 0"] },
    { settings: compressed({ ...W4, num_bits: 2 }), names: ["config_groups.group_0.weights.num_bits is 2"] },
    { settings: compressed({ ...W4, strategy: "token" }), names: ["strategy"] },
    { settings: compressed({ ...W4, actorder: "dynamic" }), names: ["actorder"] },
    { settings: compressed(W4, { sparsity_config: { format: "sparse-24-bitmask" } }), names: ["sparsity_config"] },
    { settings: compressed(W4, { transform_config: { config_groups: {} } }), names: ["transform_config"] },
    { settings: "gptq", names: ["quantization_config", "object"] },
  ];
  for (const { settings, names } of refused)
    it(`is refused: ${JSON.stringify(settings).slice(0, 100)}`, () => {
      const result = parseSourceQuantization({ quantization_config: settings });
      if (result.ok) throw new Error("was taken");
      for (const name of ["config.json: ", ...names]) expect(result.detail).to.include(name);
    });

  it("never throws, whatever it says", () => {
    const methods = fc.constantFrom("gptq", "awq", "fp8", "compressed-tensors", "mxfp4");
    const object = fc.dictionary(
      fc.constantFrom("bits", "group_size", "format", "config_groups", "fmt", "weight_block_size", "sym"),
      fc.jsonValue(),
    );
    fc.assert(
      fc.property(methods, object, (quant_method, rest) => {
        parseSourceQuantization({ quantization_config: { ...rest, quant_method } });
      }),
    );
  });
});
