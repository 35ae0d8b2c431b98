/**
 * GPUs, asked of the drivers themselves: ONNX Runtime's C API does not tell which adapter its providers took, nor how much
 * memory it has. For the drift class and for what a node agent reports, so an adapter that cannot be named is "unknown",
 * one that cannot be asked is left out, and nothing fails.
 */
import { cpus, platform } from "node:os";
import koffi, { type LibraryHandle } from "koffi";

const VULKAN_LIBRARY = "libvulkan.so.1";
const CUDA_LIBRARY = platform() === "win32" ? "nvcuda.dll" : "libcuda.so.1";
const UNKNOWN = "unknown";

/** Metal, D3D12 or Vulkan, as Dawn (under ONNX Runtime's WebGPU provider) takes them, and the adapter behind it. */
export function webgpuAdapter(): string {
  if (platform() === "darwin") return `metal-${slug(cpus()[0]?.model ?? UNKNOWN)}`;
  if (platform() === "win32") return `d3d12-${UNKNOWN}`;
  return `vulkan-${named(vulkanAdapter)}`;
}

/** Name and driver of the first CUDA device. */
export const cudaAdapter = (): string => named(firstCudaDevice);

export type Gpu = {
  readonly name: string; // as its driver calls it
  /** `vendor:device`, as the PCI bus has them in hexadecimal; or its address there. */
  readonly bus: string;
  readonly memoryBytes: number;
  readonly freeBytes?: number; // left out where the driver does not say
};

/** What CUDA's and Vulkan's drivers have here. A driver that computes on the processor is none. */
export function gpus(): readonly Gpu[] {
  const all = [...tried(cudaGpus), ...tried(() => vulkanDevices().filter(({ type }) => type !== TYPE_CPU))];
  return all.map(({ name, bus, memoryBytes, freeBytes }) => ({
    ...{ name, bus, memoryBytes },
    ...(freeBytes === undefined ? {} : { freeBytes }),
  }));
}

function tried<T>(find: () => readonly T[]): readonly T[] {
  try {
    return find();
  } catch {
    return []; // no such driver here
  }
}

function named(find: () => string | undefined): string {
  try {
    return find() ?? UNKNOWN;
  } catch {
    return UNKNOWN;
  }
}

/** `SwiftShader Device (Subzero)` → `swiftshader-device-subzero` */
export const slug = (name: string): string =>
  name
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-|-$/g, "");

/** VkInstanceCreateInfo, of which only the first word is not zero. */
const INSTANCE_INFO_BYTES = 64;
const STRUCTURE_TYPE_INSTANCE_CREATE_INFO = 1;
/** VkPhysicalDeviceProperties: six words of which we read two, then 256 bytes of name; 824 bytes in all. */
const PROPERTIES_BYTES = 1024;
const DRIVER_VERSION_AT = 4;
const VENDOR_AT = 8;
const DEVICE_AT = 12;
const DEVICE_TYPE_AT = 16;
const NAME_AT = 20;
const NAME_BYTES = 256;
/** VkPhysicalDeviceType in the order in which a request for performance prefers them: discrete, integrated, virtual, cpu. */
const PREFERRED_TYPES = [2, 1, 3, 4];
const TYPE_CPU = 4;

function vulkanAdapter(): string | undefined {
  const [best] = [...vulkanDevices()].sort((a, b) => PREFERRED_TYPES.indexOf(a.type) - PREFERRED_TYPES.indexOf(b.type));
  return best === undefined ? undefined : `${slug(best.name)}-${best.driver}`;
}

type VulkanDevice = Gpu & { readonly type: number; readonly driver: string };

/** Those of every driver that the loader knows. Throws where there is no loader. */
export function vulkanDevices(): readonly VulkanDevice[] {
  const vulkan = koffi.load(VULKAN_LIBRARY);
  const createInstance = vulkan.func("vkCreateInstance", "int", ["void *", "void *", "_Out_ void **"]);
  const destroyInstance = vulkan.func("vkDestroyInstance", "void", ["void *", "void *"]);
  const info = Buffer.alloc(INSTANCE_INFO_BYTES);
  info.writeUInt32LE(STRUCTURE_TYPE_INSTANCE_CREATE_INFO, 0);
  const instance: [unknown] = [null];
  if (createInstance(info, null, instance) !== 0) return [];
  try {
    return physicalDevices(vulkan, instance[0]);
  } finally {
    destroyInstance(instance[0], null);
  }
}

function physicalDevices(vulkan: LibraryHandle, instance: unknown): readonly VulkanDevice[] {
  const enumerate = vulkan.func("vkEnumeratePhysicalDevices", "int", ["void *", "_Inout_ uint32_t *", "void *"]);
  const getProperties = vulkan.func("vkGetPhysicalDeviceProperties", "void", ["void *", "void *"]);
  const getMemory = vulkan.func("vkGetPhysicalDeviceMemoryProperties", "void", ["void *", "void *"]);
  const count: [number] = [0];
  enumerate(instance, count, null);
  const handles = new BigUint64Array(count[0]);
  enumerate(instance, count, handles);
  return [...handles].map((handle) => {
    const properties = Buffer.alloc(PROPERTIES_BYTES);
    getProperties(handle, properties);
    const memory = Buffer.alloc(MEMORY_BYTES);
    getMemory(handle, memory);
    const number = (at: number) => properties.readUInt32LE(at).toString(16);
    return {
      type: properties.readUInt32LE(DEVICE_TYPE_AT),
      name: textOf(properties.subarray(NAME_AT, NAME_AT + NAME_BYTES)),
      driver: number(DRIVER_VERSION_AT),
      bus: `${number(VENDOR_AT).padStart(4, "0")}:${number(DEVICE_AT).padStart(4, "0")}`,
      memoryBytes: deviceLocalBytes(memory),
    };
  });
}

/** VkPhysicalDeviceMemoryProperties: a count and 32 types of two words, then a count and 16 heaps of two long words. */
const MEMORY_BYTES = 520;
const HEAP_COUNT_AT = 4 + 32 * 8;
const HEAP_BYTES = 16;
const HEAP_FLAGS_AT = 8;
const DEVICE_LOCAL = 1;

/** The largest heap on the device itself; smaller ones are windows into it. */
function deviceLocalBytes(memory: Buffer): number {
  const heaps = Array.from({ length: memory.readUInt32LE(HEAP_COUNT_AT) }, (_, index) => {
    const at = HEAP_COUNT_AT + 4 + index * HEAP_BYTES;
    const isLocal = (memory.readUInt32LE(at + HEAP_FLAGS_AT) & DEVICE_LOCAL) !== 0;
    return isLocal ? Number(memory.readBigUInt64LE(at)) : 0;
  });
  return Math.max(0, ...heaps);
}

/** Room for `0000:01:00.0` and more. */
const BUS_BYTES = 64;

/** Free memory is known to a context only, so each device gets one for a moment. */
function cudaGpus(): readonly Gpu[] {
  const cuda = koffi.load(CUDA_LIBRARY);
  if (cuda.func("cuInit", "int", ["uint32_t"])(0) !== 0) return [];
  const count: [number] = [0];
  cuda.func("cuDeviceGetCount", "int", ["_Out_ int *"])(count);
  const getName = cuda.func("cuDeviceGetName", "int", ["void *", "int", "int"]);
  const getBus = cuda.func("cuDeviceGetPCIBusId", "int", ["void *", "int", "int"]);
  const retain = cuda.func("cuDevicePrimaryCtxRetain", "int", ["_Out_ void **", "int"]);
  const release = cuda.func("cuDevicePrimaryCtxRelease_v2", "int", ["int"]);
  const setCurrent = cuda.func("cuCtxSetCurrent", "int", ["void *"]);
  const getTotal = cuda.func("cuDeviceTotalMem_v2", "int", ["_Out_ size_t *", "int"]);
  const getMemory = cuda.func("cuMemGetInfo_v2", "int", ["_Out_ size_t *", "_Out_ size_t *"]);
  return Array.from({ length: count[0] }, (_, device) => {
    const [name, bus] = [Buffer.alloc(NAME_BYTES), Buffer.alloc(BUS_BYTES)];
    getName(name, NAME_BYTES, device);
    getBus(bus, BUS_BYTES, device);
    const [total, free, context]: [[number], [number], [unknown]] = [[0], [0], [null]];
    getTotal(total, device);
    const hasContext = retain(context, device) === 0 && setCurrent(context[0]) === 0;
    const isFreeKnown = hasContext && getMemory(free, [0]) === 0;
    if (hasContext) release(device);
    return {
      name: textOf(name),
      bus: textOf(bus).toLowerCase(),
      memoryBytes: Number(total[0]),
      ...(isFreeKnown ? { freeBytes: Number(free[0]) } : {}),
    };
  });
}

function firstCudaDevice(): string | undefined {
  const cuda = koffi.load(CUDA_LIBRARY);
  if (cuda.func("cuInit", "int", ["uint32_t"])(0) !== 0) return undefined;
  const name = Buffer.alloc(NAME_BYTES);
  if (cuda.func("cuDeviceGetName", "int", ["void *", "int", "int"])(name, NAME_BYTES, 0) !== 0) return undefined;
  const version: [number] = [0];
  cuda.func("cuDriverGetVersion", "int", ["_Out_ int *"])(version);
  return `${slug(textOf(name))}-${version[0]}`;
}

const textOf = (bytes: Buffer): string => bytes.toString("utf8", 0, Math.max(0, bytes.indexOf(0)));
