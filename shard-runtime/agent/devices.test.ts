import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { expect } from "chai";
import { findDevices, findGpus } from "./devices.ts";

describe("finding devices", () => {
  let root: string;
  before(() => {
    root = mkdtempSync(join(tmpdir(), "tessellate-devices-"));
    const bus = "sys/bus/pci/devices";
    const files = {
      [`${bus}/0000:01:00.0/class`]: "0x030200\n",
      [`${bus}/0000:01:00.0/vendor`]: "0x10de\n",
      [`${bus}/0000:01:00.0/device`]: "0x2330\n",
      "proc/driver/nvidia/gpus/0000:01:00.0/information": "Model: \t\t NVIDIA H100 80GB HBM3\nIRQ: 1\n",
      [`${bus}/0000:02:00.0/class`]: "0x030000\n",
      [`${bus}/0000:02:00.0/vendor`]: "0x1002\n",
      [`${bus}/0000:02:00.0/device`]: "0x747e\n",
      [`${bus}/0000:02:00.0/mem_info_vram_total`]: "17163091968\n",
      [`${bus}/0000:03:00.0/class`]: "0x020000\n", // a network card
    };
    for (const [file, text] of Object.entries(files)) {
      mkdirSync(dirname(join(root, file)), { recursive: true });
      writeFileSync(join(root, file), text);
    }
  });
  after(() => rmSync(root, { recursive: true, force: true }));

  it("names what is on the bus by the driver's words, else by vendor and number", () => {
    expect(findGpus(root)).to.deep.equal([
      { kind: "gpu", name: "NVIDIA H100 80GB HBM3" },
      { kind: "gpu", name: "AMD, device 0x747e", memoryBytes: 17_163_091_968 },
    ]);
  });

  it("adds what drivers say: by address, by model, and of a GPU that the bus does not show", () => {
    const drivers = [
      { name: "NVIDIA H100 80GB HBM3", bus: "0000:01:00.0", memoryBytes: 85e9, freeBytes: 84e9 },
      { name: "H100 by Vulkan", bus: "10de:2330", memoryBytes: 84e9 },
      { name: "Radeon RX 7800 XT", bus: "1002:747e", memoryBytes: 16e9 },
      { name: "Apple M9", bus: "106b:0001", memoryBytes: 32e9 },
    ];
    expect(findGpus(root, drivers)).to.deep.equal([
      { kind: "gpu", name: "NVIDIA H100 80GB HBM3", memoryBytes: 85e9, freeBytes: 84e9 },
      { kind: "gpu", name: "Radeon RX 7800 XT", memoryBytes: 17_163_091_968 },
      { kind: "gpu", name: "Apple M9", memoryBytes: 32e9 },
    ]);
  });

  it("always finds the processor, and no GPU where there is no bus", () => {
    const [cpu, ...others] = findDevices(join(root, "nowhere"));
    expect(cpu).to.include({ kind: "cpu" });
    expect(cpu?.memoryBytes).to.be.greaterThan(0);
    expect(others).to.deep.equal([]);
  });
});
