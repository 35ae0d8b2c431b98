/**
 * Which devices there are, and opening one: the provider that it needs, and the refusal that says what this node has and
 * what to do where it cannot be had. A library lists providers that it was built to load, not those that it can, so
 * only opening one tells.
 */
import type { ModelConfig } from "../../core/model-config.ts";
import { RefusalError, refuse } from "../../core/result.ts";
import { cudaAdapter, webgpuAdapter } from "./adapters.ts";
import { attentionRowCountMax } from "./attention-check.ts";
import { DEVICE_KINDS, type Device, type DeviceKind, HostDevice } from "./device.ts";
import { ProviderDevice } from "./device-memory.ts";
import { readsHalves } from "./device-probe.ts";
import { cpuDevice } from "./drift-class.ts";
import type { Api, Pointer } from "./ort-api.ts";
import type { Ort } from "./ort.ts";
import type { PackFormat } from "./shard.ts";

type Opening = {
  readonly provider: string; // as the library lists it
  readonly advice: string; // where it cannot be had
  readonly open: (ort: Ort) => Device;
};

const PROVIDERS: Readonly<Record<Exclude<DeviceKind, "cpu">, Opening>> = {
  webgpu: {
    provider: "WebGpuExecutionProvider",
    advice:
      "give the node a GPU with a driver for Vulkan (Linux, with its loader libvulkan.so.1), Direct3D 12 or Metal, and the container the GPU",
    open: (ort) =>
      new ProviderDevice(ort, {
        kind: "webgpu",
        name: `webgpu-${webgpuAdapter()}`,
        provider: byName("WebGPU"),
        memoryName: "WebGPU_Buf",
        addressable: false,
        attentionType: "f32",
      }),
  },
  cuda: {
    provider: "CUDAExecutionProvider",
    advice:
      "put ONNX Runtime's CUDA provider and CUDA's own libraries beside the library that is loaded, " +
      "or name a build that has them in TESSELLATE_ENGINE_LIBRARY, and give the container the GPU",
    open: (ort) =>
      new ProviderDevice(ort, {
        kind: "cuda",
        name: `cuda-${cudaAdapter()}`,
        provider: appendCuda,
        memoryName: "Cuda",
        addressable: true,
        // Its GroupQueryAttention knows no f32.
        attentionType: "f16",
      }),
  },
  coreml: {
    provider: "CoreMLExecutionProvider",
    advice: "a Mac and a build of ONNX Runtime with it are needed",
    open: (ort) => new HostDevice(ort, "coreml", `coreml-${webgpuAdapter()}`, byName("CoreML")),
  },
  directml: {
    provider: "DmlExecutionProvider",
    advice: "Windows with Direct3D 12 and a build of ONNX Runtime with it are needed",
    open: (ort) => new HostDevice(ort, "directml", `directml-${webgpuAdapter()}`, byName("DML")),
  },
};

/**
 * Opens the device that a rank was told to compute on. Throws a RefusalError with the code DeviceMissing that says what
 * the node has and what to do.
 */
export function openDevice(kind: string, ort: Ort): Device {
  if (kind === "cpu") return new HostDevice(ort, "cpu", cpuDevice());
  if (!isProvided(kind)) throw missing(kind, ort, `it is none of ${DEVICE_KINDS.join(", ")}`);
  const { provider, advice, open } = PROVIDERS[kind];
  if (!ort.providers.includes(provider)) throw missing(kind, ort, `the library has no ${provider}; ${advice}`);
  try {
    return open(ort);
  } catch (cause) {
    throw missing(kind, ort, `${lastWords(cause)}; ${advice}`);
  }
}

const isProvided = (kind: string): kind is Exclude<DeviceKind, "cpu"> => Object.hasOwn(PROVIDERS, kind);

function missing(kind: string, ort: Ort, why: string): RefusalError {
  const built = ort.providers.map((provider) => provider.replace("ExecutionProvider", "").toLowerCase());
  const has = `ONNX Runtime ${ort.version} (${ort.api.path}) was built to load ${built.join(", ")}; cpu always works`;
  const detail = `device ${JSON.stringify(kind)} cannot be had on this node: ${why}. ${has}`;
  return new RefusalError(refuse("DeviceMissing", detail));
}

/** The engine's messages begin with where in its sources they were made. */
function lastWords(cause: unknown): string {
  const [line = ""] = (cause instanceof Error ? cause.message : String(cause)).trim().split("\n");
  const said = line.split(/ was false\. | : FAIL : |: ONNX Runtime \w+: /).at(-1) ?? line;
  return said.replace(/^Failed to load library (\S+) with error: \1: /, "$1: ");
}

/**
 * What a device's kernels would compute wrongly or not at all; undefined where a model runs as it should. Tells the device
 * how many rows of a session its attention may be given.
 */
export function whyNotOn(
  device: Device,
  { config, quantization }: { readonly config: ModelConfig; readonly quantization: PackFormat },
): string | undefined {
  if (device.kind === "cpu") return undefined;
  device.attentionRowCountMax = attentionRowCountMax(device, config);
  if (device.attentionRowCountMax === 0) {
    const what = `this ${config.family} model's attention${config.attentionSoftcap === undefined ? "" : " with its soft cap"}`;
    return `device "${device.kind}" (${device.name}) computes ${what} wrongly: it was tried, and compared; use cpu`;
  }
  if (quantization === "f16" && !readsHalves(device))
    return `device "${device.kind}" (${device.name}) computes without f16; choose f32, int8 or int4 for spec.quantization, or cpu`;
  return undefined;
}

const byName = (name: string) => (api: Api, options: Pointer) =>
  api.check("SessionOptionsAppendExecutionProvider", options, name, null, null, 0);

/** Products in full f32, not in TF32 that keeps ten bits; memory grows by what is asked for. */
const CUDA_OPTIONS: readonly (readonly [key: string, value: string])[] = [
  ["device_id", "0"],
  ["use_tf32", "0"],
  ["arena_extend_strategy", "kSameAsRequested"],
];

function appendCuda(api: Api, options: Pointer): void {
  const cuda = api.make("CreateCudaProviderOptions");
  try {
    const [keys, values] = [CUDA_OPTIONS.map(([key]) => key), CUDA_OPTIONS.map(([, value]) => value)];
    api.check("UpdateCudaProviderOptions", cuda, keys, values, keys.length);
    api.check("SessionOptionsAppendCuda", options, cuda);
  } finally {
    api.raw("ReleaseCudaProviderOptions")(cuda);
  }
}
