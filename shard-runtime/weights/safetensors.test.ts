import { expect } from "chai";
import fc from "fast-check";
import { type BuiltTensor, safetensors } from "./checkpoint-builder.ts";
import { headerBytesOf, parseTensors } from "./safetensors.ts";

const aTensor = (name: string, shape: readonly number[] = [2, 3]): BuiltTensor => ({
  name,
  dtype: "F32",
  shape,
  bytes: new Uint8Array(4 * shape.reduce((a, b) => a * b, 1)),
});

function parse(file: Uint8Array) {
  const length = headerBytesOf("w.safetensors", file.subarray(0, 8), file.length);
  return length.ok ? parseTensors("w.safetensors", file.subarray(8, 8 + length.value), file.length) : length;
}

const good = [aTensor("a"), aTensor("b", [4]), aTensor("none", [0, 5]), aTensor("scalar", [])];
type Entry = { dtype: unknown; shape: unknown; data_offsets: unknown };
const lying = (change: (a: Entry, b: Entry, header: Record<string, unknown>) => void): Uint8Array =>
  safetensors(good, (header) => {
    change(header["a"] as Entry, header["b"] as Entry, header);
    return header;
  });
function withLength(length: bigint): Uint8Array {
  const file = safetensors(good).slice();
  new DataView(file.buffer).setBigUint64(0, length, true);
  return file;
}

describe("safetensors headers", () => {
  it("say where each tensor lies", () => {
    const file = safetensors(good);
    const tensors = parse(file);
    if (!tensors.ok) throw new Error(tensors.detail);
    const dataStart = file.length - 24 - 16 - 4;
    const bytes = { start: dataStart + 24, end: dataStart + 40 };
    expect(tensors.value.get("b")).to.deep.equal({ name: "b", path: "w.safetensors", dtype: "F32", shape: [4], bytes });
    expect(tensors.value.get("none")?.bytes).to.deep.equal({ start: dataStart + 40, end: dataStart + 40 });
    expect(tensors.value.get("scalar")?.bytes).to.deep.equal({ start: dataStart + 40, end: dataStart + 44 });
  });

  const bad = [
    { name: "no bytes", file: new Uint8Array(0), says: "has 0 bytes" },
    { name: "seven bytes", file: new Uint8Array(7), says: "has 7 bytes" },
    { name: "a file cut within the header", file: safetensors(good).subarray(0, 40), says: "header length says" },
    { name: "a header length of 0", file: withLength(0n), says: "header length says 0" },
    { name: "a header length past the end", file: withLength(5000n), says: "header length says 5000" },
    { name: "a header length over the limit", file: withLength(2n ** 60n), says: "limit" },
    { name: "a header length that cuts the JSON", file: withLength(20n), says: "no JSON object" },
    { name: "a list as header", file: safetensors(good, () => [1]), says: "no JSON object" },
    {
      name: "metadata that is no map of texts",
      file: lying((_a, _b, header) => (header["__metadata__"] = { n: 1 })),
      says: "__metadata__",
    },
    { name: "an entry that is no object", file: lying((_a, _b, header) => (header["a"] = 3)), says: `tensor "a"` },
    { name: "an unknown dtype", file: lying((a) => (a.dtype = "Q4_K")), says: `tensor "a": dtype is "Q4_K"` },
    { name: "a dtype that is a method of objects", file: lying((a) => (a.dtype = "toString")), says: "dtype" },
    {
      name: "a dtype of another size",
      file: lying((a) => (a.dtype = "F16")),
      says: `tensor "a": data_offsets [0,24] hold 24 bytes`,
    },
    { name: "a negative length", file: lying((a) => (a.shape = [-2, -3])), says: "shape is [-2,-3]" },
    { name: "a shape beyond counting", file: lying((a) => (a.shape = [2 ** 40, 2 ** 40])), says: "data_offsets" },
    { name: "a shape that is larger than its bytes", file: lying((a) => (a.shape = [2, 4])), says: "takes 32" },
    { name: "offsets that are no pair", file: lying((a) => (a.data_offsets = [0])), says: "data_offsets is [0]" },
    { name: "offsets the wrong way round", file: lying((a) => (a.data_offsets = [24, 0])), says: "data_offsets" },
    {
      name: "tensors that overlap",
      file: lying((_, b) => (b.data_offsets = [8, 24])),
      says: `tensor "b": data_offsets overlap tensor "a"`,
    },
    { name: "a hole", file: lying((_a, _b, header) => delete header["b"]), says: "hole of 16 bytes" },
    {
      name: "a hole at the start",
      file: lying((_a, _b, header) => delete header["a"]),
      says: "hole of 24 bytes after the header",
    },
    { name: "a file cut within the data", file: safetensors(good).subarray(0, -1), says: "the tensors end at byte" },
    {
      name: "bytes after the data",
      file: new Uint8Array(Buffer.concat([safetensors(good), new Uint8Array(3)])),
      says: "the tensors end at byte",
    },
  ];
  for (const { name, file, says } of bad)
    it(`refuse ${name}`, () => {
      const result = parse(file);
      if (result.ok) throw new Error("was taken");
      expect(result.code).to.equal("MalformedTensors");
      expect(result.detail).to.include(says).and.include("w.safetensors").and.include("fetch");
    });

  it("are read without throwing, whatever the bytes", () => {
    const json = fc.json().map((text) => new TextEncoder().encode(text));
    fc.assert(
      fc.property(
        fc.oneof(fc.uint8Array(), json),
        fc.nat(1000),
        (header, size) => void parseTensors("w", header, size),
      ),
    );
  });

  it("tile the file, or are refused, whatever one number says", () => {
    fc.assert(
      fc.property(fc.constantFrom(0, 1), fc.integer({ min: -8, max: 64 }), (which, value) => {
        const file = lying((a, b) => {
          a.data_offsets = which === 0 ? [value, 24] : [0, value];
          b.data_offsets = [24, 40];
        });
        return parse(file).ok === (value === (which === 0 ? 0 : 24));
      }),
    );
  });
});
