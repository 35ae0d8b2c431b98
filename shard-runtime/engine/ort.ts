/**
 * ONNX Runtime's C API, called directly: the one door to the native engine. Its JavaScript API copies every output, so
 * each token would pay for the whole KV cache; here tensors are views of our own memory or of a device's, bound once,
 * and a step is one call.
 *
 * Calls are synchronous and block; engine-thread.ts keeps them off the event loop. Everything native is released by
 * `close`, and every buffer that native code may touch is referenced from here for as long.
 */
import koffi from "koffi";
import { assert } from "../../core/assert.ts";
import { type Api, type Native, type Pointer, apiOf } from "./ort-api.ts";

export { keepLibrary } from "./ort-api.ts";

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

/** ONNX's TensorProto.DataType of what tensors hold. */
export const ELEMENT_TYPES = { f32: 1, uint8: 2, int8: 3, int32: 6, int64: 7, f16: 10 } as const;
export type ElementType = keyof typeof ELEMENT_TYPES;
export const ELEMENT_BYTES = { f32: 4, uint8: 1, int8: 1, int32: 4, int64: 8, f16: 2 } as const;

export type TensorArray = Float32Array | Int32Array | BigInt64Array | Uint16Array | Int8Array | Uint8Array;

/** Halves lie in Uint16Array: their bits. */
export function elementTypeOf(array: TensorArray): ElementType {
  if (array instanceof Float32Array) return "f32";
  if (array instanceof Int32Array) return "int32";
  if (array instanceof BigInt64Array) return "int64";
  if (array instanceof Uint16Array) return "f16";
  return array instanceof Int8Array ? "int8" : "uint8";
}

export type OrtOptions = {
  readonly threadCount: number; // of the one pool that all sessions of the process share; the first caller decides
  readonly spin: boolean; // waiting threads spin: faster, and harmful where cores are shared
  readonly libraryPath?: string; // the npm package's library where absent
  readonly products?: string | undefined; // native/products.ts's library: takes MatMulNBits over on the CPU
};

/** Where a session's nodes go before the CPU: adds the provider to the session's options, or throws. */
export type Provider = (api: Api, sessionOptions: Pointer) => void;

/** One use of the native engine: its sessions, tensors and bindings live and end with it. */
export class Ort {
  readonly api: Api;
  readonly #environment: Pointer;
  readonly #memory: Pointer;
  readonly #releases: (() => void)[] = [];
  readonly #products: string | undefined;
  readonly version: string;
  readonly buildInfo: string;
  /** Execution providers that this library was built with, such as CPUExecutionProvider. */
  readonly providers: readonly string[];

  constructor(options: OrtOptions) {
    const api = apiOf(options.libraryPath);
    this.api = api;
    this.#products = options.products;
    this.version = api.version;
    this.buildInfo = String(api.raw("GetBuildInfoString")());
    // Our own operators have threads of their own; see native/crew.c.
    if (options.products !== undefined)
      koffi.load(options.products).func("tessellate_crew", "void", ["int"])(options.threadCount);
    const threading = api.make("CreateThreadingOptions");
    api.check("SetGlobalIntraOpNumThreads", threading, options.threadCount);
    api.check("SetGlobalSpinControl", threading, options.spin ? 1 : 0);
    this.#environment = api.make("CreateEnvWithGlobalThreadPools", LOG_FATAL_ONLY, "tessellate", threading);
    if (process.env["ORT_DISABLE_TELEMETRY"] === "1") api.check("DisableTelemetryEvents", this.#environment); // Windows
    api.raw("ReleaseThreadingOptions")(threading);
    this.#memory = api.make("CreateCpuMemoryInfo", ARENA_ALLOCATOR, DEFAULT_MEMORY);
    this.#shareArena();
    this.providers = this.#listProviders();
  }

  /** One arena for all sessions: dozens of graphs run one after the other, and each would keep its own working space. */
  #shareArena(): void {
    const config = this.api.make("CreateArenaCfg", UNLIMITED, EXTEND_AS_REQUESTED, DEFAULT, DEFAULT);
    try {
      this.api.check("CreateAndRegisterAllocator", this.#environment, this.#memory, config);
    } catch (cause) {
      // The environment is the process's; another engine in it may have registered the arena before.
      if (!String(cause).includes("already")) throw cause;
    } finally {
      this.api.raw("ReleaseArenaCfg")(config);
    }
  }

  #listProviders(): readonly string[] {
    const names: [unknown] = [null];
    const count: [number] = [0];
    this.api.check("GetAvailableProviders", names, count);
    const listed: string[] = koffi.decode(names[0], koffi.array("str", count[0]));
    this.api.check("ReleaseAvailableProviders", names[0], count[0]);
    return listed;
  }

  /**
   * Loads a graph from a file (external data is found beside it) or from its bytes. Nodes that `provider` cannot run go
   * to the CPU. Throws an Error that names the file.
   */
  session(graph: string | Uint8Array, provider?: Provider): OrtSession {
    const options = this.api.make("CreateSessionOptions");
    try {
      this.api.check("DisablePerSessionThreads", options);
      for (const [key, value] of SESSION_SETTINGS) this.api.check("AddSessionConfigEntry", options, key, value);
      if (provider === undefined && this.#products !== undefined)
        this.api.make("RegisterCustomOpsLibrary", options, this.#products);
      if (provider !== undefined) {
        this.api.check("AddSessionConfigEntry", options, "session.record_ep_graph_assignment_info", "1");
        provider(this.api, options);
      }
      const session =
        typeof graph === "string"
          ? this.api.make("CreateSession", this.#environment, graph, options)
          : this.api.make("CreateSessionFromArray", this.#environment, graph, graph.byteLength, options);
      this.#releases.push(() => this.api.raw("ReleaseSession")(session));
      const isElsewhere = provider !== undefined;
      return new OrtSession(this.api, session, isElsewhere, isElsewhere ? onTheCpu(this.api, session) : []);
    } catch (cause) {
      const name = typeof graph === "string" ? graph : "a graph of the engine's own";
      throw new Error(`${name} cannot be loaded: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
    } finally {
      this.api.raw("ReleaseSessionOptions")(options);
    }
  }

  /**
   * A tensor over `array` itself: native code reads and writes it in place. Its memory must be outside the JavaScript
   * heap, which `floats` and `integers` see to.
   */
  tensor(array: TensorArray, dims: readonly number[]): OrtTensor {
    assert(countOf(dims) === array.length, "a tensor has as many values as its dimensions say");
    const value = tensorAt(this.api, this.#memory, array, array.byteLength, dims, elementTypeOf(array));
    return new OrtTensor(this.api, value, array);
  }

  /** Releases sessions and environment. Tensors and bindings must be closed before. */
  close(): void {
    for (const release of this.#releases.splice(0).reverse()) release();
    this.api.raw("ReleaseMemoryInfo")(this.#memory);
    this.api.raw("ReleaseEnv")(this.#environment);
  }
}

const countOf = (dims: readonly number[]): number => dims.reduce((a, b) => a * b, 1);

/** A tensor over memory that is there: our own array, or a device's address in the memory that `memory` tells of. */
export function tensorAt(
  api: Api,
  memory: Pointer,
  data: TensorArray | Pointer,
  byteLength: number,
  dims: readonly number[],
  type: ElementType,
): Pointer {
  const shape = BigInt64Array.from(dims, BigInt);
  return api.make("CreateTensorWithDataAsOrtValue", memory, data, byteLength, shape, dims.length, ELEMENT_TYPES[type]);
}

/** Operators of a session that its provider left to the CPU; "untold" where the library is too old to tell (before 1.24). */
function onTheCpu(api: Api, session: Pointer): readonly string[] {
  if (!api.has("SessionGetAssignments")) return ["untold"];
  return api
    .list("SessionGetAssignments", session)
    .filter((assignment) => api.text("AssignmentGetProvider", assignment) === "CPUExecutionProvider")
    .flatMap((assignment) => api.list("AssignmentGetNodes", assignment))
    .map((node) => api.text("NodeGetOperator", node));
}

/** What must happen around a run where a tensor is not the memory itself but a copy of it; see device-memory.ts. */
export type TensorCopies = { readonly load: () => void; readonly store: () => void; readonly close: () => void };

export class OrtTensor {
  readonly value: Pointer;
  readonly copies: TensorCopies | undefined;
  readonly memory: unknown; // referenced for as long as native code may touch it
  readonly #api: Api;

  constructor(api: Api, value: Pointer, memory: unknown, copies?: TensorCopies) {
    this.#api = api;
    this.value = value;
    this.memory = memory;
    this.copies = copies;
  }

  close(): void {
    this.#api.raw("ReleaseValue")(this.value);
    this.copies?.close();
  }
}

export type Bound = Readonly<Record<string, OrtTensor>>;

export class OrtSession {
  readonly #api: Api;
  readonly #session: Pointer;
  /** Operators that the session's provider left to the CPU; each costs copies at every run. */
  readonly onTheCpu: readonly string[];
  readonly #isElsewhere: boolean;

  constructor(api: Api, session: Pointer, isElsewhere: boolean, onCpu: readonly string[]) {
    this.#api = api;
    this.#session = session;
    this.#isElsewhere = isElsewhere;
    this.onTheCpu = onCpu;
  }

  get pointer(): Pointer {
    return this.#session;
  }

  /** Ties every input and output of the graph to a tensor, once for many runs. */
  bind(inputs: Bound, outputs: Bound): OrtBinding {
    const binding = this.#api.make("CreateIoBinding", this.#session);
    for (const [name, tensor] of Object.entries(inputs)) this.#api.check("BindInput", binding, name, tensor.value);
    for (const [name, tensor] of Object.entries(outputs)) this.#api.check("BindOutput", binding, name, tensor.value);
    // A device's session takes its copy of our memory when it is bound, not when it runs.
    const again = this.#isElsewhere
      ? Object.entries(inputs).filter(([, { memory }]) => ArrayBuffer.isView(memory))
      : [];
    return new OrtBinding(this.#api, this.#session, binding, { inputs, outputs, again });
  }
}

/** What a binding ties together, and the inputs that are tied anew before each run. */
type Ties = {
  readonly inputs: Bound;
  readonly outputs: Bound;
  readonly again: readonly (readonly [string, OrtTensor])[];
};

export class OrtBinding {
  readonly #api: Api;
  readonly #session: Pointer;
  readonly #binding: Pointer;
  readonly #run: Native;
  readonly tensors: readonly OrtTensor[]; // referenced for as long as native code may touch them
  readonly #again: Ties["again"];
  readonly #loads: readonly (() => void)[];
  readonly #stores: readonly (() => void)[];

  constructor(api: Api, session: Pointer, binding: Pointer, { inputs, outputs, again }: Ties) {
    this.#api = api;
    this.#session = session;
    this.#binding = binding;
    this.#run = api.raw("RunWithBinding");
    this.tensors = [...Object.values(inputs), ...Object.values(outputs)];
    this.#again = again;
    this.#loads = Object.values(inputs).flatMap(({ copies }) => copies?.load ?? []);
    this.#stores = Object.values(outputs).flatMap(({ copies }) => copies?.store ?? []);
  }

  /** Runs the graph to its end on the calling thread and the shared pool. */
  run(): void {
    for (const load of this.#loads) load();
    for (const [name, tensor] of this.#again) this.#api.check("BindInput", this.#binding, name, tensor.value);
    const status = this.#run(this.#session, null, this.#binding);
    if (status !== null && status !== 0n) this.#failed(status);
    for (const store of this.#stores) store();
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
