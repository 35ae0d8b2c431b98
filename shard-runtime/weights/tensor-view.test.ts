import { expect } from "chai";
import fc from "fast-check";
import { type Range, lengthOf } from "../../core/ranges.ts";
import type { TensorBlocks, TensorPart } from "../engine/tensor-source.ts";
import type { Encoding } from "./formats/encoding.ts";
import { plainEncoding } from "./formats/plain.ts";
import { type StoredPlace, type View, arranged, arrangedBlocks, viewOf, wantedAt } from "./tensor-view.ts";
import { type ByteReader, WindowReader } from "./window-reader.ts";

const START = 40; // of the tensor in its file

/** A stored f32 tensor whose values count up, in a file that tells how many of its bytes were read. */
function aStored(place: StoredPlace) {
  const count = place.storedShape.reduce((product, length) => product * length, 1);
  const file = new Uint8Array(START + count * 4);
  new Float32Array(file.buffer, START).set(Float32Array.from({ length: count }, (_, index) => index));
  const bytes = { start: START, end: file.length };
  const entry = { name: place.stored, path: "w", dtype: "F32", shape: place.storedShape, bytes };
  let readBytes = 0;
  const reader: ByteReader = {
    async read(_path, { start, end }) {
      expect(start).to.be.at.least(START);
      expect(end).to.be.at.most(file.length);
      readBytes += end - start;
      return file.slice(start, end);
    },
  };
  return { encoding: plainEncoding(entry, wantedAt(place).extent), reader, readBytes: () => readBytes };
}

async function read(place: StoredPlace, part: TensorPart, windows: WindowReader, encoding: Encoding) {
  const view = viewOf(place, encoding, part);
  const raw: Uint8Array[] = [];
  for (const window of encoding.windows(view.rect)) raw.push(await windows.read(window, view.scattered));
  return arranged(view, encoding.decode(view.rect, raw), place.add);
}

/** Element by element, from the definition of a place. */
function slicedPlainly(place: StoredPlace, { rows, columns }: Required<TensorPart>): number[] {
  const { planes, rows: storedRows, columns: width } = wantedAt(place).extent;
  expect(place.plane ?? 0).to.be.below(planes);
  const { start, step } = place.rows ?? { start: 0, step: 1 };
  const out: number[] = [];
  for (let row = rows.start; row < rows.end; row += 1)
    for (let column = columns.start; column < columns.end; column += 1) {
      const at = start + paired(row, place.pairedHeadSize) * step;
      const index = place.transposed === true ? column * width + at : at * width + column;
      out.push((place.plane ?? 0) * storedRows * width + index + (place.add ?? 0));
    }
  return out;
}

/** llama.cpp's order: a head is [half, 2] where the checkpoint's is [2, half]. */
function paired(row: number, headSize = 1): number {
  if (headSize === 1) return row;
  const order = Array.from({ length: headSize }, (_, index) => (index % 2) * (headSize / 2) + Math.floor(index / 2));
  return row - (row % headSize) + order.indexOf(row % headSize);
}

const within = (length: number) =>
  fc.tuple(fc.nat(length), fc.nat(length)).map(([a, b]): Range => ({ start: Math.min(a, b), end: Math.max(a, b) }));

const places = fc
  .record({
    heads: fc.integer({ min: 1, max: 4 }),
    headSize: fc.constantFrom(1, 1, 4, 6),
    width: fc.integer({ min: 1, max: 9 }),
    planes: fc.option(fc.integer({ min: 1, max: 3 }), { nil: undefined }),
    step: fc.integer({ min: 1, max: 3 }),
    before: fc.nat(5),
    after: fc.nat(5),
    transposed: fc.boolean(),
    add: fc.constantFrom(0, 1),
    vector: fc.boolean(),
  })
  .map(({ heads, headSize, width, planes, step, before, after, transposed, add, vector }): StoredPlace => {
    const length = heads * headSize;
    const storedLength = before + length * step + after;
    const matrix = transposed ? [width, storedLength] : [storedLength, width];
    const stored = vector ? [storedLength] : matrix;
    return {
      role: "q.weight",
      shape: vector ? [length] : [length, width],
      stored: "q",
      storedShape: planes === undefined ? stored : [planes, ...stored],
      ...(planes === undefined ? {} : { plane: planes - 1 }),
      ...(transposed && !vector ? { transposed } : {}),
      rows: { start: before, step },
      add,
      ...(headSize === 1 ? {} : { pairedHeadSize: headSize }),
    };
  });

const placesAndParts = places.chain((place) =>
  fc.tuple(fc.constant(place), fc.record({ rows: within(place.shape[0] ?? 1), columns: within(place.shape[1] ?? 1) })),
);

describe("places of tensors", () => {
  it("give any part of any role as slicing the whole plainly does", () =>
    fc.assert(
      fc.asyncProperty(placesAndParts, async ([place, part]) => {
        const { encoding, reader } = aStored(place);
        const values = await read(place, part, new WindowReader(reader), encoding);
        expect([...values]).to.deep.equal(slicedPlainly(place, part));
      }),
      { numRuns: 400 },
    ));

  it("read of a contiguous layout no byte more than wanted", async () => {
    const place: StoredPlace = {
      role: "q.weight",
      shape: [6, 8],
      stored: "qkv",
      storedShape: [2, 20, 8],
      plane: 1,
      rows: { start: 10, step: 1 },
    };
    const { encoding, reader, readBytes } = aStored(place);
    await read(place, { rows: { start: 2, end: 5 } }, new WindowReader(reader), encoding);
    expect(readBytes()).to.equal(3 * 8 * 4);
  });

  const scattered: readonly { name: string; places: readonly StoredPlace[] }[] = [
    {
      name: "stored the other way round",
      places: [{ role: "gate.weight", shape: [12, 8], stored: "gate", storedShape: [8, 12], transposed: true }],
    },
    {
      name: "interleaved with another",
      places: [0, 1].map((start) => ({
        role: `part-${start}.weight`,
        shape: [6, 8],
        stored: "gate_up",
        storedShape: [12, 8],
        rows: { start, step: 2 },
      })),
    },
  ];
  for (const { name, places: own } of scattered)
    it(`read a matrix once, however it is asked for: ${name}`, async () => {
      const first = own[0];
      if (first === undefined) throw new Error("no place");
      const { encoding, reader, readBytes } = aStored(first);
      const windows = new WindowReader(reader);
      for (const place of own)
        for (let start = 0; start < (place.shape[0] ?? 0); start += 3) {
          // Parts of an interleaved matrix are read each for itself, but then serve all roles.
          const rows = { start, end: start + 3 };
          const values = await read(place, { rows }, windows, encoding);
          expect([...values]).to.deep.equal(slicedPlainly(place, { rows, columns: { start: 0, end: 8 } }));
        }
      expect(readBytes()).to.equal(12 * 8 * 4);
      windows.rest();
      await read(first, { rows: { start: 0, end: 1 } }, windows, encoding);
      expect(readBytes()).to.be.above(12 * 8 * 4);
    });

  it("put rows of blocks where the role has them", () => {
    const place: StoredPlace = { role: "q", shape: [4, 16], stored: "q", storedShape: [4, 16], pairedHeadSize: 4 };
    const { encoding } = aStored(place);
    const view: View = viewOf(place, encoding, { rows: { start: 1, end: 3 } });
    expect(lengthOf(view.rect.rows)).to.equal(4);
    const blocks: TensorBlocks = {
      bits: 4,
      blockSize: 16,
      values: Uint8Array.from({ length: 32 }, (_, index) => Math.floor(index / 8)),
      scales: Float32Array.of(0, 1, 2, 3),
      zeroPoints: Uint8Array.of(0, 1, 2, 3),
    };
    const { values, scales, zeroPoints } = arrangedBlocks(view, blocks);
    expect([...scales]).to.deep.equal([2, 1]);
    expect([...(zeroPoints ?? [])]).to.deep.equal([2, 1]);
    expect([...values]).to.deep.equal([...new Array(8).fill(2), ...new Array(8).fill(1)]);
  });
});
