/** What a machine has to compute with, as its kernel tells everybody: no driver is asked, so nothing has to be allowed. */
import { readFileSync, readdirSync } from "node:fs";
import { arch, availableParallelism, cpus, totalmem } from "node:os";
import { join } from "node:path";

export type FoundDevice = {
  readonly kind: "cpu" | "gpu";
  readonly name: string;
  readonly memoryBytes?: number; // left out where the kernel does not say
};

/** PCI classes: display controllers, and processing accelerators, which datacentre GPUs may call themselves. */
const IS_GPU = /^0x(03|12)/;
const VENDORS: Readonly<Record<string, string>> = { "0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel" };
const NAME_LENGTH_MAX = 200;

/** `root` is where `/sys` and `/proc` are: another folder in tests. */
export function findDevices(root = "/"): readonly FoundDevice[] {
  const model = cpus()[0]?.model.trim() ?? "";
  const cpu = `${model === "" || model === "unknown" ? arch() : model}, ${availableParallelism()} threads`;
  return [{ kind: "cpu", name: cpu.slice(0, NAME_LENGTH_MAX), memoryBytes: totalmem() }, ...findGpus(root)];
}

export function findGpus(root: string): readonly FoundDevice[] {
  const bus = join(root, "sys/bus/pci/devices");
  return listed(bus)
    .filter((address) => IS_GPU.test(textIn(join(bus, address, "class"))))
    .sort()
    .map((address) => {
      const read = (file: string) => textIn(join(bus, address, file));
      const [vendor, device] = [read("vendor"), read("device")];
      const information = textIn(join(root, "proc/driver/nvidia/gpus", address, "information"));
      const told = /^Model:\s*(.+)$/m.exec(information)?.[1];
      const memoryBytes = Number(read("mem_info_vram_total"));
      return {
        kind: "gpu",
        name: (told ?? `${VENDORS[vendor] ?? `vendor ${vendor}`}, device ${device}`).slice(0, NAME_LENGTH_MAX),
        ...(memoryBytes > 0 ? { memoryBytes } : {}),
      };
    });
}

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
