import { expect } from "chai";
import { aModelConfig } from "../../core/model-config-fixture.ts";
import { RefusalError } from "../../core/result.ts";
import { slug } from "./adapters.ts";
import { checkDevice } from "./check-device.ts";
import { type Device, floatsOf, readRows } from "./device.ts";
import { deviceClass } from "./drift-class.ts";
import { GraphBuilder } from "./graph/onnx.ts";
import { openDevice } from "./open-device.ts";
import { Ort, floats } from "./ort.ts";

describe("the processor as a device", () => {
  let ort: Ort;
  let device: Device;
  before(() => {
    ort = new Ort({ threadCount: 1, spin: false });
    device = openDevice("cpu", ort);
  });
  after(() => {
    device.close();
    ort.close();
  });

  it("is the drift class's own name, without a probe", () => {
    expect(deviceClass(device)).to.equal(device.name);
    expect(device.name).to.match(/^cpu-(x64|arm64)-[a-z0-9-]+$/);
  });

  it("has zeroed buffers of each type, which are our own memory", () => {
    for (const [type, kind] of [
      ["f32", Float32Array],
      ["f16", Uint16Array],
      ["int8", Int8Array],
      ["uint8", Uint8Array],
      ["int32", Int32Array],
    ] as const) {
      const { values } = device.buffer(3, 5, type);
      expect(values).to.deep.equal(new kind(15));
    }
  });

  it("takes tensors over any rows of a buffer, and copies rows", () => {
    const graph = new GraphBuilder("double");
    graph.node("Add", [graph.input("x", ["S", 4]), "x"], ["y"]);
    graph.output("y", ["S", 4]);
    const buffer = device.buffer(6, 4);
    const out = device.shared(floats(6 * 4), 4);
    floatsOf(buffer).forEach((_, at, all) => {
      all[at] = at;
    });
    const [x, y] = [device.tensor(buffer, 2, [3, 4]), device.tensor(out, 1, [3, 4])];
    const binding = device.session(graph.encode()).bind({ x }, { y });
    binding.run();
    expect([...readRows(device, out, 1, 3)]).to.deep.equal(Array.from({ length: 12 }, (_, at) => 2 * (8 + at)));
    device.copyRows(out, 1, buffer, 5, 1);
    expect([...floatsOf(buffer).subarray(20)]).to.deep.equal([16, 18, 20, 22]);
    for (const each of [binding, x, y]) each.close();
  });

  it("finds a tensor that leaves its buffer to be a bug", () => {
    const buffer = device.buffer(6, 4);
    expect(() => device.tensor(buffer, 4, [3, 4])).to.throw("a tensor lies within its buffer");
    expect(() => device.tensor(buffer, -1, [1, 4])).to.throw("a tensor lies within its buffer");
  });
});

describe("a device that a node lacks", () => {
  let ort: Ort;
  before(() => {
    ort = new Ort({ threadCount: 1, spin: false });
  });
  after(() => ort.close());

  function refusal(kind: string): RefusalError {
    try {
      openDevice(kind, ort).close();
    } catch (cause) {
      if (cause instanceof RefusalError) return cause;
      throw cause;
    }
    return expect.fail(`this machine has ${kind}: run the suite where it has not`);
  }

  const CASES: readonly (readonly [kind: string, says: RegExp])[] = [
    ["tpu", /it is none of cpu, webgpu, cuda, coreml, directml/],
    ["CPU", /it is none of cpu/],
    ["constructor", /it is none of cpu/],
    ["cuda", /TESSELLATE_ENGINE_LIBRARY.*GPU/],
    ...(process.platform === "darwin" ? [] : [["coreml", /a Mac/] as const]),
    ...(process.platform === "win32" ? [] : [["directml", /Windows/] as const]),
  ];
  for (const [kind, says] of CASES)
    it(`${kind}: is refused by name, with what there is and what to do`, () => {
      const { code, message } = refusal(kind);
      expect(code).to.equal("DeviceMissing");
      expect(message).to.match(says);
      expect(message).to.include(`device ${JSON.stringify(kind)} cannot be had on this node`);
      expect(message).to.include("cpu always works").and.include(ort.version);
    });
});

describe("a device, before anything is fetched for it", () => {
  const check = (device: string) =>
    checkDevice({ device, config: aModelConfig(), quantization: "f32" }).catch((cause: unknown) => cause);

  it("the processor needs no look", async () => expect(await check("cpu")).to.equal(undefined));

  it("is refused as the engine would refuse it", async () => {
    for (const device of ["cuda", "tpu"]) {
      const refusal = await check(device);
      expect(refusal).to.be.instanceOf(RefusalError).with.property("code", "DeviceMissing");
      expect(refusal).to.have.property("message").that.includes(`device "${device}" cannot be had on this node`);
    }
  });
});

describe("an adapter's name", () => {
  for (const [name, expected] of [
    ["SwiftShader Device (Subzero)", "swiftshader-device-subzero"],
    ["NVIDIA GeForce RTX 4090", "nvidia-geforce-rtx-4090"],
    ["AMD Radeon RX 7900 XTX (RADV NAVI31)", "amd-radeon-rx-7900-xtx-radv-navi31"],
  ] as const)
    it(`${name}: ${expected}`, () => expect(slug(name)).to.equal(expected));
  it("is words and numbers only", () => expect(slug(" Ünïcode™ GPU/2 ")).to.equal("n-code-gpu-2"));
});
