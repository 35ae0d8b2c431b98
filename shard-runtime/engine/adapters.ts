/**
 * The names of GPUs, asked of the drivers themselves: ONNX Runtime's C API does not tell which adapter its providers took.
 * For the drift class only, so an adapter that cannot be named is "unknown" and nothing fails.
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
const DEVICE_TYPE_AT = 16;
const NAME_AT = 20;
const NAME_BYTES = 256;
/** VkPhysicalDeviceType in the order in which a request for performance prefers them: discrete, integrated, virtual, cpu. */
const PREFERRED_TYPES = [2, 1, 3, 4];

function vulkanAdapter(): string | undefined {
  const vulkan = koffi.load(VULKAN_LIBRARY);
  const createInstance = vulkan.func("vkCreateInstance", "int", ["void *", "void *", "_Out_ void **"]);
  const destroyInstance = vulkan.func("vkDestroyInstance", "void", ["void *", "void *"]);
  const info = Buffer.alloc(INSTANCE_INFO_BYTES);
  info.writeUInt32LE(STRUCTURE_TYPE_INSTANCE_CREATE_INFO, 0);
  const instance: [unknown] = [null];
  if (createInstance(info, null, instance) !== 0) return undefined;
  try {
    const [best] = physicalDevices(vulkan, instance[0]).sort(
      (a, b) => PREFERRED_TYPES.indexOf(a.type) - PREFERRED_TYPES.indexOf(b.type),
    );
    return best?.name;
  } finally {
    destroyInstance(instance[0], null);
  }
}

function physicalDevices(vulkan: LibraryHandle, instance: unknown): { readonly type: number; readonly name: string }[] {
  const enumerate = vulkan.func("vkEnumeratePhysicalDevices", "int", ["void *", "_Inout_ uint32_t *", "void *"]);
  const getProperties = vulkan.func("vkGetPhysicalDeviceProperties", "void", ["void *", "void *"]);
  const count: [number] = [0];
  enumerate(instance, count, null);
  const handles = new BigUint64Array(count[0]);
  enumerate(instance, count, handles);
  return [...handles].map((handle) => {
    const properties = Buffer.alloc(PROPERTIES_BYTES);
    getProperties(handle, properties);
    const name = textOf(properties.subarray(NAME_AT, NAME_AT + NAME_BYTES));
    const driver = properties.readUInt32LE(DRIVER_VERSION_AT).toString(16);
    return { type: properties.readUInt32LE(DEVICE_TYPE_AT), name: `${slug(name)}-${driver}` };
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
