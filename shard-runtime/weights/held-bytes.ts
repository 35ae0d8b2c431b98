/**
 * Looks which matrices of a checkpoint are held as they are, and so what they take: the packer's own question
 * (engine/weight-writer.ts), asked of a row of each.
 */
import { HELD_IN_BLOCKS, type HeldBytes, bytesInOwnBlocks } from "../../core/held-bytes.ts";
import type { ModelConfig } from "../../core/model-config.ts";
import { blockSizes, paddedHeadSize } from "../../core/slice.ts";
import { withHeadLayout } from "../engine/head-layout.ts";
import type { TensorSource } from "../engine/tensor-source.ts";

/** A packed matrix: tensors one below the other, and the block size that the packer would give it. */
type Matrix = {
  readonly roles: readonly string[];
  readonly rows: number;
  readonly columns: number;
  readonly block: number;
};

/**
 * Of those forms of which something is held as the checkpoint has it. `eachLayer`: layers differ, as in a GGUF file, where
 * each tensor has a type; otherwise the first of each kind speaks for all.
 */
export async function heldBytesOf(
  source: TensorSource,
  config: ModelConfig,
  { eachLayer }: { readonly eachLayer: boolean },
): Promise<readonly HeldBytes[]> {
  const laid = withHeadLayout(source, config);
  const held: HeldBytes[] = [];
  for (const quantization of HELD_IN_BLOCKS) {
    const bits = quantization === "int4" ? 4 : 8;
    const known = new Map<string, number>();
    let layers = 0;
    for (const [layer, kind] of config.layerKinds.entries()) {
      const key = eachLayer ? `${layer}` : `${kind.attention} ${kind.experts}`;
      const more = known.get(key) ?? (await moreIn(laid, matricesOf(config, layer), bits));
      known.set(key, more);
      layers += more;
    }
    const head = await moreIn(laid, [headOf(config)], bits);
    if (layers === 0 && head === 0) continue;
    const own = bytesInOwnBlocks(config, quantization);
    held.push({ quantization, layersBytes: own.layersBytes + layers, headBytes: own.headBytes + head });
  }
  return held;
}

/** Bytes that the matrices take more (or less) than in blocks of our own. */
async function moreIn(source: TensorSource, matrices: readonly Matrix[], bits: 4 | 8): Promise<number> {
  let more = 0;
  for (const { roles, rows, columns, block } of matrices) {
    const found = await Promise.all(
      roles.map((role) =>
        source.readBlocks?.(`${role}.weight`, { rows: { start: 0, end: 1 }, columns: { start: 0, end: columns } }),
      ),
    );
    const [first] = found;
    if (first === undefined || found.some((each) => each?.bits !== bits || each.blockSize !== first.blockSize))
      continue;
    const bytes = (size: number) => Math.ceil(columns / size) * ((size * bits) / 8 + 4);
    const zeros = found.some((each) => each?.zeroPoints !== undefined)
      ? Math.ceil((Math.ceil(columns / first.blockSize) * bits) / 8)
      : 0;
    more += rows * (bytes(first.blockSize) + zeros - bytes(block));
  }
  return more;
}

function matricesOf(config: ModelConfig, layer: number): readonly Matrix[] {
  const { hiddenSize, headCount, kvHeadCount, ffnSize, experts } = config;
  const blocks = blockSizes(config);
  const headSize = paddedHeadSize(config);
  const prefix = `layers.${layer}.`;
  const gated = (name: string, size: number, block: number): readonly Matrix[] => [
    { roles: [`${name}gate`, `${name}up`], rows: 2 * size, columns: hiddenSize, block: blocks.hidden },
    { roles: [`${name}down`], rows: hiddenSize, columns: size, block },
  ];
  // Experts of a layer are stored alike: the first speaks for them.
  const ofExperts = () =>
    gated(`${prefix}experts.0.`, experts?.size ?? 0, blocks.expert).map((matrix) => ({
      ...matrix,
      rows: matrix.rows * (experts?.count ?? 0),
    }));
  return [
    {
      roles: ["q", "k", "v"].map((letter) => `${prefix}${letter}`),
      rows: (headCount + 2 * kvHeadCount) * headSize,
      columns: hiddenSize,
      block: blocks.hidden,
    },
    { roles: [`${prefix}o`], rows: hiddenSize, columns: headCount * headSize, block: blocks.attention },
    ...(config.layerKinds[layer]?.experts === true ? ofExperts() : gated(prefix, ffnSize, blocks.ffn)),
  ];
}

const headOf = (config: ModelConfig): Matrix => ({
  roles: ["head"],
  rows: config.vocabularySize,
  columns: config.hiddenSize,
  block: blockSizes(config).hidden,
});
