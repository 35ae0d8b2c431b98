/**
 * What a machine has to compute with: as its kernel tells everybody, so that nothing has to be allowed, and with what the
 * drivers of its GPUs add where the agent may ask them.
 */
import { readFileSync, readdirSync } from "node:fs";
import { arch, availableParallelism, cpus, totalmem } from "node:os";
import { join } from "node:path";
import type { Gpu } from "../engine/adapters.ts";

export type FoundDevice = {
  readonly kind: "cpu" | "gpu";
  readonly name: string;
  readonly memoryBytes?: number; // left out where nobody says
  readonly freeBytes?: number; // of it, now
};

/** PCI classes: display controllers, and processing accelerators, which datacentre GPUs may call themselves. */
const IS_GPU = /^0x(03|12)/;
const VENDORS: Readonly<Record<string, string>> = { "0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel" };
const NAME_LENGTH_MAX = 200;

/** `root` is where `/sys` and `/proc` are: another folder in tests. `drivers`: what GPUs' drivers say. */
export function findDevices(root = "/", drivers: readonly Gpu[] = []): readonly FoundDevice[] {
  const model = cpus()[0]?.model.trim() ?? "";
  const cpu = `${model === "" || model === "unknown" ? arch() : model}, ${availableParallelism()} threads`;
  return [{ kind: "cpu", name: cpu.slice(0, NAME_LENGTH_MAX), memoryBytes: totalmem() }, ...findGpus(root, drivers)];
}

/** Those on the bus, in the driver's words where there is one; then those that only a driver knows. */
export function findGpus(root: string, drivers: readonly Gpu[] = []): readonly FoundDevice[] {
  const bus = join(root, "sys/bus/pci/devices");
  const spoken = new Set<string>();
  const onBus = listed(bus)
    .filter((address) => IS_GPU.test(textIn(join(bus, address, "class"))))
    .sort()
    .map((address) => {
      const read = (file: string) => textIn(join(bus, address, file));
      const [vendor, device] = [read("vendor"), read("device")];
      const places = [address.toLowerCase(), `${vendor}:${device}`.replaceAll("0x", "")];
      for (const place of places) spoken.add(place);
      // CUDA names the address, Vulkan the model alone.
      const driver = places.flatMap((place) => drivers.filter((each) => each.bus === place))[0];
      const information = textIn(join(root, "proc/driver/nvidia/gpus", address, "information"));
      const told = /^Model:\s*(.+)$/m.exec(information)?.[1] ?? driver?.name;
      const memoryBytes = Number(read("mem_info_vram_total")) || driver?.memoryBytes;
      return gpu(told ?? `${VENDORS[vendor] ?? `vendor ${vendor}`}, device ${device}`, memoryBytes, driver?.freeBytes);
    });
  const beyond = drivers.filter(({ bus: place }) => !spoken.has(place));
  return [...onBus, ...beyond.map(({ name, memoryBytes, freeBytes }) => gpu(name, memoryBytes, freeBytes))];
}

const gpu = (name: string, memoryBytes: number | undefined, freeBytes: number | undefined): FoundDevice => ({
  kind: "gpu",
  name: name.slice(0, NAME_LENGTH_MAX),
  ...(memoryBytes === undefined || memoryBytes <= 0 ? {} : { memoryBytes }),
  ...(freeBytes === undefined || freeBytes <= 0 ? {} : { freeBytes }),
});

function listed(folder: string): readonly string[] {
  try {
    return readdirSync(folder);
  } catch {
    return []; // no such bus here
  }
}

function textIn(file: string): string {
  try {
    return readFileSync(file, "utf8").trim();
  } catch {
    return "";
  }
}
