/**
 * How fast one node is, as a line: a step reads every weight once, whatever its rows, and each row adds arithmetic. Two
 * measured points (a step of one row, a step of many) say both; a node without them is estimated from its memory's
 * bandwidth, and one without that is taken for a plain desktop.
 */
import type { NodeFacts } from "../types.ts";

export type Speed = {
  readonly secondsPerByte: number; // of weights and KV that a step reads
  readonly rowSecondsPerByte: number; // of weights that one row is multiplied with
  readonly stepSeconds: number; // of a step, apart from its layers
  readonly estimated: readonly string[]; // what was not measured and is assumed, in words; empty: nothing
};

/** What an unmeasured node is taken for: the memory bandwidth of a plain desktop, in bytes a second. */
export const ASSUMED_BYTES_PER_SECOND = 20e9;
/** Of the memory's bandwidth, what decoding gets; what our engine was measured at, see docs/benches.md. */
const BANDWIDTH_SHARE = 0.7;
/** What a row more costs, in steps of one row: of int4 on a CPU, as measured; a device made for arithmetic takes less. */
const ROW_SHARE_OF_CPU = 0.07;
const ROW_SHARE_OF_OTHERS = 0.02;
/** Wire, batching and hashing of a step, as measured between processes of one machine. */
export const ASSUMED_STEP_SECONDS = 0.001;

/** Machines change hands, drivers and neighbours: what was measured longer ago is used still, and counts as estimated. */
export const MEASURED_DAYS_MAX = 30;

/** Whether what was measured of a node is so old that it is only an estimate now. */
export const isLongAgo = ({ measuredDaysAgo = 0 }: Pick<NodeFacts, "measuredDaysAgo">): boolean =>
  measuredDaysAgo > MEASURED_DAYS_MAX;

type Measured = Pick<NodeFacts, "name" | "device" | "memoryBytesPerSecond" | "layerTimes" | "measuredDaysAgo">;

export function speedOf(node: Measured): Speed {
  const { layerTimes } = node;
  if (layerTimes === undefined) return estimatedSpeed(node);
  const { bytes, oneMicros, manyMicros, manyRows, stepMicros } = layerTimes;
  const one = oneMicros / 1e6 / bytes;
  const many = manyMicros / 1e6 / bytes;
  // Noise may have made many rows seem cheaper than one, or rows so dear that reading would be free.
  const row = manyRows > 1 ? Math.min(one, Math.max(0, (many - one) / (manyRows - 1))) : 0;
  return {
    secondsPerByte: one - row,
    rowSecondsPerByte: row,
    stepSeconds: stepMicros === undefined ? ASSUMED_STEP_SECONDS : stepMicros / 1e6,
    estimated: isLongAgo(node) ? [`${node.name}: time per layer, measured ${node.measuredDaysAgo} days ago`] : [],
  };
}

function estimatedSpeed({ name, device, memoryBytesPerSecond }: Measured): Speed {
  const isKnown = memoryBytesPerSecond > 0;
  const one = 1 / (BANDWIDTH_SHARE * (isKnown ? memoryBytesPerSecond : ASSUMED_BYTES_PER_SECOND));
  const row = one * (device === "cpu" ? ROW_SHARE_OF_CPU : ROW_SHARE_OF_OTHERS);
  return {
    secondsPerByte: one - row,
    rowSecondsPerByte: row,
    stepSeconds: ASSUMED_STEP_SECONDS,
    estimated: [
      isKnown
        ? `${name}: time per layer, from its memory's ${Math.round(memoryBytesPerSecond / 1e9)} GB/s`
        : `${name}: time per layer, as of a desktop with ${ASSUMED_BYTES_PER_SECOND / 1e9} GB/s`,
    ],
  };
}
