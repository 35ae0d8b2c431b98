/** What quantised products are compared with: f32 arithmetic over the very weights that the packer rounds to. */
import { blockSizes } from "../../core/slice.ts";
import type { LocalModel } from "../../shard-runtime/engine/local-chain.ts";
import { dequantizeRows, quantizeRows } from "../../shard-runtime/engine/quantize.ts";
import type { TensorSource } from "../../shard-runtime/engine/tensor-source.ts";

/** The model with its matrices as the packer rounds them, as f32; a tied head is rounded, and the embedding is not. */
export function roundedModel({ tensors, config, root }: LocalModel, bits: 4 | 8): LocalModel {
  const blocks = blockSizes(config);
  const widths = {
    o: { block: blocks.attention, columnCount: config.headCount * config.headSize },
    down: { block: blocks.ffn, columnCount: config.ffnSize },
    other: { block: blocks.hidden, columnCount: config.hiddenSize },
  };
  const source: TensorSource = {
    async read(role, part) {
      const values = await tensors.read(role, part);
      const kind = /\b(o|down|q|k|v|gate|up|head)\.weight$/.exec(role)?.[1];
      if (kind === undefined) return values;
      const { block, columnCount } = kind === "o" || kind === "down" ? widths[kind] : widths.other;
      return dequantizeRows(quantizeRows(values, columnCount, block, bits), columnCount, block, bits);
    },
  };
  return { config: { ...config, tiedEmbeddings: false }, root: `${root}-rounded-${bits}`, tensors: source };
}
