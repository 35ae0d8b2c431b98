/** Ranks that are still reading the model, as far as the operator can see: their /readyz, and nothing behind it. */
import { Registry } from "prom-client";
import type { ReadProgress } from "../../core/read-progress.ts";
import { openStatusServer } from "../../core/wire/status-server.ts";
import { METRICS_PORT } from "../../operator/apply/rank-objects.ts";

/** One for each address; resolves to what closes them. */
export async function startReadingRanks(
  ranks: readonly (readonly [host: string, progress: ReadProgress])[],
): Promise<() => Promise<void>> {
  const doors = await Promise.all(
    ranks.map(([host, progress]) => {
      return openStatusServer({
        host,
        port: METRICS_PORT,
        registry: new Registry(),
        unready: () => "Packing",
        progress: () => progress,
      });
    }),
  );
  return async () => {
    await Promise.all(doors.map((door) => door.close()));
  };
}
