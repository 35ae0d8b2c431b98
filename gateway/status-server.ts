/** Plain HTTP for probes and Prometheus: /healthz, /readyz, /metrics. */
import { type Server, createServer } from "node:http";
import type { Registry } from "prom-client";

/** Answers on `host:port` (port 0: any free one); resolves with the address bound. `unready`: why not, undefined if ready. */
export async function openStatusServer(options: {
  readonly host: string;
  readonly port: number;
  readonly registry: Registry;
  readonly unready: () => string | undefined;
}): Promise<{ readonly port: number; close(): Promise<void> }> {
  const server = createServer((request, response) => {
    const answer = async (): Promise<readonly [status: number, type: string, body: string]> => {
      switch (request.url) {
        case "/healthz":
          return [200, "text/plain", "ok\n"];
        case "/readyz": {
          const why = options.unready();
          return why === undefined ? [200, "text/plain", "ok\n"] : [503, "text/plain", `${why}\n`];
        }
        case "/metrics":
          return [200, options.registry.contentType, await options.registry.metrics()];
        default:
          return [404, "text/plain", "only /healthz, /readyz and /metrics are here\n"];
      }
    };
    answer().then(
      ([status, type, body]) => response.writeHead(status, { "content-type": type }).end(body),
      () => response.writeHead(500).end(),
    );
  });
  const port = await listen(server, options.host, options.port);
  return {
    port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
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
