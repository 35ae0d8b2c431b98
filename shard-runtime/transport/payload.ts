/// <reference lib="es2025.float16" />
/**
 * Rows on the wire and rows in memory. Declared form and length are checked before a byte is used, and every value too:
 * one NaN in a KV cache would spoil a session for good, and its cause would be far away. Little-endian, as all machines
 * that run this are.
 */
import type { Payload__Output } from "../../core/gen/proto/tessellate/shard/v1/Payload.ts";
import type { HandOffDtype } from "../../core/rank-config.ts";
import { type Result, ok, refuse } from "../../core/result.ts";

export type PayloadForm =
  | { readonly dtype: "u32"; readonly vocabularySize: number; readonly rowsMax: number }
  | { readonly dtype: HandOffDtype; readonly columns: number; readonly rowsMax: number };

const VALUE_BYTES = { u32: 4, f32: 4, f16: 2 } as const;

/**
 * Token ids [rows], or hidden rows as f32 row-major [rows, columns]; a view of the message where its alignment allows.
 * `BadPayload` says what was declared or found and what was expected.
 */
export function parsePayload(
  payload: Payload__Output | null,
  form: PayloadForm,
): Result<Uint32Array | Float32Array, "BadPayload"> {
  if (payload === null) return refuse("BadPayload", "the step has no payload");
  const { dtype, rows, columns, data } = payload;
  const expectedColumns = form.dtype === "u32" ? 1 : form.columns;
  if (dtype !== form.dtype)
    return refuse("BadPayload", `payload.dtype is ${JSON.stringify(dtype.slice(0, 20))}, expected ${form.dtype}`);
  if (columns !== expectedColumns)
    return refuse("BadPayload", `payload.columns is ${columns}, expected ${expectedColumns}`);
  if (rows < 1 || rows > form.rowsMax)
    return refuse(
      "BadPayload",
      `payload.rows is ${rows}, expected 1 to ${form.rowsMax}; send longer prompts in chunks`,
    );
  const byteCount = rows * columns * VALUE_BYTES[form.dtype];
  if (data.length !== byteCount)
    return refuse(
      "BadPayload",
      `payload.data has ${data.length} bytes, ${rows} × ${columns} × ${dtype} make ${byteCount}`,
    );
  return form.dtype === "u32" ? tokensOf(data, form.vocabularySize) : hiddenOf(data, form.dtype, columns);
}

/** Hidden rows as they go on the wire; a view of `hidden` for f32. `HandOffOverflow`: f16 ends at 65504. */
export function encodeHidden(hidden: Float32Array, dtype: HandOffDtype): Result<Buffer, "HandOffOverflow"> {
  if (dtype === "f32") {
    const bad = hidden.findIndex((value) => !Number.isFinite(value));
    if (bad >= 0)
      return refuse("HandOffOverflow", `the segment computed ${hidden[bad]}; the weights or the input are broken`);
    return ok(Buffer.from(hidden.buffer, hidden.byteOffset, hidden.byteLength));
  }
  // Float16Array rounds to nearest, ties to even, once, from the exact value: the same bits on every machine.
  const half = new Float16Array(hidden);
  const bad = half.findIndex((value) => !Number.isFinite(value));
  if (bad >= 0)
    return refuse(
      "HandOffOverflow",
      `the segment computed ${hidden[bad]}, which f16 cannot hold; set handOff.dtype to f32`,
    );
  return ok(Buffer.from(half.buffer));
}

/** The rows of several steps, one after the other; of one step, its own. */
export function joinValues(
  parts: readonly { readonly values: Uint32Array | Float32Array }[],
): Uint32Array | Float32Array {
  const [first] = parts;
  if (first !== undefined && parts.length === 1) return first.values;
  const length = parts.reduce((sum, part) => sum + part.values.length, 0);
  const joined = first?.values instanceof Uint32Array ? new Uint32Array(length) : new Float32Array(length);
  let at = 0;
  for (const { values } of parts) {
    joined.set(values, at);
    at += values.length;
  }
  return joined;
}

function tokensOf(data: Buffer, vocabularySize: number): Result<Uint32Array, "BadPayload"> {
  const bytes = aligned(data, 4);
  const tokens = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  const bad = tokens.findIndex((token) => token >= vocabularySize);
  return bad < 0
    ? ok(tokens)
    : refuse("BadPayload", `token id ${tokens[bad]} in row ${bad} is not below the vocabulary's ${vocabularySize}`);
}

function hiddenOf(data: Buffer, dtype: HandOffDtype, columns: number): Result<Float32Array, "BadPayload"> {
  const bytes = aligned(data, VALUE_BYTES[dtype]);
  const hidden =
    dtype === "f32"
      ? new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4)
      : new Float32Array(new Float16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2));
  const bad = hidden.findIndex((value) => !Number.isFinite(value));
  if (bad < 0) return ok(hidden);
  return refuse(
    "BadPayload",
    `row ${Math.floor(bad / columns)}, column ${bad % columns} is ${hidden[bad]}; hidden rows are finite`,
  );
}

/** The bytes at an address that a typed array may start at. */
function aligned(data: Buffer, alignment: number): Uint8Array<ArrayBuffer | SharedArrayBuffer> {
  return data.byteOffset % alignment === 0 ? data : new Uint8Array(data);
}
