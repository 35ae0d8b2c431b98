/** What a node agent says of a node, as it stands in the ShardNode's status, and whether it is worth a write. */
import type { Device__Output } from "../../core/gen/proto/tessellate/agent/v1/Device.ts";
import type { Measured__Output } from "../../core/gen/proto/tessellate/agent/v1/Measured.ts";
import type { NodeReport__Output } from "../../core/gen/proto/tessellate/agent/v1/NodeReport.ts";
import type { ShardNode, ShardNodeStatus, ShardNodeStatusMeasured } from "../../core/gen/crds/shardnode.ts";
import { sameJson } from "../kube/same.ts";

export type NodeFindings = Pick<ShardNodeStatus, "offer" | "devices" | "measured">;

const OFFER_BYTES_MAX = 8_192;
const DEVICE_COUNT_MAX = 64;
const NAME_LENGTH_MAX = 200;
/** Two measurements of one machine differ by some percent: a plan is not thought over for that. */
const DIFFERENCE_MAX = 0.15;
const DAY_MS = 86_400_000;

/** Bounded, and only what the schema takes: an agent runs on somebody else's machine. */
export function findingsOf(report: NodeReport__Output, devices: readonly Device__Output[]): NodeFindings {
  const measured = report.measured === null ? undefined : measuredOf(report.measured);
  return {
    ...(report.offer.length > 0 && report.offer.length <= OFFER_BYTES_MAX ? { offer: report.offer.toString() } : {}),
    devices: devices.slice(0, DEVICE_COUNT_MAX).map(({ kind, name, memoryBytes, freeBytes }) => ({
      kind: kind === "gpu" ? "gpu" : "cpu",
      name: name.slice(0, NAME_LENGTH_MAX),
      ...(Number(memoryBytes) > 0 ? { memoryBytes: Number(memoryBytes) } : {}),
      ...(Number(freeBytes) > 0 ? { freeBytes: Number(freeBytes) } : {}),
    })),
    ...(measured === undefined ? {} : { measured }),
  };
}

function measuredOf({ time, memoryBytesPerSecond, layerTimes, links }: Measured__Output): ShardNodeStatusMeasured {
  const atMs = Date.parse(time);
  return {
    ...(Number.isNaN(atMs) ? {} : { time: new Date(atMs).toISOString().replace(/\.\d+Z$/, "Z") }),
    ...(Number(memoryBytesPerSecond) > 0 ? { memoryBytesPerSecond: Number(memoryBytesPerSecond) } : {}),
    ...(layerTimes === null || Number(layerTimes.bytes) < 1
      ? {}
      : {
          layerTimes: {
            bytes: Number(layerTimes.bytes),
            oneMicros: positive(layerTimes.oneMicros),
            manyMicros: positive(layerTimes.manyMicros),
            manyRows: layerTimes.manyRows,
          },
        }),
    links: links
      .filter(({ to, bytesPerSecond }) => to !== "" && Number(bytesPerSecond) >= 1)
      .map(({ to, roundTripMicros, bytesPerSecond }) => ({
        to,
        roundTripMicros: positive(roundTripMicros),
        bytesPerSecond: Number(bytesPerSecond),
      }))
      .sort(byName),
  };
}

/**
 * With what the status says already of figures that are missing here: an agent that has just started has not measured
 * everything again yet. Ways to nodes that are gone (not in `names`) are forgotten.
 */
export function withBefore(found: NodeFindings, { status }: ShardNode, names: ReadonlySet<string>): NodeFindings {
  const before = status?.measured;
  if (found.measured === undefined || before === undefined) return found;
  const { links = [] } = found.measured;
  const known = new Set(links.map(({ to }) => to));
  const kept = (before.links ?? []).filter(({ to }) => !known.has(to) && names.has(to));
  return { ...found, measured: { ...before, ...found.measured, links: [...links, ...kept].sort(byName) } };
}

const byName = (a: { readonly to: string }, b: { readonly to: string }): number => (a.to < b.to ? -1 : 1);

/** Whether the status says less than this, or something else by more than measuring varies. */
export function isNews({ status }: ShardNode, found: NodeFindings): boolean {
  if (found.offer !== undefined && found.offer !== status?.offer) return true;
  if (!sameJson(found.devices, status?.devices)) return true;
  return found.measured !== undefined && !near(status?.measured, found.measured);
}

function near(before: ShardNodeStatusMeasured | undefined, now: ShardNodeStatusMeasured): boolean {
  if (before === undefined) return false;
  const [was, is] = [figuresIn(before), figuresIn(now)];
  const isSame = [...is].every(([name, value]) => {
    const old = was.get(name);
    return old !== undefined && Math.abs(value - old) <= DIFFERENCE_MAX * Math.max(value, old);
  });
  const newerMs = Date.parse(now.time ?? "") - Date.parse(before.time ?? "");
  return isSame && was.size === is.size && !(newerMs >= DAY_MS);
}

function figuresIn({ memoryBytesPerSecond, layerTimes, links = [] }: ShardNodeStatusMeasured) {
  const figures = new Map<string, number>();
  if (memoryBytesPerSecond !== undefined) figures.set("memory", memoryBytesPerSecond);
  if (layerTimes !== undefined) {
    figures.set("one", layerTimes.oneMicros).set("many", layerTimes.manyMicros);
  }
  for (const { to, roundTripMicros, bytesPerSecond } of links)
    figures.set(`${to} round trip`, roundTripMicros).set(`${to} width`, bytesPerSecond);
  return figures;
}

const positive = (micros: number): number => (Number.isFinite(micros) && micros > 0 ? micros : 0);
