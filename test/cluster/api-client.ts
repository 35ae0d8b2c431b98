/**
 * Raw JSON over HTTPS to the API server: what the test cluster itself needs, and no more. It shares no code with the
 * operator's client on purpose, so that a fault in one cannot hide the same fault in the other.
 */
import type { IncomingMessage } from "node:http";
import { Agent, request as httpsRequest } from "node:https";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import type { KubeList, KubeObject } from "./kube-types.ts";

const TIMEOUT_MS = 30_000;
const RETRY_MS = 200;
/** Shorter than any silence that a broken connection could hide in: the server ends each watch by itself. */
const WATCH_SECONDS = 240;

export type ContentType =
  | "application/json"
  | "application/merge-patch+json"
  | "application/strategic-merge-patch+json"
  | "application/apply-patch+yaml";

export class ApiError extends Error {
  override name = "ApiError";
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export interface Credentials {
  readonly url: string;
  /** PEM texts. */
  readonly authority: string;
  readonly certificate: string;
  readonly key: string;
}

export interface ChangeEvent<T> {
  readonly type: "ADDED" | "MODIFIED" | "DELETED";
  readonly object: T;
}

export interface ApiClient {
  /** The answer's JSON, whose shape the caller vouches for. Throws {@link ApiError} for any status from 400 on. */
  request<T>(method: string, path: string, body?: unknown, contentType?: ContentType): Promise<T>;
  get<T>(path: string): Promise<T>;
  /** Undefined where there is no such object. */
  find<T>(path: string): Promise<T | undefined>;
  /**
   * Lists `path`, reports every object as ADDED, then every change, and so on for good: a connection that breaks is made
   * anew, and what vanished meanwhile is reported as DELETED. Ends when `signal` is aborted.
   */
  follow<T extends KubeObject>(
    path: string,
    onEvent: (event: ChangeEvent<T>) => void,
    signal: AbortSignal,
  ): Promise<void>;
  /** Closes idle connections. */
  close(): void;
}

export function createApiClient(credentials: Credentials): ApiClient {
  const agent = new Agent({
    ca: credentials.authority,
    cert: credentials.certificate,
    key: credentials.key,
    keepAlive: true,
  });
  const request = <T>(method: string, path: string, body?: unknown, contentType: ContentType = "application/json") =>
    requestJson<T>({ agent, url: credentials.url, method, path, body, contentType });
  const get = <T>(path: string) => request<T>("GET", path);
  return {
    request,
    get,
    find: async <T>(path: string) =>
      get<T>(path).catch((error: unknown) => {
        if (error instanceof ApiError && error.status === 404) return undefined;
        throw error;
      }),
    follow: (path, onEvent, signal) => follow({ agent, url: credentials.url, path, onEvent, signal, get }),
    close: () => agent.destroy(),
  };
}

interface Request {
  readonly agent: Agent;
  readonly url: string;
  readonly method: string;
  readonly path: string;
  readonly body?: unknown;
  readonly contentType: ContentType;
}

async function requestJson<T>(request: Request): Promise<T> {
  const response = await send(request, AbortSignal.timeout(TIMEOUT_MS));
  const text = await readText(response);
  const status = response.statusCode ?? 0;
  if (status >= 400) throw new ApiError(status, `${request.method} ${request.path}: ${status} ${messageOf(text)}`);
  return parseJson<T>(text);
}

function send(request: Request, signal: AbortSignal): Promise<IncomingMessage> {
  const body = request.body === undefined ? undefined : JSON.stringify(request.body);
  return new Promise((resolve, reject) => {
    const outgoing = httpsRequest(
      new URL(request.path, request.url),
      {
        agent: request.agent,
        method: request.method,
        signal,
        headers: {
          accept: "application/json",
          ...(body === undefined
            ? {}
            : { "content-type": request.contentType, "content-length": Buffer.byteLength(body) }),
        },
      },
      resolve,
    );
    outgoing.once("error", reject);
    outgoing.end(body);
  });
}

async function readText(response: IncomingMessage): Promise<string> {
  response.setEncoding("utf8");
  let text = "";
  for await (const chunk of response) text += chunk;
  return text;
}

/** The caller vouches for the shape: it asked for this path. */
function parseJson<T>(text: string): T {
  return (text.startsWith("{") || text.startsWith("[") ? JSON.parse(text) : text) as T;
}

function messageOf(text: string): string {
  try {
    return parseJson<{ readonly message?: string }>(text).message ?? text;
  } catch {
    return text;
  }
}

interface Follow<T> {
  readonly agent: Agent;
  readonly url: string;
  readonly path: string;
  readonly onEvent: (event: ChangeEvent<T>) => void;
  readonly signal: AbortSignal;
  readonly get: <U>(path: string) => Promise<U>;
}

async function follow<T extends KubeObject>(options: Follow<T>): Promise<void> {
  const known = new Map<string, T>();
  let resourceVersion: string | undefined;
  while (!options.signal.aborted) {
    try {
      resourceVersion ??= await relist(options, known);
      resourceVersion = await watch(options, known, resourceVersion);
    } catch {
      // Weather: the server restarts, or it forgot the version (410). Both end in a new list.
      resourceVersion = undefined;
      await sleep(RETRY_MS, undefined, { signal: options.signal }).catch(() => undefined);
    }
  }
}

async function relist<T extends KubeObject>(options: Follow<T>, known: Map<string, T>): Promise<string> {
  const list = await options.get<KubeList<T>>(options.path);
  const present = new Map(list.items.map((item) => [item.metadata.uid ?? item.metadata.name, item]));
  for (const [uid, object] of known) if (!present.has(uid)) options.onEvent({ type: "DELETED", object });
  for (const [uid, object] of present) options.onEvent({ type: known.has(uid) ? "MODIFIED" : "ADDED", object });
  known.clear();
  for (const [uid, object] of present) known.set(uid, object);
  return list.metadata.resourceVersion;
}

/** Resolves with the version to go on from when the server ends the watch. */
async function watch<T extends KubeObject>(options: Follow<T>, known: Map<string, T>, from: string): Promise<string> {
  const separator = options.path.includes("?") ? "&" : "?";
  const query = `watch=1&allowWatchBookmarks=true&timeoutSeconds=${WATCH_SECONDS}&resourceVersion=${from}`;
  const limit = AbortSignal.any([options.signal, AbortSignal.timeout((WATCH_SECONDS + 30) * 1000)]);
  const path = `${options.path}${separator}${query}`;
  const response = await send(
    { agent: options.agent, url: options.url, method: "GET", path, contentType: "application/json" },
    limit,
  );
  if (response.statusCode !== 200) throw new ApiError(response.statusCode ?? 0, await readText(response));
  let resourceVersion = from;
  for await (const line of createInterface({ input: response })) {
    const { type, object } = parseJson<{ readonly type: string; readonly object: T }>(line);
    if (type !== "BOOKMARK" && type !== "ADDED" && type !== "MODIFIED" && type !== "DELETED") throw new Error(line);
    resourceVersion = object.metadata.resourceVersion ?? resourceVersion;
    if (type === "BOOKMARK") continue;
    const uid = object.metadata.uid ?? object.metadata.name;
    if (type === "DELETED") known.delete(uid);
    else known.set(uid, object);
    options.onEvent({ type, object });
  }
  return resourceVersion;
}
