/** Tensors that are stored as what they are: F32, F16 or BF16, row after row. All three widen exactly. */
import { shown } from "../../../core/json.ts";
import { lengthOf } from "../../../core/ranges.ts";
import type { TensorEntry } from "../safetensors.ts";
import { elementBytes, isReadable, widen } from "../widen.ts";
import {
  type Encoding,
  type Extent,
  type Format,
  type TensorLookup,
  type WantedTensor,
  matrixWindow,
  refusal,
  windowOf,
} from "./encoding.ts";

export const plainFormat: Format = {
  mainTensor: (name) => name,
  async encodingOf(wanted, lookup) {
    const entry = await lookup.find(wanted.name);
    if (entry === undefined || !isReadable(entry.dtype)) return undefined;
    assertShape(lookup, entry, wanted);
    return plainEncoding(entry, wanted.extent);
  },
};

export function plainEncoding(entry: TensorEntry, { rows: planeRows, columns: width }: Extent): Encoding {
  const { dtype } = entry;
  if (!isReadable(dtype)) throw refusal("UnsupportedDtype", `${entry.path}: tensor ${entry.name} has dtype ${dtype}`);
  const size = elementBytes(dtype);
  return {
    transposed: false,
    scattered: false,
    windows({ plane, rows, columns }) {
      if (entry.shape.length === 2 && plane === 0 && width > 1) return [matrixWindow(entry, size, rows, columns)];
      const bytes = { start: columns.start * size, end: columns.end * size };
      return [windowOf(entry, { rowBytes: width * size, planeRows, plane }, rows, bytes)];
    },
    decode({ rows, columns }, [raw = new Uint8Array()]) {
      const out = new Float32Array(lengthOf(rows) * lengthOf(columns));
      widen(dtype, raw, 0, out, 0, out.length);
      return out;
    },
  };
}

/** Refuses a tensor of another shape than config.json implies. */
export function assertShape(
  lookup: TensorLookup,
  entry: TensorEntry,
  { shape }: Pick<WantedTensor, "shape">,
  ...others: readonly (readonly number[])[]
): void {
  const found = shown(entry.shape);
  if ([shape, ...others].some((expected) => shown(expected) === found)) return;
  throw refusal(
    "WrongShape",
    `${lookup.where(entry)} has shape ${found}, expected ${shown(shape)} after config.json; the two are not of one model`,
  );
}
