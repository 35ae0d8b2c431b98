/**
 * The library of our own operators, compiled for this machine where there is a C compiler. Without one the engine runs
 * ONNX Runtime's own operators: slower, other bits, and so another drift class.
 */
import { execFile } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readFile, rename, rm, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

export type ProductsLibrary =
  | { readonly path: string }
  /** Why there is none, for the log. */
  | { readonly reason: string };

const source = (name: string) => fileURLToPath(new URL(`./${name}`, import.meta.url));
const SOURCES = ["products.c", "attention.c", "crew.c", "order.c", "digest.c", "load.c"].map(source);
const HEADERS = ["operator.h", "crew.h", "products.h", "attention-rows.h", "words.h"].map(source);
/** A fused multiply-add where the source does not say so would change bits. */
const FLAGS = ["-O3", "-ffp-contract=off", "-fno-math-errno", "-shared", "-fPIC", "-pthread"];
const COMPILE_TIMEOUT_MS = 120_000;
const LOOK_EVERY_MS = 100;

const run = promisify(execFile);

/**
 * The library for a rank: compiled once for the machine (in TESSELLATE_NATIVE, or the user's own cache), or in `directory`
 * where there is no room for it. TESSELLATE_PRODUCTS=off does without. Never throws.
 */
export async function machineLibrary(directory: string): Promise<ProductsLibrary> {
  if (process.env["TESSELLATE_PRODUCTS"] === "off") return { reason: "TESSELLATE_PRODUCTS is off" };
  const cache = process.env["TESSELLATE_CACHE"] || join(homedir(), ".cache", "tessellate");
  const shared = await productsLibrary(process.env["TESSELLATE_NATIVE"] || join(cache, "native"));
  return "path" in shared ? shared : productsLibrary(directory);
}

/**
 * Finds the library in `directory`, or compiles it there (some seconds, once for each source). `compiler` is
 * a command, `cc` where absent. Never throws: what goes wrong is the reason.
 */
export async function productsLibrary(directory: string, compiler = "cc"): Promise<ProductsLibrary> {
  if (process.platform === "win32") return { reason: "the products are not built on Windows yet" };
  try {
    const texts = await Promise.all([...SOURCES, ...HEADERS].map((path) => readFile(path)));
    const identity = [...texts, FLAGS.join(" "), process.platform, process.arch];
    const digest = identity.reduce((hash, part) => hash.update(part).update("\0"), createHash("sha256")).digest("hex");
    const path = join(directory, `products-${digest.slice(0, 16)}.so`);
    await compileOnce(compiler, directory, path);
    return { path };
  } catch (cause) {
    const words = cause instanceof Error ? cause.message : String(cause);
    return { reason: `${compiler} could not build the products: ${words.slice(0, 500)}` };
  }
}

/** The ranks of a node start together: one compiles, the others wait for it, or take over where it ended without. */
async function compileOnce(compiler: string, directory: string, path: string): Promise<void> {
  await mkdir(directory, { recursive: true });
  const lock = `${path}.lock`;
  while (!existsSync(path)) {
    if (await taken(lock)) {
      await sleep(LOOK_EVERY_MS);
      continue;
    }
    try {
      await compile(compiler, path);
    } finally {
      await rm(lock, { recursive: true, force: true });
    }
  }
}

/** Whether another process has the lock; if not, this one has it now. One that is too old was left by a process that died. */
async function taken(lock: string): Promise<boolean> {
  try {
    await mkdir(lock);
    return false;
  } catch (cause) {
    if (!(cause instanceof Error && "code" in cause && cause.code === "EEXIST")) throw cause;
    const held = await stat(lock).catch(() => undefined);
    const isLeft = held !== undefined && Date.now() - held.mtimeMs > COMPILE_TIMEOUT_MS;
    if (isLeft) await rm(lock, { recursive: true, force: true });
    return true;
  }
}

async function compile(compiler: string, path: string): Promise<void> {
  // Whoever looks meanwhile must not find half a library.
  const partial = `${path}.${process.pid}-${randomBytes(4).toString("hex")}.partial`;
  try {
    await run(compiler, [...FLAGS, "-o", partial, ...SOURCES, "-lm", "-ldl"], { timeout: COMPILE_TIMEOUT_MS });
    await rename(partial, path);
  } finally {
    await rm(partial, { force: true });
  }
}
