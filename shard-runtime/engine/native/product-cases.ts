/** Products to check the library with, and what each must give: the definition in products.c's head, read as it stands. */

export type ProductCase = {
  readonly rows: number;
  readonly inputs: number;
  readonly outputs: number;
  readonly bits: 4 | 8;
  readonly block: number;
  readonly zeros: boolean; // zero points of its own, or 8 and 128 everywhere
  readonly seed: number;
};

export type ProductInputs = {
  readonly input: Float32Array; // [rows, inputs]
  readonly weights: Uint8Array; // as MatMulNBits wants them: [outputs, blocks, block × bits / 8], low half first
  readonly scales: Float32Array; // [outputs × blocks]
  readonly zeros?: Uint8Array; // [outputs, blocks] packed
};

/** Numbers that follow from the seed. Row 1 is all zeros, and every third row repeats row 0. */
export function inputsOf({ rows, inputs, outputs, bits, block, zeros, seed }: ProductCase): ProductInputs {
  let state = seed * 2_654_435_761 || 1;
  const next = (): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
  const blockCount = Math.ceil(inputs / block);
  const first = Float32Array.from({ length: inputs }, () => (next() - 0.5) * 2 ** Math.floor(next() * 8 - 4));
  const input = new Float32Array(rows * inputs);
  for (let row = 0; row < rows; row += 1) {
    const values = row % 3 === 0 ? first : first.map(() => (row === 1 ? 0 : next() - 0.5));
    input.set(values, row * inputs);
  }
  const weights = Uint8Array.from({ length: (outputs * blockCount * block * bits) / 8 }, () => next() * 256);
  const scales = Float32Array.from({ length: outputs * blockCount }, () => (next() - 0.3) / 50);
  if (!zeros) return { input, weights, scales };
  const zeroBytes = Math.ceil((blockCount * bits) / 8);
  return { input, weights, scales, zeros: Uint8Array.from({ length: outputs * zeroBytes }, () => next() * 256) };
}

/** Exact: single precision is emulated by rounding what doubles hold exactly. */
export function expectedOf(product: ProductCase): Float32Array {
  const { rows, inputs, outputs, bits, block } = product;
  const { input, weights, scales, zeros } = inputsOf(product);
  const blockCount = Math.ceil(inputs / block);
  const weightAt = (output: number, index: number): number => {
    const byte = (output * blockCount * block + index) * (bits / 8);
    const value = weights[Math.floor(byte)] ?? 0;
    return bits === 8 ? value : (value >> ((index % 2) * 4)) & 15;
  };
  const zeroAt = (output: number, b: number): number => {
    if (zeros === undefined) return bits === 8 ? 128 : 8;
    const value = zeros[output * Math.ceil((blockCount * bits) / 8) + Math.floor((b * bits) / 8)] ?? 0;
    return bits === 8 ? value : (value >> ((b % 2) * 4)) & 15;
  };
  const result = new Float32Array(rows * outputs);
  for (let row = 0; row < rows; row += 1)
    for (let b = 0; b < blockCount; b += 1) {
      const values = input.subarray(row * inputs + b * block, row * inputs + Math.min(inputs, (b + 1) * block));
      const { rounded, scale } = quantised(values);
      for (let output = 0; output < outputs; output += 1) {
        let dot = 0;
        for (const [index, q] of rounded.entries())
          dot += (weightAt(output, b * block + index) - zeroAt(output, b)) * q;
        const step = Math.fround(scale * (scales[output * blockCount + b] ?? 0));
        const at = row * outputs + output;
        result[at] = fusedMultiplyAdd(dot, step, result[at] ?? 0);
      }
    }
  return result;
}

function quantised(values: Float32Array): { readonly rounded: readonly number[]; readonly scale: number } {
  const largest = values.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
  const inverse = largest > 0 ? Math.fround(127 / largest) : 0;
  const rounded = Array.from(values, (value) => {
    const shifted = Math.fround(Math.fround(value * inverse) + 12_582_912);
    return shifted - 12_582_912;
  });
  return { rounded, scale: Math.fround(largest / 127) };
}

/** `dot` has at most 24 bits and `step` 24, so their product is exact in a double; the sum is rounded to odd, then to f32. */
function fusedMultiplyAdd(dot: number, step: number, sum: number): number {
  const product = dot * step;
  const total = product + sum;
  // The error of the sum (Knuth's two-sum) says whether the double was rounded, and which way.
  const part = total - product;
  const error = product - (total - part) + (sum - part);
  if (error === 0 || !Number.isFinite(total)) return Math.fround(total);
  const bits = new BigInt64Array(Float64Array.of(total).buffer);
  const isOdd = ((bits[0] ?? 0n) & 1n) === 1n;
  if (isOdd) return Math.fround(total);
  const towardsZero = error > 0 !== total > 0;
  bits[0] = (bits[0] ?? 0n) + (towardsZero ? -1n : 1n);
  return Math.fround(new Float64Array(bits.buffer)[0] ?? 0);
}
