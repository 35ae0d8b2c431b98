/** A matrix of f16 as runs of rows that are widened one after the other. */
import type { Range } from "../../../core/ranges.ts";
import type { StoredTensor } from "./onnx.ts";

/** Values that are wide at once: 4 MiB of f32. */
const WIDE_VALUE_COUNT = 1 << 20;

/** The rows of a stored [outputs, inputs] matrix of f16 in runs, each as a tensor of its own over the same bytes. */
export function chunksOf(matrix: StoredTensor): readonly { readonly rows: Range; readonly stored: StoredTensor }[] {
  const [outputCount = 0, inputCount = 0] = matrix.dims;
  const step = Math.max(1, Math.floor(WIDE_VALUE_COUNT / inputCount));
  const chunks: { rows: Range; stored: StoredTensor }[] = [];
  for (let start = 0; start < outputCount; start += step) {
    const end = Math.min(outputCount, start + step);
    const bytes = { offset: matrix.offset + start * inputCount * 2, length: (end - start) * inputCount * 2 };
    const name = `${matrix.name}_rows_${start}`;
    chunks.push({ rows: { start, end }, stored: { ...matrix, name, dims: [end - start, inputCount], ...bytes } });
  }
  return chunks;
}
