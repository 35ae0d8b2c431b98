import { expect } from "chai";
import fc from "fast-check";
import { CHUNK_BYTES, type ManifestFile, chunkHash } from "../../core/manifest.ts";
import type { Range } from "../../core/ranges.ts";
import { RefusalError, refuse } from "../../core/result.ts";
import { Intake } from "./intake.ts";
import { SourceUnavailable } from "./patience.ts";
import { chunkPiece } from "./piece.ts";
import { SourceList } from "./source-list.ts";
import { SourceOrder } from "./source-order.ts";
import type { Source } from "./source.ts";

const BODY = new Uint8Array(2 * CHUNK_BYTES + 77).map((_, at) => ((at * 31) >> 3) ^ (at >> 20));
const FILE: ManifestFile = {
  path: "w.safetensors",
  sizeBytes: BODY.length,
  chunks: new Uint8Array(
    Buffer.concat([0, 1, 2].map((at) => chunkHash(BODY.subarray(at * CHUNK_BYTES, (at + 1) * CHUNK_BYTES)))),
  ),
};
const PIECES = [0, 1, 2].map((chunk) => chunkPiece(FILE, chunk));

type Asked = { readonly source: string; readonly range: Range };
type Fault = { readonly stopsAt?: number; readonly error?: Error; readonly flips?: number; readonly changed?: string };

/** A source of BODY that gives wrong bytes, or stops with an error once it comes to a byte. */
function aSource(
  name: string,
  asked: Asked[],
  { stopsAt = Number.POSITIVE_INFINITY, error, flips = -1, changed }: Fault = {},
): Source {
  return {
    where: (path) => `${name}/${path}`,
    ...(changed === undefined ? {} : { changeOf: () => changed }),
    async *stream(_, range) {
      asked.push({ source: name, range });
      for (let at = range.start; at < range.end; at += 300_000) {
        if (at + 300_000 > stopsAt) throw error ?? new SourceUnavailable(`${name} is away`);
        yield BODY.slice(at, Math.min(at + 300_000, range.end)).map((byte, index) =>
          at + index === flips ? byte ^ 1 : byte,
        );
      }
    },
    readSmall: () => Promise.reject(error ?? new SourceUnavailable(`${name} is away`)),
  };
}

async function fetched(list: SourceList, onTrouble = (_: string) => {}): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const { bytes } of new Intake(list, { onTrouble }).fetch(PIECES)) parts.push(Buffer.from(bytes));
  return Buffer.concat(parts);
}

const failureOf = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => "none",
    (error: unknown) => error,
  );
const missing = new RefusalError(refuse("MissingFile", "b/w.safetensors: no such file"));

describe("several sources of one model", () => {
  it("go on at the byte where one of them failed, and leave it for last from then on", async () => {
    const asked: Asked[] = [];
    const list = new SourceList([aSource("a", asked, { stopsAt: 1_000_000 }), aSource("b", asked)]);
    expect((await fetched(list)).equals(BODY)).to.equal(true);
    expect(asked).to.deep.equal([
      { source: "a", range: { start: 0, end: BODY.length } },
      { source: "b", range: { start: 900_000, end: BODY.length } },
    ]);
    expect((await fetched(list)).equals(BODY)).to.equal(true);
    expect(asked.slice(2).map(({ source }) => source)).to.deep.equal(["b"]);
    expect(list.fetchedBytes).to.equal(2 * BODY.length);
  });

  it("fetch a corrupt chunk again from elsewhere, and say whose it was", async () => {
    const asked: Asked[] = [];
    const told: string[] = [];
    const list = new SourceList([aSource("a", asked, { flips: CHUNK_BYTES + 9 }), aSource("b", asked)]);
    const trouble = (event: string, fields: object = {}) => told.push(`${event} ${JSON.stringify(fields)}`);
    expect((await fetched(list, trouble)).equals(BODY)).to.equal(true);
    expect(asked).to.deep.equal([
      { source: "a", range: { start: 0, end: BODY.length } },
      { source: "b", range: { start: CHUNK_BYTES, end: 2 * CHUNK_BYTES } },
    ]);
    expect(told).to.have.length(1);
    expect(told[0])
      .to.include("corrupt-chunk")
      .and.include("a/w.safetensors")
      .and.include("chunk 1 (bytes 1048576 to 2097152)");
  });

  it("refuse a chunk that is corrupt everywhere, naming all of them", async () => {
    const list = new SourceList([aSource("a", [], { flips: 5 }), aSource("b", [], { flips: 7 })]);
    const error = await failureOf(fetched(list));
    expect(error).to.be.instanceOf(RefusalError).and.include({ code: "CorruptChunk" });
    expect(String(error)).to.include("a/w.safetensors").and.include("b/w.safetensors").and.include("chunk 0");
  });

  it("refuse a file that was replaced, by name", async () => {
    const list = new SourceList([aSource("a", [], { flips: 5, changed: "the file was replaced" })]);
    const error = await failureOf(fetched(list));
    expect(error).to.include({ code: "FileChanged" });
    expect(String(error)).to.include("a/w.safetensors").and.include("the file was replaced");
  });

  it("are weather while any of them may come back, and a refusal where none can", async () => {
    const away = await failureOf(
      fetched(new SourceList([aSource("a", [], { stopsAt: 0 }), aSource("b", [], { stopsAt: 0, error: missing })])),
    );
    expect(away).to.be.instanceOf(SourceUnavailable);
    expect(String(away)).to.include("a is away").and.include("no such file");
    const gone = await failureOf(fetched(new SourceList([aSource("b", [], { stopsAt: 0, error: missing })])));
    expect(gone).to.be.instanceOf(RefusalError).and.include({ code: "MissingFile" });
  });

  it("let a bug pass through", async () => {
    const bug = new Error("a bug");
    const error = await failureOf(
      fetched(new SourceList([aSource("a", [], { stopsAt: 0, error: bug }), aSource("b", [])])),
    );
    expect(error).to.equal(bug);
  });
});

describe("the order of sources", () => {
  it("is a permutation, in which no source stands before one that did better", () => {
    const steps = fc.array(fc.record({ source: fc.nat(3), worked: fc.boolean() }), { maxLength: 30 });
    fc.assert(
      fc.property(steps, (happened) => {
        const order = new SourceOrder(4);
        const failures = [0, 0, 0, 0];
        for (const { source, worked } of happened) {
          failures[source] = worked ? 0 : (failures[source] ?? 0) + 1;
          if (worked) order.worked(source);
          else order.failed(source);
        }
        const found = order.order();
        const inOrder = found.every((source, at) => {
          const before = found[at - 1];
          if (before === undefined) return true;
          const [a = 0, b = 0] = [failures[before], failures[source]];
          return a < b || (a === b && before < source);
        });
        return inOrder && new Set(found).size === 4;
      }),
    );
  });
});
