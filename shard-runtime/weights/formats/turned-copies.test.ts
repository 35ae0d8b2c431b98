/** GPTQ and AWQ store outputs as columns: a rank that takes some of them reads these from the copies by column. */
import { expect } from "chai";
import { createHash } from "node:crypto";
import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseModelConfig } from "../../../core/model-config.ts";
import { valueOrThrow } from "../../../core/result.ts";
import { storedTensors } from "../../../core/tensor-places.ts";
import { type BuiltTensor, TINY, hurriedClock, removed, safetensors } from "../checkpoint-builder.ts";
import { openModel } from "../open-model.ts";
import { packModel } from "../pack.ts";

const clock = hurriedClock();
const GROUP = 128;
const SETTINGS = {
  gptq: { quant_method: "gptq", bits: 4, group_size: GROUP, desc_act: false },
  awq: { quant_method: "awq", bits: 4, group_size: GROUP, zero_point: true },
};

/** Of a llama with a gate of 2 MiB; bytes that differ. */
function quantised(kind: keyof typeof SETTINGS) {
  const sizes = {
    hidden_size: 1024,
    intermediate_size: 4096,
    num_hidden_layers: 1,
    num_attention_heads: 8,
    head_dim: 128,
  };
  const config = JSON.stringify({ ...TINY, ...sizes, quantization_config: SETTINGS[kind] });
  const tensors: BuiltTensor[] = [];
  const put = (name: string, dtype: string, shape: readonly number[], elementBytes: number): void => {
    const count = shape.reduce((a, b) => a * b, elementBytes);
    // Halves with small exponents, so that every scale is a number.
    const bytes = Uint8Array.from({ length: count }, (_, at) => (at * 37 + (at >> 11)) & (at % 2 === 1 ? 0x2f : 0xff));
    tensors.push({ name, dtype, shape, bytes });
  };
  for (const [name, shape] of storedTensors(valueOrThrow(parseModelConfig(config)))) {
    const [outputs = 1, inputs = 1] = shape;
    const stem = name.replace(/\.weight$/, "");
    if (!name.includes("_proj")) put(name, "F16", shape, 2);
    else {
      put(`${stem}.qweight`, "I32", kind === "gptq" ? [inputs / 8, outputs] : [inputs, outputs / 8], 4);
      put(`${stem}.qzeros`, "I32", [inputs / GROUP, outputs / 8], 4);
      put(`${stem}.scales`, "F16", [inputs / GROUP, outputs], 2);
    }
  }
  return { config, tensors };
}

describe("outputs of matrices that are stored as columns", () => {
  for (const kind of ["gptq", "awq"] as const)
    it(`are read by themselves: ${kind}`, async () => {
      const { config, tensors } = quantised(kind);
      const folder = await mkdtemp(join(tmpdir(), "tessellate-turned-"));
      const rows = { start: 1024, end: 2048 };
      const read = async (columns: boolean) => {
        valueOrThrow(await packModel(folder, { clock, tokenizer: "optional", columns }));
        const { tensors: source, fetchedBytes } = valueOrThrow(await openModel({ path: folder }, { clock }));
        await source.read("norm"); // headers
        const before = fetchedBytes();
        const hash = createHash("sha256");
        for (let start = rows.start; start < rows.end; start += 256)
          hash.update(await source.read("layers.0.gate.weight", { rows: { start, end: start + 256 } }));
        return { values: hash.digest("hex"), bytes: fetchedBytes() - before };
      };
      try {
        await writeFile(join(folder, "config.json"), config);
        await writeFile(join(folder, "model.safetensors"), safetensors(tensors));
        const [whole, copied] = [await read(false), await read(true)];
        expect(copied.values).to.equal(whole.values);
        const sliceBytes = (1024 * 1024) / 2;
        expect(whole.bytes).to.be.above(4 * sliceBytes);
        expect(copied.bytes).to.be.below(1.5 * sliceBytes); // zero points and scales here are too small for copies
      } finally {
        await removed(folder);
      }
    }).timeout(30_000);
});
