/** Matrix products over packed weights. */
import { lengthOf } from "../../../core/ranges.ts";
import type { PackedMatrix, PackedProjection } from "../packed-weights.ts";
import { FLOAT, FLOAT16, type GraphBuilder, type StoredTensor } from "./onnx.ts";
import { chunksOf } from "./half-chunks.ts";

/** Every activation is quantised to 8 bits per block inside MatMulNBits: the fastest kernels. */
const INT8_ACTIVATIONS = 4;

export function project(graph: GraphBuilder, input: string, projection: PackedProjection, output: string): string {
  if (projection.bias === undefined) return multiply(graph, input, projection.matrix, output);
  const product = multiply(graph, input, projection.matrix, `${output}_product`);
  return graph.node("Add", [product, graph.stored(projection.bias)], [output]);
}

/** input [S, inputs] times the matrix's transpose: [S, outputs]. */
export function multiply(graph: GraphBuilder, input: string, matrix: PackedMatrix, output: string): string {
  if (matrix.format === "float")
    return matrix.values.dataType === FLOAT16
      ? multiplyHalf(graph, input, matrix.values, output)
      : floatProduct(graph, input, graph.stored(matrix.values), output);
  const operands = [input, graph.stored(matrix.values), graph.stored(matrix.scales)];
  if (matrix.zeroPoints !== undefined) operands.push(graph.stored(matrix.zeroPoints));
  return graph.contrib("MatMulNBits", operands, [output], {
    K: matrix.inputCount,
    N: matrix.outputCount,
    bits: matrix.bits,
    block_size: matrix.blockSize,
    accuracy_level: INT8_ACTIVATIONS,
  });
}

const floatProduct = (graph: GraphBuilder, input: string, values: string, output: string): string =>
  graph.node("Gemm", [input, values], [output], { transB: 1 });

/**
 * Weights stay f16 in memory: each run widens them, a part at a time, so that what is widened still lies in the
 * processor's cache when it is multiplied.
 */
function multiplyHalf(graph: GraphBuilder, input: string, values: StoredTensor, output: string): string {
  const [, inputCount = 0] = values.dims;
  const parts = chunksOf(values).map(({ rows, stored }, index, all) => {
    const wide = graph.node("Cast", [graph.replaceable(stored)], [`${stored.name}_f32`], { to: FLOAT });
    return {
      width: lengthOf(rows),
      product: floatProduct(graph, input, wide, all.length === 1 ? output : `${output}_part_${index}`),
    };
  });
  if (parts.length === 1 || inputCount === 0) return output;
  return graph.node(
    "Concat",
    parts.map(({ product }) => product),
    [output],
    { axis: -1 },
  );
}
