import { expect } from "chai";
import fc from "fast-check";
import type { Clock } from "../../core/clock.ts";
import { CHUNK_BYTES, type ManifestFile, chunkHash } from "../../core/manifest.ts";
import type { Range } from "../../core/ranges.ts";
import { RefusalError, refuse } from "../../core/result.ts";
import { askingOrder } from "./asking-order.ts";
import { hurriedClock } from "./checkpoint-builder.ts";
import { type FellowDoor, Fellows } from "./fellows.ts";
import { Intake } from "./intake.ts";
import { Nearby } from "./nearby.ts";
import { type Piece, chunkPiece, pieceRange } from "./piece.ts";
import { SourceList } from "./source-list.ts";

const BODY = new Uint8Array(19 * CHUNK_BYTES + 5).map((_, at) => ((at * 31) >> 3) ^ (at >> 20));
const chunkOf = (index: number) => BODY.subarray(index * CHUNK_BYTES, (index + 1) * CHUNK_BYTES);
const FILE: ManifestFile = {
  path: "w.safetensors",
  sizeBytes: BODY.length,
  chunks: new Uint8Array(Buffer.concat(Array.from({ length: 20 }, (_, index) => chunkHash(chunkOf(index))))),
};
const PIECES = Array.from({ length: 20 }, (_, chunk) => chunkPiece(FILE, chunk));
const bytesOf = (piece: Piece) => BODY.slice(pieceRange(piece).start, pieceRange(piece).end);
const pieceAt = (leaves: Range) => PIECES.find((piece) => piece.leaves.start === leaves.start) ?? PIECES[0];

type Ask = { readonly name: string; readonly count: number; readonly fetch: boolean };
type Behaviour = (leaves: Range) => Uint8Array | undefined;

const right: Behaviour = (leaves) => {
  const piece = pieceAt(leaves);
  return piece && bytesOf(piece);
};

function aFellow(name: string, asks: Ask[], give: Behaviour): FellowDoor {
  return {
    name,
    isThere: async () => true,
    ask: async (_, pieces, fetch) => {
      asks.push({ name, count: pieces.length, fetch });
      return pieces.flatMap((leaves, index) => {
        const bytes = give(leaves);
        return bytes === undefined ? [] : [{ index, bytes }];
      });
    },
  };
}

function fellowsOf(doors: readonly FellowDoor[], troubles: string[] = [], clock: Clock = hurriedClock()) {
  return new Fellows({
    own: "me",
    doors,
    clock,
    onTrouble: (event, fields) => troubles.push(`${event} ${JSON.stringify(fields)}`),
  });
}

describe("ranks that have pieces", () => {
  it("are asked for what is missing, one after the other, and each piece is checked", async () => {
    const asks: Ask[] = [];
    const half: Behaviour = (leaves) => (leaves.start === 0 ? right(leaves) : undefined);
    const fellows = fellowsOf([aFellow("a", asks, half), aFellow("c", asks, right)]);
    const came = await fellows.take(PIECES, "w 0");
    expect(new Set(came.map(({ piece }) => piece))).to.deep.equal(new Set(PIECES));
    for (const { piece, bytes } of came) expect(Buffer.compare(bytes, bytesOf(piece))).to.equal(0);
    expect(fellows.byteCount).to.equal(BODY.length);
    expect(asks[0]?.count).to.equal(20);
    const { before } = askingOrder("me", ["a", "c"], "w 0");
    for (const { name, fetch } of asks) expect(fetch).to.equal(before.includes(name));
  });

  it("are left alone for good after one piece of garbage, and reported", async () => {
    const asks: Ask[] = [];
    const troubles: string[] = [];
    const garbage: Behaviour = (leaves) => right(leaves)?.map((byte) => byte ^ 1);
    const fellows = fellowsOf([aFellow("mal", asks, garbage)], troubles);
    for (const stretch of ["w 0", "w 1", "w 2"]) expect(await fellows.take(PIECES, stretch)).to.deep.equal([]);
    expect(asks).to.have.length(1);
    expect(fellows.garbageCount).to.equal(1);
    expect(troubles).to.have.length(1);
    expect(troubles[0]).to.include("fellow-garbage").and.include("mal").and.include("chunk 0");
  });

  it("rest after they did not answer", async () => {
    const asks: Ask[] = [];
    const troubles: string[] = [];
    const away = { name: "a", isThere: async () => true, ask: () => Promise.reject(new Error("away")) };
    const fellows = fellowsOf([away, aFellow("b", asks, right)], troubles);
    for (const stretch of ["w 0", "w 1", "w 2"]) expect(await fellows.take(PIECES, stretch)).to.have.length(20);
    expect(troubles).to.have.length.at.most(1);
  });

  it("are asked again soon where they still open the model, and nothing is said of it", async () => {
    let nowMs = 0;
    const clock: Clock = { monotonicMs: () => nowMs, sleep: () => Promise.reject(new Error("nobody sleeps here")) };
    const asks: Ask[] = [];
    const troubles: string[] = [];
    const door = aFellow("a", asks, right);
    let refusals = 5;
    const starting: FellowDoor = {
      ...door,
      ask: (...asked) =>
        refusals-- > 0 ? Promise.reject(new RefusalError(refuse("NotServing", "opens its model"))) : door.ask(...asked),
    };
    const fellows = fellowsOf([starting], troubles, clock);
    for (let turn = 0; turn < 5; turn += 1, nowMs += 50) expect(await fellows.take(PIECES, "w 0")).to.deep.equal([]);
    expect(await fellows.take(PIECES, "w 0")).to.have.length(20);
    expect([refusals, asks.length, troubles]).to.deep.equal([-1, 1, []]);
  });

  it("agree on who fetches what: everybody's order is one and the same, and work is spread", () => {
    const names = fc.uniqueArray(fc.stringMatching(/^[a-z]{1,6}$/), { minLength: 2, maxLength: 8 });
    fc.assert(
      fc.property(names, fc.nat(1000), (all, stretch) => {
        const orders = all.map((own) => {
          const { before, after } = askingOrder(
            own,
            all.filter((name) => name !== own),
            `w ${stretch}`,
          );
          return [...before, own, ...after].join();
        });
        return new Set(orders).size === 1;
      }),
    );
    const first = Array.from(
      { length: 300 },
      (_, stretch) => askingOrder("a", ["b", "c"], `w ${stretch}`).before.length,
    );
    expect(first.filter((count) => count === 0).length).to.be.within(70, 130);
  });

  it("that want the same at the same moment fetch it once and never wait for each other for ever", async () => {
    const { ranks, sourceBytes } = house(["me", "you", "they"]);
    const reads = await Promise.all(ranks.map(({ intake }) => read(intake, PIECES)));
    for (const bytes of reads) expect(bytes.equals(BODY)).to.equal(true);
    expect(sourceBytes()).to.equal(BODY.length);
  });

  it("come to an end in whatever order they read", async () => {
    const start = fc.nat(PIECES.length - 1);
    const orders = fc.array(fc.array(start, { minLength: 1, maxLength: 3 }), { minLength: 2, maxLength: 3 });
    await fc.assert(
      fc.asyncProperty(orders, async (all) => {
        const { ranks, sourceBytes } = house(all.map((_, index) => `rank-${index}`));
        await Promise.all(
          ranks.map(async ({ intake }, index) => {
            for (const first of all[index] ?? []) {
              const pieces = PIECES.slice(first, first + 10); // more than a stretch, cut anywhere
              const wanted = BODY.subarray(first * CHUNK_BYTES, (first + pieces.length) * CHUNK_BYTES);
              if (!(await read(intake, pieces)).equals(wanted)) throw new Error("wrong bytes");
            }
          }),
        );
        return sourceBytes() <= BODY.length;
      }),
      { numRuns: 6 },
    );
  }).timeout(60_000);
});

/** Ranks that reach each other, each with a cache, and one source that counts. */
function house(names: readonly string[]) {
  let bytesAsked = 0;
  const source = {
    where: (path: string) => path,
    async *stream(_: string, range: Range) {
      for (let at = range.start; at < range.end; at += 400_000) {
        await Promise.resolve();
        bytesAsked += Math.min(400_000, range.end - at);
        yield BODY.slice(at, Math.min(at + 400_000, range.end));
      }
    },
    readSmall: () => Promise.reject(new Error("not asked for")),
  };
  const ranks = new Map<string, { readonly intake: Intake; readonly nearby: Nearby }>();
  const doorTo = (name: string): FellowDoor => ({
    name,
    isThere: async () => ranks.has(name),
    ask: async (_, pieces, fetch) => {
      const { nearby, intake } = ranks.get(name) ?? expect.fail(`${name} is there`);
      const given = [];
      for (const [index, leaves] of pieces.entries()) {
        const piece = pieceAt(leaves) ?? expect.fail("a piece");
        const bytes = await nearby.give(piece, fetch ? (each, fetching) => intake.pull(each, fetching) : undefined);
        if (bytes !== undefined) given.push({ index, bytes });
      }
      return given;
    },
  });
  for (const own of names) {
    const doors = names.filter((name) => name !== own).map(doorTo);
    const fellows = new Fellows({ own, doors, clock: hurriedClock(), onTrouble: () => {} });
    const nearby = new Nearby({ cache: memoryCache(new Map()), fellows });
    ranks.set(own, { nearby, intake: new Intake(new SourceList([source]), { near: nearby }) });
  }
  return { ranks: [...ranks.values()], sourceBytes: () => bytesAsked };
}

async function read(intake: Intake, pieces: readonly Piece[]): Promise<Buffer> {
  const parts = new Map<Piece, Uint8Array>();
  for await (const { piece, bytes } of intake.fetch(pieces)) parts.set(piece, bytes.slice());
  return Buffer.concat(pieces.map((piece) => parts.get(piece) ?? new Uint8Array()));
}

/** A cache like the one on disk. */
const memoryCache = (held: Map<string, Uint8Array>) => {
  const key = ({ chunk, leaves }: Piece) => `${chunk} ${leaves.start} ${leaves.end}`;
  return {
    keeps: true,
    get: async (piece: Piece) => held.get(key(piece)),
    put: async (piece: Piece, bytes: Uint8Array) => void held.set(key(piece), bytes.slice()),
    drop: async (piece: Piece) => void held.delete(key(piece)),
  };
};
