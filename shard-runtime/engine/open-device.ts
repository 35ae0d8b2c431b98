/**
 * Which devices there are, and opening one: the provider that it needs, and the refusal that says what the node has and
 * what to do where it cannot be had.
 */
import { RefusalError, refuse } from "../../core/result.ts";
import { cpuDevice } from "./drift-class.ts";
import { DEVICE_KINDS, type Device, HostDevice } from "./device.ts";
import type { Ort } from "./ort.ts";

/** Opens the device that a rank was told to compute on. Throws a RefusalError with the code DeviceMissing. */
export function openDevice(kind: string, ort: Ort): Device {
  if (kind === "cpu") return new HostDevice(ort, "cpu", cpuDevice());
  throw missing(kind, ort, `it is none of ${DEVICE_KINDS.join(", ")}`);
}

function missing(kind: string, ort: Ort, why: string): RefusalError {
  const built = ort.providers.map((provider) => provider.replace("ExecutionProvider", "").toLowerCase());
  const detail = `device ${JSON.stringify(kind)} cannot be had here: ${why}; the loaded ONNX Runtime ${ort.version} was built for ${built.join(", ")}`;
  return new RefusalError(refuse("DeviceMissing", detail));
}
