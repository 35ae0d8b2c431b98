/** The little of a kubelet's own HTTPS endpoint that `kubectl logs` needs; only the API server's certificate gets in. */
import { readFileSync } from "node:fs";
import type { TLSSocket } from "node:tls";
import { createServer } from "node:https";
import type { KeyPair } from "./certificates.ts";

export interface LogQuery {
  readonly namespace: string;
  readonly pod: string;
  readonly container: string;
  /** The run before the current one. */
  readonly previous: boolean;
}

export interface KubeletServer {
  readonly port: number;
  close(): void;
}

/** Listens on every loopback address, since each node has its own. `logFile` answers undefined for what it never ran. */
export async function startKubeletServer(
  authority: string,
  pair: KeyPair,
  logFile: (query: LogQuery) => string | undefined,
): Promise<KubeletServer> {
  const server = createServer(
    { ca: authority, cert: pair.certificate, key: pair.key, requestCert: true, rejectUnauthorized: true },
    (request, response) => {
      const url = new URL(request.url ?? "/", "https://kubelet");
      const [, kind, namespace, pod, container] = url.pathname.split("/");
      const previous = url.searchParams.get("previous") === "true";
      const known = kind === "containerLogs" && namespace !== undefined && pod !== undefined && container !== undefined;
      const file = known ? logFile({ namespace, pod, container, previous }) : undefined;
      if (file === undefined) return response.writeHead(404).end("the process-kubelet has no such log\n");
      const lines = readFileSync(file, "utf8").split(/(?<=\n)/);
      const tail = url.searchParams.get("tailLines");
      return response.writeHead(200).end((tail === null ? lines : lines.slice(-Number(tail))).join(""));
    },
  );
  // A peer that goes away mid-handshake is its own business.
  server.on("tlsClientError", (_: Error, socket: TLSSocket) => socket.destroy());
  const port = await new Promise<number>((resolve, reject) => {
    server.once("error", reject).listen(0, "127.0.0.1", () => {
      const address = server.address();
      resolve(typeof address === "object" && address !== null ? address.port : 0);
    });
  });
  return {
    port,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}
