/** Plain HTTP for probes and Prometheus: /healthz, /readyz, /metrics. */
import { type Server, createServer } from "node:http";
import type { Registry } from "prom-client";

export type StatusServer = { readonly address: string; close(): Promise<void> };

/** Answers on `host:port` (port 0: any free one). `unready`: why not, undefined where it is ready. */
export async function openStatusServer(options: {
  readonly host: string;
  readonly port: number;
  readonly registry: Registry;
  readonly unready: () => string | undefined;
}): Promise<StatusServer> {
  const { host, registry, unready } = options;
  const answer = async (
    path: string | undefined,
  ): Promise<{ readonly status: number; readonly type: string; readonly body: string }> => {
    const text = (status: number, body: string) => ({ status, type: "text/plain; charset=utf-8", body: `${body}\n` });
    if (path === "/healthz") return text(200, "ok");
    if (path === "/readyz") return text(unready() === undefined ? 200 : 503, unready() ?? "ok");
    if (path === "/metrics") return { status: 200, type: registry.contentType, body: await registry.metrics() };
    return text(404, "only /healthz, /readyz and /metrics are here");
  };
  const server = createServer((request, response) => {
    answer(request.url).then(
      ({ status, type, body }) => response.writeHead(status, { "content-type": type }).end(body),
      () => response.writeHead(500).end(),
    );
  });
  const port = await listen(server, host, options.port);
  return {
    address: `${host}:${port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
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
