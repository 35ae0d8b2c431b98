/** A model of random weights, in memory: whatever shape a test asks for. Each tensor follows from its role alone. */
import { present } from "../../core/assert.ts";
import type { ModelConfig } from "../../core/model-config.ts";
import type { LocalModel } from "../../shard-runtime/engine/local-chain.ts";

/** Roles that a configuration has and its family's checkpoints may not: those of experts, sinks, norms of heads. */
function shapesOf(config: ModelConfig): ReadonlyMap<string, readonly number[]> {
  const { hiddenSize, headCount, kvHeadCount, headSize, ffnSize, vocabularySize, experts } = config;
  const shapes = new Map<string, readonly number[]>([
    ["embedding.weight", [vocabularySize, hiddenSize]],
    ["norm", [hiddenSize]],
    ["head.weight", [vocabularySize, hiddenSize]],
  ]);
  const linear = (role: string, outputs: number, inputs: number) =>
    shapes.set(`${role}.weight`, [outputs, inputs]).set(`${role}.bias`, [outputs]);
  for (const layer of config.layerKinds.keys()) {
    const prefix = `layers.${layer}.`;
    for (const place of ["attentionIn", "attentionOut", "ffnIn", "ffnOut"])
      shapes.set(`${prefix}${place}.norm`, [hiddenSize]);
    const all = config.qkNorm === "row";
    shapes.set(`${prefix}q.norm`, [all ? headCount * headSize : headSize]);
    shapes.set(`${prefix}k.norm`, [all ? kvHeadCount * headSize : headSize]);
    shapes.set(`${prefix}sinks`, [headCount]);
    linear(`${prefix}q`, headCount * headSize, hiddenSize);
    linear(`${prefix}k`, kvHeadCount * headSize, hiddenSize);
    linear(`${prefix}v`, kvHeadCount * headSize, hiddenSize);
    linear(`${prefix}o`, hiddenSize, headCount * headSize);
    linear(`${prefix}router`, experts?.count ?? 0, hiddenSize);
    const gated = (role: string, size: number) => {
      linear(`${role}gate`, size, hiddenSize);
      linear(`${role}up`, size, hiddenSize);
      linear(`${role}down`, hiddenSize, size);
    };
    gated(prefix, ffnSize);
    for (let expert = 0; expert < (experts?.count ?? 0); expert += 1)
      gated(`${prefix}experts.${expert}.`, experts?.size ?? 0);
  }
  return shapes;
}

/** Uniform around 0, of variance 1 / inputs as trained weights are; around 1 for gains. */
function valuesOf(role: string, shape: readonly number[]): Float32Array {
  let state = [...role].reduce((hash, letter) => Math.imul(hash ^ letter.charCodeAt(0), 16_777_619), 2_166_136_261);
  const width = role.startsWith("embedding") ? 1 : (shape[1] ?? 16);
  const centre = role.endsWith("norm") ? 1 : 0;
  return Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
    return centre + ((state / 2 ** 31 - 0.5) * 3.4) / Math.sqrt(width);
  });
}

export function randomModel(config: ModelConfig): LocalModel {
  const shapes = shapesOf(config);
  return {
    config,
    root: "sha256:random",
    tensors: {
      read: (role, part = {}) => {
        const shape = present(shapes.get(role), `${role} is a role of the model`);
        const values = valuesOf(role, shape);
        const [rowCount = 0, columnCount = 1] = shape;
        const { start, end } = part.rows ?? { start: 0, end: rowCount };
        const rows = values.slice(start * columnCount, end * columnCount);
        if (part.columns === undefined) return Promise.resolve(rows);
        const { start: first, end: last } = part.columns;
        const cut = Array.from({ length: end - start }, (_, row) =>
          rows.subarray(row * columnCount + first, row * columnCount + last),
        );
        return Promise.resolve(Float32Array.from(cut.flatMap((each) => [...each])));
      },
    },
  };
}
