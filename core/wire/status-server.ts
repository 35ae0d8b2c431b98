/** Plain HTTP for probes and Prometheus: /healthz (this process answers), /readyz (it does its work), /metrics. */
import { type Server, createServer } from "node:http";
import { setImmediate as soon } from "node:timers/promises";
import { type ReadProgress, progressHeaders } from "../read-progress.ts";
import { hostPort } from "./door.ts";

export type StatusServer = { readonly port: number; readonly address: string; close(): Promise<void> };

/** What /metrics needs of prom-client's Registry. */
type Metrics = {
  readonly contentType: string;
  getMetricsAsArray(): readonly { readonly name: string }[];
  getSingleMetricAsString(name: string): Promise<string>;
};

/**
 * Answers on `host:port` (port 0: any free one). `unready`: why not, in a line; undefined where it is ready. It must
 * answer soon: a probe does not wait. `progress`: how far it is in what it reads first; see read-progress.ts.
 */
export async function openStatusServer(options: {
  readonly host: string;
  readonly port: number;
  readonly registry: Metrics;
  readonly unready: () => string | undefined | Promise<string | undefined>;
  readonly progress?: () => ReadProgress | undefined;
}): Promise<StatusServer> {
  const { host, registry, unready, progress } = options;
  const text = (status: number, body: string, headers: Record<string, string> = {}) => ({
    status,
    headers: { ...headers, "content-type": "text/plain; charset=utf-8" },
    body: `${body}\n`,
  });
  const answer = async (path: string | undefined) => {
    if (path === "/healthz") return text(200, "ok");
    if (path === "/readyz") {
      const why = await unready();
      if (why === undefined) return text(200, "ok");
      const far = progress?.();
      return text(503, why, far === undefined ? {} : progressHeaders(far));
    }
    if (path === "/metrics")
      return { status: 200, headers: { "content-type": registry.contentType }, body: await written(registry) };
    return text(404, "only /healthz, /readyz and /metrics are here");
  };
  const server = createServer((request, response) => {
    answer(request.url).then(
      ({ status, headers, body }) => response.writeHead(status, headers).end(body),
      () => response.writeHead(500).end(),
    );
  });
  const port = await listen(server, host, options.port);
  return {
    port,
    address: hostPort(host, port),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** As the registry would write all of it at once, which of thousands of series holds the loop for as long as it takes. */
async function written(registry: Metrics): Promise<string> {
  const metrics: string[] = [];
  for (const { name } of registry.getMetricsAsArray()) {
    metrics.push(await registry.getSingleMetricAsString(name));
    await soon();
  }
  return `${metrics.join("\n\n")}\n`;
}

function listen(server: Server, host: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", (cause) => reject(new Error(`cannot listen on ${host}:${port}`, { cause })));
    server.listen(port, host, () => {
      const address = server.address();
      resolve(typeof address === "object" && address !== null ? address.port : port);
    });
  });
}
