/** What runs on the thread of check-device.ts. */
import { parentPort, workerData } from "node:worker_threads";
import { present } from "../../core/assert.ts";
import { RefusalError } from "../../core/result.ts";
import type { DeviceAnswer, DeviceCheck } from "./check-device.ts";
import { openDevice, whyNotOn } from "./open-device.ts";
import { Ort } from "./ort.ts";

function answer(check: DeviceCheck): DeviceAnswer {
  try {
    const ort = new Ort({ threadCount: 1, spin: false });
    try {
      const device = openDevice(check.device, ort);
      const why = whyNotOn(device, check);
      device.close();
      return why === undefined ? undefined : { code: "DeviceMissing", message: why };
    } finally {
      ort.close();
    }
  } catch (cause) {
    if (cause instanceof RefusalError) return { code: cause.code, message: cause.message };
    throw cause;
  }
}

present(parentPort, "this file runs as a thread").postMessage(answer(workerData));
