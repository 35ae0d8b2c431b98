/** A served port: mTLS, health, reflection and our services; and its opposite, dialling one. */
import diagnostics from "node:diagnostics_channel";
import type { ServerHttp2Session } from "node:http2";
import {
  type CallOptions,
  type ClientUnaryCall,
  Server,
  type ServerCredentials,
  type requestCallback,
} from "@grpc/grpc-js";
import { ReflectionService } from "@grpc/reflection";
import { HealthImplementation } from "grpc-health-check";
import type { Identity } from "../identity.ts";
import { type Result, ok } from "../result.ts";
import { CHANNEL_OPTIONS, ONE_WAY_CHANNEL_OPTIONS, ONE_WAY_WINDOW_BYTES, SERVER_OPTIONS } from "./options.ts";
import { type Client, type ServiceName, fullNameOf, loadService, packageOf } from "./proto.ts";
import { refusalOf } from "./status.ts";
import { type Tls, channelCredentials } from "./tls.ts";

export type Door = {
  readonly host: string;
  readonly port: number;
  readonly address: string; // host:port, as bound
  /** What grpc.health.v1 answers, for the whole server and for each service. */
  setServing(serving: boolean): void;
  /** Lets calls that run finish for up to `graceMs`, then cuts them off. */
  close(graceMs: number): Promise<void>;
};

/** After connections were cut: a peer whose machine is gone acknowledges nothing. */
const CUT_OFF_MS = 1_000;

/**
 * Binds `host:port` (port 0: any free one) and serves what `add` adds. Throws weather where the port cannot be bound,
 * naming it. Health says NOT_SERVING until told otherwise.
 */
export async function openDoor(options: {
  readonly host: string;
  readonly port: number;
  readonly credentials: ServerCredentials;
  readonly services: readonly ServiceName[];
  readonly add: (server: Server) => void;
}): Promise<Door> {
  widenServerWindows();
  const server = new Server(SERVER_OPTIONS);
  const names = ["", ...options.services.map(fullNameOf)];
  const health = new HealthImplementation(Object.fromEntries(names.map((name) => [name, "NOT_SERVING"] as const)));
  health.addToServer(server);
  // One for all: a server takes each service once, reflection too.
  new ReflectionService(Object.assign({}, ...options.services.map(packageOf))).addToServer(server);
  options.add(server);
  const wanted = hostPort(options.host, options.port);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(wanted, options.credentials, (error, bound) =>
      error === null ? resolve(bound) : reject(new Error(`cannot listen on ${wanted}`, { cause: error })),
    );
  });
  return {
    host: options.host,
    port,
    address: hostPort(options.host, port),
    setServing: (serving) => {
      for (const name of names) health.setStatus(name, serving ? "SERVING" : "NOT_SERVING");
    },
    close: (graceMs) =>
      new Promise((resolve) => {
        // Not forceShutdown(): without channelz it forgets the connections that it should cut.
        server.drain(hostPort(options.host, port), graceMs);
        const timer = setTimeout(resolve, graceMs + CUT_OFF_MS);
        server.tryShutdown(() => {
          clearTimeout(timer);
          resolve();
        });
      }),
  };
}

/**
 * A client of the one process that must show `expected`'s certificate. Nothing is connected before the first call.
 * `bulk`: which way much goes at once; see {@link ONE_WAY_WINDOW_BYTES}.
 */
export function dial<Name extends ServiceName>(
  name: Name,
  address: string,
  tls: Tls,
  expected: Identity,
  bulk: "one-way" | "both-ways" = "one-way",
): Client<Name> {
  const Constructor = loadService(name);
  const options = bulk === "one-way" ? ONE_WAY_CHANNEL_OPTIONS : CHANNEL_OPTIONS;
  return new Constructor(address, channelCredentials(tls, expected), options) as Client<Name>;
}

/** One unary call with a deadline, as a Result. `who` names the other side, in words, for the detail of a refusal. */
export function ask<Reply>(
  who: string,
  timeoutMs: number,
  invoke: (options: CallOptions, callback: requestCallback<Reply>) => ClientUnaryCall,
): Promise<Result<Reply>> {
  return new Promise((resolve) => {
    invoke({ deadline: Date.now() + timeoutMs }, (error, reply) => {
      if (error === null && reply !== undefined) resolve(ok(reply));
      else resolve(refusalOf(error ?? { details: "an empty reply" }, who));
    });
  });
}

export const hostPort = (host: string, port: number): string =>
  host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;

const widened = new WeakSet<ServerHttp2Session>();
let watching = false;

/**
 * A server of grpc-js can widen the window of each stream but not of the connection, which would stay at 64 KiB for all
 * streams together. Node tells of every new stream on a diagnostics channel; the first stream of steps widens it.
 */
function widenServerWindows(): void {
  if (watching) return;
  watching = true;
  diagnostics.subscribe("http2.server.stream.start", (message) => {
    const { stream, headers } = message as StreamStart;
    const { session } = stream;
    if (session === undefined || widened.has(session) || headers[":path"]?.endsWith("/Steps") !== true) return;
    widened.add(session);
    session.setLocalWindowSize(ONE_WAY_WINDOW_BYTES);
  });
}

type StreamStart = {
  readonly stream: { readonly session?: ServerHttp2Session };
  readonly headers: { readonly ":path"?: string };
};
