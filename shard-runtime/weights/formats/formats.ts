/** The ways in which a checkpoint with this quantisation may write a tensor, in the order in which they are looked for. */
import { never } from "../../../core/assert.ts";
import type { SourceQuantization } from "../../../core/quantized-source.ts";
import { awqFormat } from "./awq.ts";
import { compressedIntegers } from "./compressed-tensors.ts";
import type { Format } from "./encoding.ts";
import { fp8Format } from "./fp8.ts";
import { gptqFormat } from "./gptq.ts";
import { mxfp4Format } from "./mxfp4.ts";
import { plainFormat } from "./plain.ts";

/** Plain is always among them: modules that were not converted are stored as what they are. */
export function formatsOf(quantization: SourceQuantization): readonly Format[] {
  switch (quantization.kind) {
    case "none":
      return [plainFormat];
    case "gptq":
      return [plainFormat, gptqFormat(quantization)];
    case "awq":
      return [plainFormat, awqFormat(quantization)];
    case "fp8":
      return [plainFormat, fp8Format(quantization.blockSize)];
    case "compressedTensors":
      return quantization.stored === "fp8"
        ? [plainFormat, fp8Format(quantization.blockSize)]
        : [plainFormat, compressedIntegers(quantization)];
    case "mxfp4":
      return [plainFormat, mxfp4Format];
    default:
      return never(quantization);
  }
}
