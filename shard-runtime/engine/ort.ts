/**
 * ONNX Runtime's C API, called directly: the one door to the native engine. Its JavaScript API copies every output, so
 * each token would pay for the whole KV cache; here tensors are views of our own memory, bound once, and a step is one
 * call. Functions are found by their position in the OrtApi table, which only ever grows at its end (the public header
 * onnxruntime_c_api.h is the source of the positions and signatures below).
 *
 * Calls are synchronous and block; engine-thread.ts keeps them off the event loop. Everything native is released by
 * `close`, and every buffer that native code may touch is referenced from here for as long.
 */
import { existsSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import koffi, { type LibraryHandle } from "koffi";
import { assert, present } from "../../core/assert.ts";
import { RefusalError, refuse } from "../../core/result.ts";

/** A native address. Never dereferenced in here. */
type Pointer = bigint;
type Native = (...args: unknown[]) => unknown;

/** The version of the OrtApi table asked for; any library from this minor version on has it. */
const API_VERSION = 20;
/** Older ones lack 8-bit MatMulNBits on the CPU. */
const MINOR_VERSION_MIN = 22;
/** Errors come back as statuses; the log would only say them twice. */
const LOG_FATAL_ONLY = 4;
const ARENA_ALLOCATOR = 1;
const DEFAULT_MEMORY = 0;

const UNLIMITED = 0;
const EXTEND_AS_REQUESTED = 1;
const DEFAULT = -1;

/** Working space comes from the arena that all sessions share, weights do not: they stay, and would split it up. */
const SESSION_SETTINGS = [
  ["session.use_env_allocators", "1"],
  ["session.use_device_allocator_for_initializers", "1"],
] as const;

const POINTER = "void *";
const OUT_POINTER = "_Out_ void **";

/** Position in the OrtApi table, result, arguments. A result of POINTER is an OrtStatus, null where all went well. */
const FUNCTIONS = {
  GetErrorMessage: [2, "str", [POINTER]],
  CreateSession: [7, POINTER, [POINTER, process.platform === "win32" ? "str16" : "str", POINTER, OUT_POINTER]],
  CreateSessionOptions: [10, POINTER, [OUT_POINTER]],
  CreateTensorWithDataAsOrtValue: [
    49,
    POINTER,
    [POINTER, POINTER, "size_t", "int64_t *", "size_t", "int", OUT_POINTER],
  ],
  CreateCpuMemoryInfo: [69, POINTER, ["int", "int", OUT_POINTER]],
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
  CreateArenaCfg: [156, POINTER, ["size_t", "int", "int", "int", OUT_POINTER]],
  ReleaseArenaCfg: [157, "void", [POINTER]],
  CreateAndRegisterAllocator: [144, POINTER, [POINTER, POINTER, POINTER]],
  AddSessionConfigEntry: [130, POINTER, [POINTER, "str", "str"]],
  RunWithBinding: [133, POINTER, [POINTER, POINTER, POINTER]],
  CreateIoBinding: [134, POINTER, [POINTER, OUT_POINTER]],
  ReleaseIoBinding: [135, "void", [POINTER]],
  BindInput: [136, POINTER, [POINTER, "str", POINTER]],
  BindOutput: [137, POINTER, [POINTER, "str", POINTER]],
  SetGlobalIntraOpNumThreads: [147, POINTER, [POINTER, "int"]],
  SetGlobalSpinControl: [149, POINTER, [POINTER, "int"]],
  GetBuildInfoString: [254, "str", []],
} as const satisfies Record<string, readonly [number, string, readonly string[]]>;

type FunctionName = keyof typeof FUNCTIONS;

/** ONNX's TensorProto.DataType of the arrays we bind. */
const elementType = (array: TensorArray): number => (array instanceof Float32Array ? 1 : 6);
export type TensorArray = Float32Array | Int32Array;

export type OrtOptions = {
  readonly threadCount: number; // of the one pool that all sessions of the process share; the first caller decides
  readonly spin: boolean; // waiting threads spin: faster, and harmful where cores are shared
  readonly libraryPath?: string; // the npm package's library where absent
};

/** The OrtApi table of a loaded library. */
class Api {
  readonly version: string;
  readonly #functions = new Map<FunctionName, Native>();

  constructor(path: string) {
    const library = loadLibrary(path);
    const base: unknown = library.func("OrtGetApiBase", POINTER, [])();
    const [getApi, getVersion]: unknown[] = koffi.decode(base, koffi.array(POINTER, 2));
    this.version = String(koffi.call(getVersion, koffi.proto("str", [])));
    const [major, minor] = this.version.split(".").map(Number);
    if (major !== 1 || (minor ?? 0) < MINOR_VERSION_MIN)
      throw new RefusalError(
        refuse(
          "EngineUnavailable",
          `${path} is ONNX Runtime ${this.version}; version 1.${MINOR_VERSION_MIN} or later is needed`,
        ),
      );
    const table: unknown = koffi.call(getApi, koffi.proto(POINTER, ["uint32_t"]), API_VERSION);
    const tableLength = 1 + Math.max(...Object.values(FUNCTIONS).map(([position]) => position));
    const addresses: unknown[] = koffi.decode(table, koffi.array(POINTER, tableLength));
    for (const name of Object.keys(FUNCTIONS) as FunctionName[]) {
      const [position, result, args] = FUNCTIONS[name];
      this.#functions.set(name, koffi.decode(addresses[position], koffi.proto(result, [...args])));
    }
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
}

const loaded = new Map<string, Api>();

function apiOf(path: string): Api {
  const known = loaded.get(path);
  if (known !== undefined) return known;
  const api = new Api(path);
  loaded.set(path, api);
  return api;
}

function loadLibrary(path: string): LibraryHandle {
  try {
    return koffi.load(path);
  } catch (cause) {
    const detail = `cannot load ONNX Runtime from ${path}: ${String(cause)}; check the path, and that its platform is ${process.platform}/${process.arch}`;
    throw new RefusalError(refuse("EngineUnavailable", detail));
  }
}

const kept = new Map<string, LibraryHandle>();

/**
 * Keeps the library in the process for good. A thread that ends lets go of its own handle; if that was the last one the
 * library would be unloaded under its process-wide state, and the next one to load it would crash. Whoever starts threads
 * calls this first; a path that cannot be loaded is for the thread to refuse.
 */
export function keepLibrary(path: string = packagedLibrary()): void {
  if (kept.has(path)) return;
  try {
    kept.set(path, koffi.load(path));
  } catch {
    // The thread meets the same failure and names it.
  }
}

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

/** One use of the native engine: its sessions, tensors and bindings live and end with it. */
export class Ort {
  readonly #api: Api;
  readonly #environment: Pointer;
  readonly #memory: Pointer;
  readonly #releases: (() => void)[] = [];
  readonly version: string;
  readonly buildInfo: string;
  /** Execution providers that this library was built with, such as CPUExecutionProvider. */
  readonly providers: readonly string[];

  constructor(options: OrtOptions) {
    const api = apiOf(options.libraryPath ?? packagedLibrary());
    this.#api = api;
    this.version = api.version;
    this.buildInfo = String(api.raw("GetBuildInfoString")());
    const threading = api.make("CreateThreadingOptions");
    api.check("SetGlobalIntraOpNumThreads", threading, options.threadCount);
    api.check("SetGlobalSpinControl", threading, options.spin ? 1 : 0);
    this.#environment = api.make("CreateEnvWithGlobalThreadPools", LOG_FATAL_ONLY, "tessellate", threading);
    api.raw("ReleaseThreadingOptions")(threading);
    this.#memory = api.make("CreateCpuMemoryInfo", ARENA_ALLOCATOR, DEFAULT_MEMORY);
    this.#shareArena();
    this.providers = this.#listProviders();
  }

  /** One arena for all sessions: dozens of graphs run one after the other, and each would keep its own working space. */
  #shareArena(): void {
    const config = this.#api.make("CreateArenaCfg", UNLIMITED, EXTEND_AS_REQUESTED, DEFAULT, DEFAULT);
    try {
      this.#api.check("CreateAndRegisterAllocator", this.#environment, this.#memory, config);
    } catch (cause) {
      // The environment is the process's; another engine in it may have registered the arena before.
      if (!String(cause).includes("already")) throw cause;
    } finally {
      this.#api.raw("ReleaseArenaCfg")(config);
    }
  }

  #listProviders(): readonly string[] {
    const names: [unknown] = [null];
    const count: [number] = [0];
    this.#api.check("GetAvailableProviders", names, count);
    const listed: string[] = koffi.decode(names[0], koffi.array("str", count[0]));
    this.#api.check("ReleaseAvailableProviders", names[0], count[0]);
    return listed;
  }

  /** Loads a graph; external data is found beside it. Throws an Error that names the file. */
  session(path: string): OrtSession {
    const options = this.#api.make("CreateSessionOptions");
    try {
      this.#api.check("DisablePerSessionThreads", options);
      for (const [key, value] of SESSION_SETTINGS) this.#api.check("AddSessionConfigEntry", options, key, value);
      const session = this.#api.make("CreateSession", this.#environment, path, options);
      this.#releases.push(() => this.#api.raw("ReleaseSession")(session));
      return new OrtSession(this.#api, session);
    } catch (cause) {
      throw new Error(`${path} cannot be loaded: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
    } finally {
      this.#api.raw("ReleaseSessionOptions")(options);
    }
  }

  /**
   * A tensor over `array` itself: native code reads and writes it in place. Its memory must be outside the JavaScript
   * heap, which `floats` and `integers` see to.
   */
  tensor(array: TensorArray, dims: readonly number[]): OrtTensor {
    assert(dims.reduce((a, b) => a * b, 1) === array.length, "a tensor has as many values as its dimensions say");
    const shape = BigInt64Array.from(dims, BigInt);
    const args = [this.#memory, array, array.byteLength, shape, dims.length, elementType(array)];
    return new OrtTensor(this.#api, this.#api.make("CreateTensorWithDataAsOrtValue", ...args), array);
  }

  /** Releases sessions and environment. Tensors and bindings must be closed before. */
  close(): void {
    for (const release of this.#releases.splice(0).reverse()) release();
    this.#api.raw("ReleaseMemoryInfo")(this.#memory);
    this.#api.raw("ReleaseEnv")(this.#environment);
  }
}

export class OrtTensor {
  readonly array: TensorArray;
  readonly value: Pointer;
  readonly #api: Api;

  constructor(api: Api, value: Pointer, array: TensorArray) {
    this.#api = api;
    this.value = value;
    this.array = array;
  }

  close(): void {
    this.#api.raw("ReleaseValue")(this.value);
  }
}

export type Bound = Readonly<Record<string, OrtTensor>>;

export class OrtSession {
  readonly #api: Api;
  readonly #session: Pointer;

  constructor(api: Api, session: Pointer) {
    this.#api = api;
    this.#session = session;
  }

  /** Ties every input and output of the graph to a tensor, once for many runs. */
  bind(inputs: Bound, outputs: Bound): OrtBinding {
    const binding = this.#api.make("CreateIoBinding", this.#session);
    for (const [name, tensor] of Object.entries(inputs)) this.#api.check("BindInput", binding, name, tensor.value);
    for (const [name, tensor] of Object.entries(outputs)) this.#api.check("BindOutput", binding, name, tensor.value);
    return new OrtBinding(this.#api, this.#session, binding, [...Object.values(inputs), ...Object.values(outputs)]);
  }
}

export class OrtBinding {
  readonly #api: Api;
  readonly #session: Pointer;
  readonly #binding: Pointer;
  readonly #run: Native;
  readonly tensors: readonly OrtTensor[]; // referenced for as long as native code may touch them

  constructor(api: Api, session: Pointer, binding: Pointer, tensors: readonly OrtTensor[]) {
    this.#api = api;
    this.#session = session;
    this.#binding = binding;
    this.#run = api.raw("RunWithBinding");
    this.tensors = tensors;
  }

  /** Runs the graph to its end on the calling thread and the shared pool. */
  run(): void {
    const status = this.#run(this.#session, null, this.#binding);
    if (status !== null && status !== 0n) this.#failed(status);
  }

  #failed(status: unknown): never {
    const message = String(this.#api.raw("GetErrorMessage")(status));
    this.#api.raw("ReleaseStatus")(status);
    throw new Error(`ONNX Runtime could not run a graph: ${message}`);
  }

  close(): void {
    this.#api.raw("ReleaseIoBinding")(this.#binding);
  }
}

/** Zeroed values outside the JavaScript heap: the collector moves small arrays, native code keeps the address. */
export const floats = (count: number): Float32Array<ArrayBuffer> => new Float32Array(new ArrayBuffer(count * 4));
export const integers = (count: number): Int32Array<ArrayBuffer> => new Int32Array(new ArrayBuffer(count * 4));
