/** Plain HTTP for probes and Prometheus: /healthz, /readyz, /metrics. */
import { type Server, createServer } from "node:http";
import { setTimeout as after } from "node:timers/promises";
import type { Registry } from "prom-client";

const READY_TIMEOUT_MS = 2_000;

/** Answers on `host:port` (port 0: any free one). `ready` rejects where the ledger cannot do its work now. */
export async function openStatusServer(options: {
  readonly host: string;
  readonly port: number;
  readonly registry: Registry;
  readonly ready: () => Promise<void>;
}): Promise<{ readonly address: string; close(): Promise<void> }> {
  const { host, registry, ready } = options;
  const server = createServer((request, response) => {
    const path = request.url?.split("?")[0];
    const answer = async (): Promise<readonly [status: number, type: string, body: string]> => {
      if (path === "/healthz") return [200, "text/plain", "ok\n"];
      if (path === "/readyz") return readiness(ready);
      if (path === "/metrics") return [200, registry.contentType, await registry.metrics()];
      return [404, "text/plain", "only /healthz, /readyz and /metrics are here\n"];
    };
    answer().then(
      ([status, type, body]) => response.writeHead(status, { "content-type": type }).end(body),
      () => response.writeHead(503, { "content-type": "text/plain" }).end("the store is out of reach\n"),
    );
  });
  const port = await listen(server, host, options.port);
  return {
    address: host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function readiness(ready: () => Promise<void>): Promise<readonly [status: number, type: string, body: string]> {
  const over = new AbortController();
  const late = after(READY_TIMEOUT_MS, "late" as const, { signal: over.signal }).catch(() => "late" as const);
  const state = await Promise.race([
    ready().then(
      () => "ready" as const,
      () => "away" as const,
    ),
    late,
  ]);
  over.abort();
  return state === "ready"
    ? [200, "text/plain", "ok\n"]
    : [503, "text/plain", `the store is ${state === "late" ? "slow" : "out of reach"}\n`];
}

function listen(server: Server, host: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", (error) => reject(new Error(`cannot listen on ${host}:${port}`, { cause: error })));
    server.listen(port, host, () => {
      const address = server.address();
      resolve(typeof address === "object" && address !== null ? address.port : port);
    });
  });
}
