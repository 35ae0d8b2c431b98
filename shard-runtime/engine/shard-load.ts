/**
 * Reading a packed shard by native threads (native/load.c): each piece is read once, hashed, and where it belongs to a matrix
 * of ours laid out while it is in the processor's cache. The engine creates its sessions meanwhile, on its own thread, and
 * products find their matrices by name. Nothing may run before `intact` has said that every byte was right.
 */
import { join } from "node:path";
import koffi from "koffi";
import { assert } from "../../core/assert.ts";
import { type PackedFile, piecesOf } from "./hashed-file.ts";
import type { Pointer } from "./ort-api.ts";
import { GROUP_ROWS, type MatrixPlace, type ShardDescription, WEIGHTS_FILE } from "./shard.ts";

export type ShardLoad = {
  /** For {@link usingLoad} on the engine's thread. */
  readonly handle: Pointer;
  /** Whether every file is what the description says. Rejects where there is too little memory. */
  readonly intact: Promise<boolean>;
  /** The memory stays for as long as the engine's sessions use it. */
  end(): void;
};

const OUTCOMES = ["intact", "spoilt", "no memory"] as const;

/** What a piece holds, as in native/load.c. */
const HOLDS = { nothing: 0, values: 1, scales: 2, zeroPoints: 3 } as const;

type Library = {
  readonly load: (...args: unknown[]) => Pointer | null;
  readonly outcome: { async(load: Pointer, done: (error: Error | null, outcome: number) => void): void };
  readonly use: (load: Pointer | null) => void;
  readonly end: (load: Pointer) => void;
};

const libraries = new Map<string, Library>();

/** The library is kept in this thread for good, see keepLibrary of ort-api.ts. */
function libraryAt(path: string): Library {
  const known = libraries.get(path);
  if (known !== undefined) return known;
  const native = koffi.load(path);
  const library: Library = {
    load: native.func("tessellate_load", "void *", [
      "const char **",
      "int64_t",
      "int64_t *",
      "uint8_t *",
      "int64_t",
      "const char **",
      "int64_t *",
      "int64_t",
      "int",
    ]),
    outcome: native.func("tessellate_load_outcome", "int", ["void *"]),
    use: native.func("tessellate_load_use", "void", ["void *"]),
    end: native.func("tessellate_load_end", "void", ["void *"]),
  };
  libraries.set(path, library);
  return library;
}

/** Begins at once. Undefined where the library cannot: the caller then checks and the engine lays out by itself. */
export function startShardLoad(
  path: string,
  directory: string,
  description: ShardDescription,
  { threadCount, laysOut }: { readonly threadCount: number; readonly laysOut: boolean },
): ShardLoad | undefined {
  const library = libraryAt(path);
  const matrices = laysOut ? description.matrices : [];
  const { pieces, digests } = planOf(description.files, matrices);
  const shapes = matrices.flatMap(({ inputCount, outputCount, bits, blockSize, zeroPoints }) => [
    inputCount,
    outputCount,
    bits,
    blockSize,
    zeroPoints === undefined ? 0 : 1,
  ]);
  const handle = library.load(
    description.files.map(({ name }) => join(directory, name)),
    description.files.length,
    BigInt64Array.from(pieces, BigInt),
    digests,
    digests.length / 32,
    matrices.map(({ name }) => name),
    BigInt64Array.from(shapes, BigInt),
    matrices.length,
    threadCount,
  );
  if (handle === null) return undefined;
  const intact = new Promise<boolean>((resolve, reject) => {
    library.outcome.async(handle, (error, outcome) => {
      const said = OUTCOMES[outcome];
      if (error !== null || said === "no memory")
        reject(new Error(`not enough memory to load the packed shard in ${directory}`, { cause: error }));
      else resolve(said === "intact");
    });
  });
  return { handle, intact, end: () => library.end(handle) };
}

/** Products of sessions that `create` makes take their matrices from the load. Called on the engine's thread. */
export function usingLoad<T>(path: string, handle: Pointer, create: () => T): T {
  const library = libraryAt(path);
  library.use(handle);
  try {
    return create();
  } finally {
    library.use(null);
  }
}

/** Six numbers for each piece: file, offset, length, matrix, what it holds of that, and its first group of columns. */
function planOf(files: readonly PackedFile[], matrices: readonly MatrixPlace[]) {
  const sections = new Map<number, { readonly matrix: number; readonly holds: number; readonly groupBytes: number }>();
  for (const [matrix, place] of matrices.entries()) {
    const blockCount = Math.ceil(place.inputCount / place.blockSize);
    const rowBytes = {
      values: (blockCount * place.blockSize * place.bits) / 8,
      scales: blockCount * 4,
      zeroPoints: Math.ceil((blockCount * place.bits) / 8),
    };
    for (const part of ["values", "scales", "zeroPoints"] as const) {
      const offset = place[part];
      if (offset !== undefined)
        sections.set(offset, { matrix, holds: HOLDS[part], groupBytes: GROUP_ROWS * rowBytes[part] });
    }
  }
  const pieces: number[] = [];
  const digests: Buffer[] = [];
  for (const [file, packed] of files.entries())
    for (const { offset, sizeBytes, digest, section } of piecesOf(packed)) {
      const held = packed.name === WEIGHTS_FILE ? sections.get(section) : undefined;
      const group = held === undefined ? 0 : (offset - section) / held.groupBytes;
      assert(held === undefined || Number.isInteger(group), "pieces of a matrix hold whole groups of its outputs");
      pieces.push(file, offset, sizeBytes, held?.matrix ?? 0, held?.holds ?? HOLDS.nothing, group);
      digests.push(Buffer.from(digest, "hex"));
    }
  return { pieces, digests: Buffer.concat(digests) };
}
