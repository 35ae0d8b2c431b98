/** The doors of measuring to the real machine: how busy it is, what it takes for a layer, how far another agent is. */
import { execFile } from "node:child_process";
import { cpus } from "node:os";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { closeClient } from "@grpc/grpc-js";
import type { Clock } from "../../core/clock.ts";
import type { EchoReply__Output } from "../../core/gen/proto/tessellate/agent/v1/EchoReply.ts";
import { AGENT } from "../../core/identity.ts";
import { isJsonObject, parseJson } from "../../core/json.ts";
import { valueOrThrow } from "../../core/result.ts";
import { ask, dial } from "../../core/wire/door.ts";
import type { Tls } from "../../core/wire/tls.ts";
import type { Gpu } from "../engine/adapters.ts";
import { medianMs } from "../measure/round-trip.ts";
import type { LinkFigures, MachineFigures, Part } from "./measuring.ts";

const run = promisify(execFile);

const SAMPLE_MS = 2_000;
const MEASURE_TIMEOUT_MS = 600_000;
const ECHO_TIMEOUT_MS = 20_000;
const ECHO_BYTES_MAX = 4 << 20;
/** A round that takes less is mostly the call itself: the next one carries twice as much. */
const ROUND_MS_MIN = 50;
const ROUND_COUNT = 3;

/** Share of the machine's processors that were busy during two seconds, with whatever. */
export async function busyShare(clock: Clock): Promise<number> {
  const sum = () =>
    cpus()
      .map(({ times }) => ({ idle: times.idle, all: Object.values(times).reduce((total, ms) => total + ms, 0) }))
      .reduce((total, each) => ({ idle: total.idle + each.idle, all: total.all + each.all }));
  const before = sum();
  await clock.sleep(SAMPLE_MS);
  const after = sum();
  const all = after.all - before.all;
  return all > 0 ? 1 - (after.idle - before.idle) / all : 0;
}

const BODY = fileURLToPath(new URL("./measure-body.ts", import.meta.url));
const LIST_TIMEOUT_MS = 60_000;

/** What GPUs' drivers say, asked in a process of its own, since a driver may end the one that asks. None: nothing. */
export async function driversGpus(): Promise<readonly Gpu[]> {
  const { stdout } = await run(process.execPath, [BODY, "--list-gpus"], { timeout: LIST_TIMEOUT_MS });
  return JSON.parse(stdout); // our own process wrote it
}

/** Throws weather where the measuring process failed, with its last words. */
export async function measureMachine(
  { device, threadCount }: Part,
  options: { readonly cacheDirectory: string; readonly layers: boolean },
): Promise<MachineFigures> {
  const args = [BODY, "--device", device, "--threads", String(threadCount), "--cache", options.cacheDirectory];
  const { stdout } = await run(process.execPath, [...args, ...(options.layers ? ["--layers"] : [])], {
    timeout: MEASURE_TIMEOUT_MS,
  });
  const value = parseJson(stdout);
  if (!isJsonObject(value)) throw new Error(`the measuring process said ${JSON.stringify(stdout.slice(0, 200))}`);
  return value as MachineFigures; // our own process wrote it
}

/** Round trip and bandwidth to another agent, by at most some 30 MiB. Throws a RefusalError where it does not answer. */
export async function measureLink(address: string, tls: Tls, clock: Clock): Promise<LinkFigures> {
  const client = dial("NodeAgent", address, tls, AGENT);
  const echo = async (payload: Buffer): Promise<void> => {
    valueOrThrow(
      await ask<EchoReply__Output>(`the agent at ${address}`, ECHO_TIMEOUT_MS, (options, callback) =>
        client.Echo({ payload }, options, callback),
      ),
    );
  };
  try {
    const roundTripMs = await medianMs(() => echo(Buffer.alloc(0)), clock);
    let best = 0;
    for (let byteCount = 64 << 10, round = 0; round < ROUND_COUNT; ) {
      const startMs = clock.monotonicMs();
      await echo(Buffer.alloc(byteCount));
      const tookMs = clock.monotonicMs() - startMs;
      best = Math.max(best, (1000 * byteCount) / Math.max(0.01, tookMs - roundTripMs));
      if (tookMs < ROUND_MS_MIN && byteCount < ECHO_BYTES_MAX) byteCount *= 2;
      else round += 1;
    }
    return { roundTripMicros: Math.round(1000 * roundTripMs), bytesPerSecond: Math.round(best) };
  } finally {
    closeClient(client);
  }
}
