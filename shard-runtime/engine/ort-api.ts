/**
 * The table of functions of a loaded libonnxruntime, called through koffi. Functions are found by their position in the
 * OrtApi table, which only ever grows at its end (the public header onnxruntime_c_api.h is the source of the positions
 * and signatures below). Any library can be loaded by path, such as a build with CUDA; without one the environment's
 * TESSELLATE_ENGINE_LIBRARY is taken, and without that the library inside the npm package.
 */
import { existsSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import koffi, { type LibraryHandle } from "koffi";
import { present } from "../../core/assert.ts";
import { RefusalError, refuse } from "../../core/result.ts";

/** A native address. Never dereferenced in here. */
export type Pointer = bigint;
export type Native = (...args: unknown[]) => unknown;

/** The version of the OrtApi table asked for; any library from this minor version on has it. */
const API_VERSION = 20;
/** Older ones lack 8-bit MatMulNBits on the CPU. */
const MINOR_VERSION_MIN = 22;

const POINTER = "void *";
const OUT_POINTER = "_Out_ void **";
const OUT_TEXT = "_Out_ const char **";
const OUT_COUNT = "_Out_ size_t *";
const TEXTS = "const char **";

/**
 * Position in the OrtApi table, result, arguments, and the minor version that brought it where that is above the least
 * one. A result of POINTER is an OrtStatus, null where all went well.
 */
const FUNCTIONS = {
  GetErrorMessage: [2, "str", [POINTER]],
  DisableTelemetryEvents: [6, POINTER, [POINTER]],
  CreateSession: [7, POINTER, [POINTER, process.platform === "win32" ? "str16" : "str", POINTER, OUT_POINTER]],
  CreateSessionFromArray: [8, POINTER, [POINTER, POINTER, "size_t", POINTER, OUT_POINTER]],
  CreateSessionOptions: [10, POINTER, [OUT_POINTER]],
  RegisterCustomOpsLibrary: [29, POINTER, [POINTER, "str", OUT_POINTER]],
  CreateTensorWithDataAsOrtValue: [
    49,
    POINTER,
    [POINTER, POINTER, "size_t", "int64_t *", "size_t", "int", OUT_POINTER],
  ],
  CreateMemoryInfo: [68, POINTER, ["str", "int", "int", "int", OUT_POINTER]],
  CreateCpuMemoryInfo: [69, POINTER, ["int", "int", OUT_POINTER]],
  AllocatorAlloc: [75, POINTER, [POINTER, "size_t", OUT_POINTER]],
  AllocatorFree: [76, POINTER, [POINTER, POINTER]],
  ReleaseEnv: [92, "void", [POINTER]],
  ReleaseStatus: [93, "void", [POINTER]],
  ReleaseMemoryInfo: [94, "void", [POINTER]],
  ReleaseSession: [95, "void", [POINTER]],
  ReleaseValue: [96, "void", [POINTER]],
  ReleaseSessionOptions: [100, "void", [POINTER]],
  CreateEnvWithGlobalThreadPools: [119, POINTER, ["int", "str", POINTER, OUT_POINTER]],
  DisablePerSessionThreads: [120, POINTER, [POINTER]],
  CreateThreadingOptions: [121, POINTER, [OUT_POINTER]],
  ReleaseThreadingOptions: [122, "void", [POINTER]],
  GetAvailableProviders: [125, POINTER, [OUT_POINTER, "_Out_ int *"]],
  ReleaseAvailableProviders: [126, POINTER, [POINTER, "int"]],
  AddSessionConfigEntry: [130, POINTER, [POINTER, "str", "str"]],
  CreateAllocator: [131, POINTER, [POINTER, POINTER, OUT_POINTER]],
  ReleaseAllocator: [132, "void", [POINTER]],
  RunWithBinding: [133, POINTER, [POINTER, POINTER, POINTER]],
  CreateIoBinding: [134, POINTER, [POINTER, OUT_POINTER]],
  ReleaseIoBinding: [135, "void", [POINTER]],
  BindInput: [136, POINTER, [POINTER, "str", POINTER]],
  BindOutput: [137, POINTER, [POINTER, "str", POINTER]],
  CreateAndRegisterAllocator: [144, POINTER, [POINTER, POINTER, POINTER]],
  SetGlobalIntraOpNumThreads: [147, POINTER, [POINTER, "int"]],
  SetGlobalSpinControl: [149, POINTER, [POINTER, "int"]],
  CreateArenaCfg: [156, POINTER, ["size_t", "int", "int", "int", OUT_POINTER]],
  ReleaseArenaCfg: [157, "void", [POINTER]],
  SessionOptionsAppendCuda: [204, POINTER, [POINTER, POINTER]],
  CreateCudaProviderOptions: [205, POINTER, [OUT_POINTER]],
  UpdateCudaProviderOptions: [206, POINTER, [POINTER, TEXTS, TEXTS, "size_t"]],
  ReleaseCudaProviderOptions: [208, "void", [POINTER]],
  SessionOptionsAppendExecutionProvider: [216, POINTER, [POINTER, "str", TEXTS, TEXTS, "size_t"]],
  GetBuildInfoString: [254, "str", []],
  SessionGetAssignments: [407, POINTER, [POINTER, OUT_POINTER, OUT_COUNT], 24],
  AssignmentGetProvider: [408, POINTER, [POINTER, OUT_TEXT], 24],
  AssignmentGetNodes: [409, POINTER, [POINTER, OUT_POINTER, OUT_COUNT], 24],
  NodeGetOperator: [412, POINTER, [POINTER, OUT_TEXT], 24],
} as const satisfies Record<string, readonly [number, string, readonly string[], number?]>;

export type FunctionName = keyof typeof FUNCTIONS;

/** The OrtApi table of a loaded library. */
export class Api {
  readonly path: string;
  readonly version: string;
  readonly #functions = new Map<FunctionName, Native>();

  constructor(path: string) {
    const library = loadLibrary(path);
    const base: unknown = library.func("OrtGetApiBase", POINTER, [])();
    const [getApi, getVersion]: unknown[] = koffi.decode(base, koffi.array(POINTER, 2));
    this.path = path;
    this.version = String(koffi.call(getVersion, koffi.proto("str", [])));
    const [major, minor = 0] = this.version.split(".").map(Number);
    if (major !== 1 || minor < MINOR_VERSION_MIN)
      throw new RefusalError(
        refuse(
          "EngineUnavailable",
          `${path} is ONNX Runtime ${this.version}; version 1.${MINOR_VERSION_MIN} or later is needed`,
        ),
      );
    const names = (Object.keys(FUNCTIONS) as FunctionName[]).filter((name) => (FUNCTIONS[name][3] ?? 0) <= minor);
    const table: unknown = koffi.call(getApi, koffi.proto(POINTER, ["uint32_t"]), API_VERSION);
    const tableLength = 1 + Math.max(...names.map((name) => FUNCTIONS[name][0]));
    const addresses: unknown[] = koffi.decode(table, koffi.array(POINTER, tableLength));
    for (const name of names) {
      const [position, result, args] = FUNCTIONS[name];
      this.#functions.set(name, koffi.decode(addresses[position], koffi.proto(result, [...args])));
    }
  }

  /** Whether the library is new enough to have the function. */
  has(name: FunctionName): boolean {
    return this.#functions.has(name);
  }

  /** The function itself, for those that return no status. */
  raw(name: FunctionName): Native {
    return present(this.#functions.get(name), "every function of the table was decoded");
  }

  /** Calls a function that returns a status; a failure becomes an Error with the engine's own words. */
  check(name: FunctionName, ...args: readonly unknown[]): void {
    const status = this.raw(name)(...args);
    if (status === null || status === 0n) return;
    const message = String(this.raw("GetErrorMessage")(status));
    this.raw("ReleaseStatus")(status);
    throw new Error(`ONNX Runtime ${name}: ${message}`);
  }

  /** Calls a function whose last argument receives a pointer, and returns that. */
  make(name: FunctionName, ...args: readonly unknown[]): Pointer {
    const out: [Pointer | null] = [null];
    this.check(name, ...args, out);
    return present(out[0], `${name} fills its result`);
  }

  /** Calls a function whose last argument receives a string that the library keeps. */
  text(name: FunctionName, ...args: readonly unknown[]): string {
    const out: [string | null] = [null];
    this.check(name, ...args, out);
    return present(out[0], `${name} fills its result`);
  }

  /** Calls a function whose last two arguments receive an array of pointers that the library keeps. */
  list(name: FunctionName, ...args: readonly unknown[]): readonly Pointer[] {
    const items: [unknown] = [null];
    const count: [number] = [0];
    this.check(name, ...args, items, count);
    return count[0] === 0 ? [] : koffi.decode(items[0], koffi.array(POINTER, Number(count[0])));
  }
}

const loaded = new Map<string, Api>();

export function apiOf(path: string = defaultLibrary()): Api {
  const known = loaded.get(path);
  if (known !== undefined) return known;
  const api = new Api(path);
  loaded.set(path, api);
  return api;
}

function loadLibrary(path: string): LibraryHandle {
  try {
    return loadSilently(path);
  } catch (cause) {
    const detail = `cannot load ONNX Runtime from ${path}: ${String(cause)}; check the path, and that its platform is ${process.platform}/${process.arch}`;
    throw new RefusalError(refuse("EngineUnavailable", detail));
  }
}

/**
 * ONNX Runtime of 1.29 and later, outside of Windows, tells its maker over the network what is run on which machine, and
 * keeps an id and a database in the home directory, unless this stands in the environment before it starts (its
 * docs/Privacy.md). Providers have agreed to no such thing. Only the main thread's `process.env` is the process's own, so
 * it has to be the first to load the library: {@link keepLibrary}. Who has set the variable has decided otherwise.
 */
function loadSilently(path: string): LibraryHandle {
  process.env["ORT_DISABLE_TELEMETRY"] ??= "1";
  return koffi.load(path);
}

const kept = new Map<string, LibraryHandle>();

/**
 * Keeps the library in the process for good. A thread that ends lets go of its own handle; if that was the last one the
 * library would be unloaded under its process-wide state, and the next one to load it would crash. Whoever starts threads
 * calls this first; a path that cannot be loaded is for the thread to refuse.
 */
export function keepLibrary(given?: string): void {
  try {
    const path = given ?? defaultLibrary();
    if (!kept.has(path)) kept.set(path, loadSilently(path));
  } catch {
    // The thread meets the same failure and names it.
  }
}

const defaultLibrary = (): string => process.env["TESSELLATE_ENGINE_LIBRARY"] || packagedLibrary();

/** The library inside the npm package; refuses where the package has none for this platform. */
function packagedLibrary(): string {
  const folder = join(
    dirname(createRequire(import.meta.url).resolve("onnxruntime-node/package.json")),
    "bin/napi-v6",
    process.platform,
    process.arch,
  );
  const file = existsSync(folder)
    ? readdirSync(folder).find((name) => /^(lib)?onnxruntime\.(so\.1|dll|[\d.]*dylib)$/.test(name))
    : undefined;
  if (file === undefined)
    throw new RefusalError(
      refuse(
        "EngineUnavailable",
        `the package onnxruntime-node has no library for ${process.platform}/${process.arch}; give the path of one`,
      ),
    );
  return join(folder, file);
}
