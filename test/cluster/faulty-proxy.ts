/**
 * A proxy in front of a real API server that behaves as badly as balancers, networks and lagging servers do. TLS on
 * both sides; it is cluster-admin towards the server unless a request brings a token of its own. Faults are injected one
 * at a time and take effect on the watches that are open and the requests that come next.
 */
import { writeFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { Agent, type Server, createServer, request as httpsRequest } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { join } from "node:path";
import type { ControlPlane } from "./control-plane.ts";
import { WatchThrough } from "./faulty-watch.ts";

/** What can go wrong with the connection or an answer. */
export const REQUEST_FAULTS = ["close", "reset", "half-open", "hang", "gone", "busy", "error", "slow", "cut"] as const;
/** What can go wrong within a watch that seems to be in order. */
export const EVENT_FAULTS = ["idle-kill", "gone-within", "half-line", "told-twice", "dropped", "ghosts"] as const;
/** A list as it was a while ago. */
export const LIST_FAULTS = ["old-list"] as const;
export const FAULTS = [...REQUEST_FAULTS, ...EVENT_FAULTS, ...LIST_FAULTS] as const;
export type Fault = (typeof FAULTS)[number];

export type FaultyProxy = {
  /** A kubeconfig file of whoever goes through the proxy. */
  readonly kubeconfig: string;
  readonly url: string;
  /** How often each fault has taken effect. */
  readonly counts: ReadonlyMap<Fault, number>;
  /** `METHOD path` of what changes the cluster, in order of arrival; leases apart, which are renewed all the time. */
  readonly writes: string[];
  inject(fault: Fault): void;
  /** Takes back what has not taken effect yet. */
  calm(): void;
  close(): Promise<void>;
};

const OLD_LIST_COUNT_MAX = 5;
const BUSY_SECONDS = 1;
const DRIBBLE_MS = 2;
const DRIBBLE_BYTES = 2_000;
const status = (code: number, reason: string) =>
  JSON.stringify({ kind: "Status", apiVersion: "v1", status: "Failure", code, reason, message: `injected: ${reason}` });

export async function startFaultyProxy(cluster: ControlPlane): Promise<FaultyProxy> {
  const proxy = new ProxyServer(cluster);
  await proxy.start();
  return proxy;
}

class ProxyServer implements FaultyProxy {
  readonly counts = new Map<Fault, number>();
  readonly writes: string[] = [];
  readonly #cluster: ControlPlane;
  readonly #watches = new Set<WatchThrough>();
  readonly #sockets = new Map<number, Socket>(); // beneath TLS, by the port of the other side
  readonly #oldLists = new Map<string, string[]>(); // first pages, by what was asked for
  readonly #answers: Fault[] = []; // faults that wait for a request
  #server: Server | undefined;
  #agent = new Agent();
  kubeconfig = "";
  url = "";

  constructor(cluster: ControlPlane) {
    this.#cluster = cluster;
  }

  async start(): Promise<void> {
    const { authority, directory } = this.#cluster;
    const [front, admin] = await Promise.all([
      authority.issue({ commonName: "faulty-proxy", dnsNames: ["localhost"], addresses: ["127.0.0.1"] }),
      authority.issue({ commonName: "admin", organizations: ["system:masters"] }),
    ]);
    this.#agent = new Agent({ ca: authority.certificate, cert: admin.certificate, key: admin.key, keepAlive: true });
    const server = createServer({ cert: front.certificate, key: front.key }, (request, response) => {
      this.#serve(request, response).catch(() => response.destroy());
    });
    server.on("connection", (socket: Socket) => {
      const { remotePort } = socket;
      if (remotePort === undefined) return;
      this.#sockets.set(remotePort, socket);
      socket.once("close", () => this.#sockets.delete(remotePort)).on("error", () => undefined);
    });
    this.#server = server;
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    this.url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
    this.kubeconfig = join(directory, `faulty-${new URL(this.url).port}.kubeconfig`);
    const ca = Buffer.from(authority.certificate).toString("base64");
    const text = JSON.stringify({
      apiVersion: "v1",
      kind: "Config",
      "current-context": "test",
      clusters: [{ name: "test", cluster: { server: this.url, "certificate-authority-data": ca } }],
      users: [{ name: "test", user: {} }],
      contexts: [{ name: "test", context: { cluster: "test", user: "test" } }],
    });
    writeFileSync(this.kubeconfig, text, { mode: 0o600 });
  }

  inject(fault: Fault): void {
    if (fault === "close" || fault === "reset" || fault === "half-open") {
      for (const watch of this.#watches) {
        if (fault === "close") watch.end();
        else if (fault === "half-open") watch.freeze();
        else this.#reset(watch.response);
      }
      this.#happened(fault);
    } else if ((EVENT_FAULTS as readonly Fault[]).includes(fault)) {
      for (const watch of this.#watches) watch.inject(fault, () => this.#happened(fault));
    } else {
      // Whoever watches comes back at once, to be answered so.
      this.#answers.push(...(fault === "busy" || fault === "error" ? [fault, fault] : [fault]));
      for (const watch of this.#watches) watch.end();
      // A list is asked for only where the watch cannot go on.
      if (fault === "old-list") this.#answers.unshift("gone");
    }
  }

  calm(): void {
    this.#answers.length = 0;
    for (const watch of this.#watches) watch.end();
  }

  async close(): Promise<void> {
    const server = this.#server;
    for (const watch of this.#watches) watch.end();
    server?.closeAllConnections();
    await new Promise((resolve) => (server === undefined ? resolve(undefined) : server.close(resolve)));
    this.#agent.destroy();
  }

  #happened(fault: Fault): void {
    this.counts.set(fault, (this.counts.get(fault) ?? 0) + 1);
  }

  #reset(response: ServerResponse): void {
    const { remotePort } = response.req.socket;
    const socket = remotePort === undefined ? undefined : this.#sockets.get(remotePort);
    if (socket === undefined) response.destroy();
    else socket.resetAndDestroy();
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = "GET", url = "/" } = request;
    const path = url.split("?")[0] ?? url;
    if (method !== "GET" && !path.includes("/leases")) this.writes.push(`${method} ${path}`);
    const isWatch = /[?&]watch=(1|true)(&|$)/.test(url);
    const fault = method === "GET" ? this.#faultFor(isWatch) : undefined;
    if (fault !== undefined) this.#happened(fault);
    switch (fault) {
      case "hang":
        return; // for good; the other side has to give up
      case "gone":
        return refuse(response, 410, "Expired");
      case "error":
        return refuse(response, 500, "InternalError");
      case "busy":
        response.setHeader("retry-after", String(BUSY_SECONDS));
        return refuse(response, 429, "TooManyRequests");
      default:
        return isWatch
          ? this.#watch(request, response, fault)
          : this.#answer(
              request,
              response,
              fault === "old-list" ? fault : fault === "cut" || fault === "slow" ? fault : undefined,
            );
    }
  }

  /** Old lists wait for a list; 410 is for watches; everything else takes whatever comes. */
  #faultFor(isWatch: boolean): Fault | undefined {
    const index = this.#answers.findIndex((fault) =>
      fault === "old-list" ? !isWatch : fault === "gone" ? isWatch : true,
    );
    return index < 0 ? undefined : this.#answers.splice(index, 1)[0];
  }

  #watch(request: IncomingMessage, response: ServerResponse, fault: Fault | undefined): void {
    this.#forward(request, response, (answer) => {
      if (answer.statusCode !== 200) {
        response.writeHead(answer.statusCode ?? 502, { "content-type": "application/json" });
        answer.pipe(response);
        return;
      }
      const watch = new WatchThrough(answer, response, fault === "slow");
      this.#watches.add(watch);
      response.once("close", () => this.#watches.delete(watch));
      if (fault === "cut") watch.inject("half-line", () => undefined);
    });
  }

  #answer(request: IncomingMessage, response: ServerResponse, fault: Fault | undefined): void {
    this.#forward(request, response, (answer) => {
      const chunks: Buffer[] = [];
      answer.on("data", (chunk: Buffer) => chunks.push(chunk));
      answer.on("error", () => response.destroy());
      answer.on("end", () => {
        const whole = Buffer.concat(chunks);
        const body = request.method === "GET" ? this.#listFor(request, whole, fault) : whole;
        const type = answer.headers["content-type"] ?? "application/json";
        response.writeHead(answer.statusCode ?? 502, { "content-type": type }); // chunked: no length tells a cut
        if (fault === "cut") response.end(body.subarray(0, body.length / 2));
        else if (fault === "slow") void dribble(response, body);
        else response.end(body);
      });
    });
  }

  /** `whole`, remembered; or, where that is the fault, what was answered some time ago. */
  #listFor(request: IncomingMessage, whole: Buffer, fault: Fault | undefined): Buffer {
    const key = `${request.headers.accept} ${request.url}`;
    const known = this.#oldLists.get(key) ?? [];
    const oldest = known[0];
    if (fault === "old-list" && oldest !== undefined) return Buffer.from(oldest);
    this.#oldLists.set(key, [...known, whole.toString()].slice(-OLD_LIST_COUNT_MAX));
    return whole;
  }

  #forward(request: IncomingMessage, response: ServerResponse, onAnswer: (answer: IncomingMessage) => void): void {
    const { authorization } = request.headers;
    const { host: _, connection: __, ...headers } = request.headers;
    const target = new URL(request.url ?? "/", this.#cluster.url);
    // With a token of its own it is nobody else: a certificate would count first.
    const identity = authorization === undefined ? { agent: this.#agent } : { ca: this.#cluster.authority.certificate };
    const outgoing = httpsRequest(target, { method: request.method, headers, ...identity }, onAnswer);
    outgoing.on("error", () => request.socket.destroy());
    request.pipe(outgoing);
    response.once("close", () => outgoing.destroy());
  }
}

function refuse(response: ServerResponse, code: number, reason: string): void {
  response.writeHead(code, { "content-type": "application/json" });
  response.end(status(code, reason));
}

async function dribble(response: ServerResponse, body: Buffer): Promise<void> {
  for (let start = 0; start < body.length && !response.destroyed; start += DRIBBLE_BYTES) {
    response.write(body.subarray(start, start + DRIBBLE_BYTES));
    await new Promise((resolve) => setTimeout(resolve, DRIBBLE_MS));
  }
  response.end();
}
