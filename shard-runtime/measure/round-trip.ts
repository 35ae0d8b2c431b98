/** How long a call to another node and its answer take, over the transport that serves: gRPC, mTLS, one open connection. */
import { closeClient } from "@grpc/grpc-js";
import type { Clock } from "../../core/clock.ts";
import type { Description__Output } from "../../core/gen/proto/tessellate/shard/v1/Description.ts";
import { valueOrThrow } from "../../core/result.ts";
import { ask, dial } from "../../core/wire/door.ts";
import type { Tls } from "../../core/wire/tls.ts";

export type FarRank = { readonly name: string; readonly address: string }; // <namespace>/<pod's name>, host:port

const TIMEOUT_MS = 10_000;
const WARM_UP_COUNT = 5;
const CALL_COUNT = 30;

/** Microseconds, the median of some. Throws a RefusalError where the rank does not answer. */
export async function measureRoundTrip({ name, address }: FarRank, tls: Tls, clock: Clock): Promise<number> {
  const client = dial("ShardRuntime", address, tls, { kind: "rank", name });
  try {
    const describe = async (): Promise<void> => {
      valueOrThrow(
        await ask<Description__Output>(`rank ${name} at ${address}`, TIMEOUT_MS, (options, callback) =>
          client.Describe({}, options, callback),
        ),
      );
    };
    return Math.round(1000 * (await medianMs(describe, clock)));
  } finally {
    closeClient(client);
  }
}

/** Median of some calls, one after the other, after the first few that open the connection. */
export async function medianMs(call: () => Promise<void>, clock: Clock): Promise<number> {
  const times: number[] = [];
  for (let index = -WARM_UP_COUNT; index < CALL_COUNT; index += 1) {
    const startMs = clock.monotonicMs();
    await call();
    if (index >= 0) times.push(clock.monotonicMs() - startMs);
  }
  return times.sort((a, b) => a - b)[CALL_COUNT >> 1] ?? 0;
}
