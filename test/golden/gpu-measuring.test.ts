/** What a node agent finds and measures of a GPU, with SwiftShader as the GPU: asked of the driver, and through the engine. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { RefusalError } from "../../core/result.ts";
import { driversGpus, measureMachine } from "../../shard-runtime/agent/machine.ts";
import { vulkanDevices } from "../../shard-runtime/engine/adapters.ts";
import { measureDeviceBandwidth } from "../../shard-runtime/measure.ts";
import { useSwiftShader } from "../swiftshader.ts";

const MIB = 2 ** 20;

describe("a node agent and a GPU", function () {
  this.timeout(300_000);
  let cache: string;
  before(async function () {
    useSwiftShader(this);
    cache = await mkdtemp(join(tmpdir(), "tessellate-measure-"));
  });
  after(() => rm(cache, { recursive: true, force: true }));

  it("hears from the driver what it is and how much memory it has", () => {
    const [device] = vulkanDevices();
    expect(device?.name).to.match(/^SwiftShader/);
    expect(device?.bus).to.match(/^[0-9a-f]{4}:[0-9a-f]{4}$/);
    expect(device?.memoryBytes).to.be.greaterThan(256 * MIB);
  });

  it("does not take a driver that computes on the processor for a GPU", async () => {
    expect(await driversGpus()).to.deep.equal([]);
  });

  it("measures the device's memory by the engine that ranks use, in a process of its own", async () => {
    const part = { device: "webgpu", threadCount: 2 };
    const { memoryBytesPerSecond = 0, layerTimes } = await measureMachine(part, {
      cacheDirectory: cache,
      layers: false,
    });
    expect(memoryBytesPerSecond).to.be.greaterThan(MIB);
    expect(layerTimes).to.equal(undefined);
  });

  it("says what is missing where the device cannot be had", async () => {
    const refusal = await measureDeviceBandwidth("cuda").catch((error: unknown) => error);
    expect(refusal).to.be.instanceOf(RefusalError);
    expect(String(refusal)).to.contain("cuda");
    const failed = await measureMachine(
      { device: "cuda", threadCount: 1 },
      { cacheDirectory: cache, layers: true },
    ).catch(String);
    expect(failed).to.contain("cannot be had on this node");
  });
});
