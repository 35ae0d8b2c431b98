import { expect } from "chai";
import { createHash } from "node:crypto";
import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { RefusalError, valueOrThrow } from "../../../core/result.ts";
import { dequantizeRows } from "../../engine/quantize.ts";
import { removed } from "../checkpoint-builder.ts";
import { BLOCK_TYPES, blockTypeNamed, isRoundedAgain } from "./block-types.ts";
import { aGguf } from "./gguf-builder.ts";
import { ggufFilesIn } from "./gguf-files.ts";
import { ggufFormat } from "./gguf-format.ts";
import { parseGgufHeader } from "./header.ts";

/** By the gguf package 0.19 for Python: SHA-256, cut, of 1024 values of {@link blockBytes} as f32, zeros positive. */
const BY_THE_PACKAGE: readonly (readonly [type: string, hash: string])[] = [
  ["Q4_0", "9ff59191b044cd17f8c77aa1aa217f33"],
  ["Q4_1", "abeebfcb7e599f65a1f2c52ee3553dc7"],
  ["Q5_0", "c84e7374fe38b92b9c161724f977d24a"],
  ["Q5_1", "22bdb0bb5908fe177fe23449ae8d2225"],
  ["Q8_0", "ed784fc947cf55b41123af08384f2768"],
  ["Q2_K", "3cd12a9e53a596831581c2289bc14290"],
  ["Q3_K", "58ee59c7e86edcfd8cb9018c2e7b9b33"],
  ["Q4_K", "4d550cff0def80c4277353d4ff2d30a3"],
  ["Q5_K", "b499d34e040bed3e5547d65dd66badf4"],
  ["Q6_K", "dad78573291ba4e3ed858d5e668be040"],
  ["MXFP4", "836225b07d711624d5e48c25a97a3c79"],
];

/** Bytes that differ, with f16 scales that are small numbers. */
function blockBytes(name: string, byteCount: number, valueCount: number): Uint8Array {
  const halves = HALVES[name] ?? [];
  return Uint8Array.from({ length: (1024 / valueCount) * byteCount }, (_, index) => {
    const byte = (index * 73 + (index >> 3) * 31 + 17) & 255;
    const within = index % byteCount;
    if (name === "MXFP4" && within === 0) return (byte & 15) + 120;
    return halves.includes(within - 1) ? (byte & 0x83) | 0x24 : byte;
  });
}
const HALVES: Readonly<Record<string, readonly number[]>> = {
  Q4_0: [0],
  Q4_1: [0, 2],
  Q5_0: [0],
  Q5_1: [0, 2],
  Q8_0: [0],
  Q2_K: [80, 82],
  Q3_K: [108],
  Q4_K: [0, 2],
  Q5_K: [0, 2],
  Q6_K: [208],
};

const hashOf = (values: Float32Array): string =>
  createHash("sha256")
    .update(new Uint8Array(values.map((value) => value + 0).buffer))
    .digest("hex")
    .slice(0, 32);

/** A matrix of 2 rows × 512 columns of the type, as the format reads it. */
async function opened(name: string) {
  const type = blockTypeNamed(name);
  if (type === undefined) throw new Error(`no type ${name}`);
  const bytes = blockBytes(name, type.byteCount, type.valueCount);
  const entry = { name: "m", path: "w", dtype: name, shape: [2, 512], bytes: { start: 0, end: bytes.length } };
  const lookup = { find: () => Promise.resolve(entry), where: () => "w: tensor m", missing: () => "" };
  const wanted = { name: "m", shape: [2, 512], extent: { planes: 1, rows: 2, columns: 512 } };
  const encoding = await ggufFormat.encodingOf(wanted, lookup);
  if (encoding === undefined) throw new Error("not taken");
  return { encoding, bytes };
}

describe("GGUF block types", () => {
  it("are all in the table", () => {
    expect(BLOCK_TYPES.map(({ name }) => name).sort()).to.deep.equal(BY_THE_PACKAGE.map(([name]) => name).sort());
  });

  for (const [name, hash] of BY_THE_PACKAGE) {
    it(`mean what the format's makers say: ${name}`, async () => {
      const { encoding, bytes } = await opened(name);
      const rect = { plane: 0, rows: { start: 0, end: 2 }, columns: { start: 0, end: 512 } };
      expect(hashOf(encoding.decode(rect, [bytes]))).to.equal(hash);
    });

    it(`give any columns of a row, and blocks ${isRoundedAgain(name) ? "not at all" : "exactly"}: ${name}`, async () => {
      const { encoding, bytes } = await opened(name);
      const all = encoding.decode({ plane: 0, rows: { start: 0, end: 2 }, columns: { start: 0, end: 512 } }, [bytes]);
      await fc.assert(
        fc.asyncProperty(fc.nat(512), fc.nat(512), async (a, b) => {
          const columns = { start: Math.min(a, b), end: Math.max(a, b) };
          const rect = { plane: 0, rows: { start: 1, end: 2 }, columns };
          const [window] = encoding.windows(rect);
          if (window === undefined) throw new Error("no window");
          const raw = bytes.slice(window.start + window.columns.start, window.start + window.columns.end);
          expect([...encoding.decode(rect, [raw])]).to.deep.equal([
            ...all.subarray(512 + columns.start, 512 + columns.end),
          ]);
          const blocks = encoding.blocks?.(rect, [raw]);
          if (blocks === undefined) return;
          expect(columns.start % 32).to.equal(0);
          const values = dequantizeRows(blocks, columns.end - columns.start, blocks.blockSize, blocks.bits);
          expect([...values].map((value) => value + 0)).to.deep.equal(
            [...all.subarray(512 + columns.start, 512 + columns.end)].map((value) => value + 0),
          );
        }),
        { numRuns: 50 },
      );
      const whole = encoding.blocks?.({ plane: 0, rows: { start: 0, end: 2 }, columns: { start: 0, end: 512 } }, [
        bytes,
      ]);
      expect(whole === undefined).to.equal(isRoundedAgain(name));
    });
  }
});

const good = aGguf({
  metadata: { "general.architecture": "llama", "llama.block_count": 2, "a.list": ["x", "yz"], "a.flag": true },
  tensors: [
    { name: "a", type: 0, shape: [2, 3], bytes: new Uint8Array(24) },
    { name: "b", type: 2, shape: [2, 32], bytes: new Uint8Array(36) },
  ],
});

const parse = (file: Uint8Array, part = file) => parseGgufHeader("m.gguf", "m.gguf", part, file.length);

describe("GGUF headers", () => {
  it("say what the model is and where each tensor lies", () => {
    const header = valueOrThrow(parse(good));
    if (header === "short") throw new Error("short");
    expect(Object.fromEntries(header.metadata)).to.deep.equal({
      "general.architecture": "llama",
      "llama.block_count": 2,
      "a.list": ["x", "yz"],
      "a.flag": true,
    });
    const b = header.tensors.get("b");
    expect(b).to.include({ dtype: "Q4_0", path: "m.gguf" });
    expect(b?.shape).to.deep.equal([2, 32]);
    expect(b?.bytes.end).to.equal(good.length);
  });

  it("are short, never wrong, where the bytes end early", () => {
    for (let length = 0; length < 200; length += 1) {
      const result = parse(good, good.subarray(0, length));
      expect(result.ok && result.value === "short", `${length} bytes`).to.equal(true);
    }
  });

  const patched = (at: number, ...bytes: number[]): Uint8Array => {
    const file = good.slice();
    file.set(bytes, at);
    return file;
  };
  const endless = aGguf({ metadata: { "a.list": ["x"] }, tensors: [] });
  endless.set([255, 255, 255, 255], 24 + 8 + 6 + 4 + 4); // the list's length, behind key and types
  const bad: readonly (readonly [name: string, file: Uint8Array, says: string])[] = [
    ["no bytes", new Uint8Array(), "magic"],
    ["another magic number", patched(0, 1), "GGUF"],
    ["an old version", patched(4, 1), "version is 1"],
    ["more tensors than a file can have", patched(8, 255, 255, 255, 255), "tensors"],
    ["a count beyond counting", patched(8, 255, 255, 255, 255, 255, 255, 255, 255), "number of tensors"],
    ["a key longer than the file", patched(24, 255, 255, 255), "the file ends at"],
    ["a list without end", endless, "more than 8388608 values"],
    ["data cut short", good.subarray(0, -1), "ends at byte"],
    [
      "rows of half a block",
      aGguf({ metadata: {}, tensors: [{ name: "x", type: 2, shape: [1, 31], bytes: new Uint8Array(18) }] }),
      "whole blocks",
    ],
    [
      "tensors that overlap",
      aGguf({
        metadata: {},
        tensors: [
          { name: "x", type: 0, shape: [64], bytes: new Uint8Array(32) },
          { name: "y", type: 0, shape: [8], bytes: new Uint8Array(32) },
        ],
      }),
      `"x" reaches into tensor "y"`,
    ],
    ["an alignment of nothing", aGguf({ metadata: { "general.alignment": 0 }, tensors: [] }), "general.alignment"],
  ];
  for (const [name, file, says] of bad)
    it(`are refused: ${name}`, () => {
      const result = parse(file);
      if (result.ok) throw new Error("was taken");
      expect(result.code).to.equal("MalformedTensors");
      expect(result.detail).to.include(says).and.include("m.gguf").and.include("fetch");
    });

  it("are read without throwing, whatever one byte says", () => {
    fc.assert(
      fc.property(fc.nat(good.length - 1), fc.nat(255), (at, byte) => {
        parse(patched(at, byte));
      }),
      { numRuns: 2000 },
    );
  });
});

describe("GGUF folders", () => {
  const cases: readonly (readonly [files: readonly string[], found: readonly string[] | string])[] = [
    [["README.md"], []],
    [["m.gguf", "mmproj-m.gguf"], ["m.gguf"]],
    [
      ["m-00002-of-00002.gguf", "m-00001-of-00002.gguf"],
      ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"],
    ],
    [["m-00001-of-00002.gguf"], "MissingFile"],
    [["m-Q4_0.gguf", "m-Q8_0.gguf"], "SeveralGgufFiles"],
  ];
  for (const [files, found] of cases)
    it(`hold one model: ${files.join(", ")}`, async () => {
      const directory = await mkdtemp(join(tmpdir(), "tessellate-gguf-"));
      try {
        for (const file of files) await writeFile(join(directory, file), "");
        const result = await ggufFilesIn(directory).catch((error: unknown) =>
          error instanceof RefusalError ? error.code : error,
        );
        expect(result).to.deep.equal(found);
      } finally {
        await removed(directory);
      }
    });
});
