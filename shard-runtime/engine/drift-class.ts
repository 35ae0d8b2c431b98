/**
 * The name of the class of computations that give the same bits: engine build × device × dtype of activations ×
 * quantisation × tensor-parallel degree × what sessions keep. Measured, not hoped for, where it can be: what the processor offers decides
 * which kernels run, so the instruction set is part of the device. Thread counts are not: they change no bit.
 */
import { readFileSync } from "node:fs";
import { arch, cpus, platform } from "node:os";
import type { KvDtype } from "../../core/kv-cache.ts";
import type { Device } from "./device.ts";
import { probe } from "./device-probe.ts";
import type { Ort } from "./ort.ts";
import type { PackFormat } from "./shard.ts";

export type DriftFacts = {
  readonly engine: string; // onnxruntime 1.30.0 and the commit it was built from
  readonly device: string; // cpu-x64-avx512vnni
  readonly quantization: PackFormat;
  readonly rankCount: number;
  readonly kvDtype: KvDtype;
};

/** `ort-1.30.0-f2c39fe2f/cpu-x64-avx512vnni/f32/int4/tp2`; `…/tp2/kv-int8` where keys and values are kept so. */
export const driftClass = ({ engine, device, quantization, rankCount, kvDtype }: DriftFacts): string =>
  `${engine}/${device}/f32/${quantization}/tp${rankCount}${kvDtype === "f32" ? "" : `/kv-${kvDtype}`}`;

/** Receipts carry the class in 200 characters at most. */
const DEVICE_CHARACTERS_MAX = 120;

/**
 * The device as it really runs a shard: its name; on the processor the version of our own products where they run; elsewhere
 * what a probe gave there, and the operators that were left to the processor, whose instructions count as well then. Call
 * it when all graphs are loaded.
 */
export function deviceClass(device: Device, productsVersion?: number): string {
  if (device.kind === "cpu")
    return productsVersion === undefined ? device.name : `${device.name}+products${productsVersion}`;
  const { onTheCpu, attentionRowCountMax } = device;
  const isPieced = attentionRowCountMax < Number.MAX_SAFE_INTEGER;
  const kernels = `${device.name}-${probe(device)}${isPieced ? `-attention${attentionRowCountMax}` : ""}`;
  const all = onTheCpu.length === 0 ? kernels : `${kernels}+${cpuDevice()}-${onTheCpu.join("-")}`;
  return all.slice(0, DEVICE_CHARACTERS_MAX);
}

export function engineBuild(ort: Ort): string {
  const commit = /git-commit-id=([0-9a-f]+)/.exec(ort.buildInfo)?.[1] ?? "unknown";
  return `ort-${ort.version}-${commit}`;
}

/** The widest instructions that the engine's kernels choose between, from the best down. */
const X64_SETS: readonly (readonly [name: string, flags: readonly string[]])[] = [
  ["avx512vnni", ["avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"]],
  ["avx512", ["avx512f", "avx512bw", "avx512dq", "avx512vl"]],
  ["avxvnni", ["avx2", "fma", "avx_vnni"]],
  ["avx2", ["avx2", "fma"]],
];

/** `cpu-x64-avx512vnni`; where the system does not tell the instruction set, the processor's own name stands for it. */
export function cpuDevice(): string {
  const set = platform() === "linux" ? linuxInstructionSet() : undefined;
  return `cpu-${arch()}-${set ?? (cpus()[0]?.model ?? "unknown").toLowerCase().replace(/[^a-z0-9]+/g, "-")}`;
}

function linuxInstructionSet(): string | undefined {
  let text: string;
  try {
    text = readFileSync("/proc/cpuinfo", "utf8");
  } catch {
    return undefined;
  }
  return instructionSet(text);
}

/** From the text of /proc/cpuinfo: x64 has `flags`, arm64 `Features`. */
export function instructionSet(cpuinfo: string): string | undefined {
  const flags = new Set(/^(?:flags|Features)\s*:\s*(.*)$/m.exec(cpuinfo)?.[1]?.split(" "));
  const found = X64_SETS.find(([, needed]) => needed.every((flag) => flags.has(flag)))?.[0];
  if (found !== undefined) return found;
  if (flags.has("i8mm")) return "i8mm";
  if (flags.has("asimddp")) return "dotprod";
  return flags.has("asimd") ? "neon" : undefined;
}
