/**
 * The engine on a GPU: SwiftShader, a Vulkan driver that computes on the processor, runs the very kernels that a GPU
 * would. First the door (memory, copies, what is refused), then whole models against the cpu.
 */
import { expect } from "chai";
import fc from "fast-check";
import { type Device, type DeviceBuffer, readRows } from "../../shard-runtime/engine/device.ts";
import { deviceClass } from "../../shard-runtime/engine/drift-class.ts";
import { GraphBuilder } from "../../shard-runtime/engine/graph/onnx.ts";
import { openDevice } from "../../shard-runtime/engine/open-device.ts";
import { Ort, floats } from "../../shard-runtime/engine/ort.ts";
import { useSwiftShader } from "../swiftshader.ts";

describe("webgpu: the device", () => {
  let ort: Ort;
  let device: Device;
  before(function () {
    useSwiftShader(this);
    ort = new Ort({ threadCount: 2, spin: false });
    device = openDevice("webgpu", ort);
  });
  after(() => {
    device?.close();
    ort?.close();
  });

  const WIDTH = 12;
  const counting = (rowCount: number, from: number) =>
    floats(rowCount * WIDTH).map((_, at) => from + at) as Float32Array<ArrayBuffer>;
  const put = (buffer: DeviceBuffer, row: number, values: Float32Array) =>
    device.copyRows(device.shared(values, WIDTH), 0, buffer, row, values.length / WIDTH);

  it("has memory of its own, zeroed also where it was used before", () => {
    for (let time = 0; time < 3; time += 1) {
      const buffer = device.buffer(5, WIDTH);
      expect(buffer.values).to.equal(undefined);
      expect(readRows(device, buffer, 0, 5)).to.deep.equal(new Float32Array(5 * WIDTH));
      put(buffer, 0, counting(5, 1));
    }
  });

  it("copies any rows between any buffers as arrays would", () => {
    const COUNTS = [7, 5, 9];
    const buffers = COUNTS.map((rowCount) => device.buffer(rowCount, WIDTH));
    const arrays = COUNTS.map((rowCount, index) => counting(rowCount, 1000 * index));
    for (const [index, values] of arrays.entries()) put(buffers[index] ?? expect.fail(), 0, values);
    const index = fc.nat({ max: COUNTS.length - 1 });
    const row = fc.nat({ max: 8 });
    fc.assert(
      fc.property(index, row, index, row, fc.integer({ min: 1, max: 9 }), (from, fromRow, to, toRow, wanted) => {
        const rowCount = Math.min(wanted, (COUNTS[from] ?? 0) - fromRow, (COUNTS[to] ?? 0) - toRow);
        fc.pre(rowCount > 0 && from !== to);
        const [source, target] = [buffers[from] ?? expect.fail(), buffers[to] ?? expect.fail()];
        device.copyRows(source, fromRow, target, toRow, rowCount);
        arrays[to]?.set(arrays[from]?.subarray(fromRow * WIDTH, (fromRow + rowCount) * WIDTH) ?? [], toRow * WIDTH);
        expect(readRows(device, target, 0, target.rowCount)).to.deep.equal(arrays[to]);
      }),
      { numRuns: 200 },
    );
  });

  it("runs over rows in the middle of a buffer, in place, and sees what the host wrote since it was bound", () => {
    const graph = new GraphBuilder("add");
    graph.node("Add", [graph.input("x", ["S", WIDTH]), graph.input("by", [WIDTH])], ["y"]);
    graph.output("y", ["S", WIDTH]);
    const buffer = device.buffer(8, WIDTH);
    put(buffer, 0, counting(8, 0));
    const by = floats(WIDTH).fill(100);
    const tensors = {
      x: device.tensor(buffer, 4, [2, WIDTH]),
      by: device.tensor(device.shared(by, WIDTH), 0, [WIDTH]),
    };
    const binding = device.session(graph.encode()).bind(tensors, { y: tensors.x });
    binding.run();
    by.fill(-3);
    binding.run();
    const expected = counting(8, 0).map((value, at) => (at >= 4 * WIDTH && at < 6 * WIDTH ? value + 97 : value));
    expect(readRows(device, buffer, 0, 8)).to.deep.equal(expected);
    for (const each of [binding, tensors.x, tensors.by]) each.close();
  });

  it("names the adapter and what it computes in its drift class, and what it leaves to the processor", () => {
    expect(deviceClass(device)).to.match(/^webgpu-vulkan-swiftshader-[a-z0-9-]+-[0-9a-f]{8}$/);
    const graph = new GraphBuilder("two");
    graph.contrib("FusedMatMul", [graph.input("x", ["S", 4]), graph.input("w", [4, 4])], ["h"], { transB: 1 });
    graph.node("Tanh", ["h"], ["y"]);
    graph.output("y", ["S", 4]);
    expect(device.session(graph.encode()).onTheCpu).to.deep.equal(["FusedMatMul"]);
    expect(device.onTheCpu).to.deep.equal(["FusedMatMul"]);
    expect(deviceClass(device)).to.match(/-[0-9a-f]{8}\+cpu-[a-z0-9-]+-FusedMatMul$/);
  });

  it("can be opened again after it was closed", () => {
    const again = new Ort({ threadCount: 2, spin: false });
    const other = openDevice("webgpu", again);
    const buffer = other.buffer(2, WIDTH);
    expect(readRows(other, buffer, 0, 2)).to.deep.equal(new Float32Array(2 * WIDTH));
    other.close();
    again.close();
    expect(readRows(device, device.buffer(1, WIDTH), 0, 1)).to.deep.equal(new Float32Array(WIDTH));
  });
});
