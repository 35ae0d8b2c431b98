/**
 * Requests to the API server in raw JSON, so that no field is lost on the way. Failures are weather: thrown as ApiError
 * where the server answered, as whatever Node says where it did not.
 */
import {
  type ClientRequest,
  type IncomingMessage,
  type OutgoingHttpHeaders,
  type RequestOptions,
  request as httpRequest,
} from "node:http";
import { request as httpsRequest } from "node:https";
import { isJsonObject, parseJson } from "../../core/json.ts";
import type { Access, Lane } from "./access.ts";
import { type Fence, fenceHeaders } from "./fence.ts";
import { LEASES, type KubeObject, type Place, type Resource, apiVersionOf, asKubeObject, pathOf } from "./objects.ts";

/** The server answered, and not with what was asked for. */
export class ApiError extends Error {
  override name = "ApiError";
  readonly status: number;
  readonly reason: string; // NotFound, Conflict, Invalid …
  readonly retryAfterMs: number | undefined;
  constructor(status: number, reason: string, message: string, retryAfterMs?: number) {
    super(message);
    this.status = status;
    this.reason = reason;
    this.retryAfterMs = retryAfterMs;
  }
}

/** Whether `error` is the server's answer with this status. */
export const isStatus = (error: unknown, status: number): boolean =>
  error instanceof ApiError && error.status === status;

export type Query = Readonly<Record<string, string | number | boolean | undefined>>;

type Call = {
  readonly method: string;
  readonly path: string;
  readonly query?: Query;
  readonly body?: unknown;
  readonly contentType?: string;
  readonly accept?: string;
  /** Left out: the fence that the client bears. */
  readonly fence?: Fence | "none";
  readonly lane?: Lane; // left out: work
  readonly signal?: AbortSignal | undefined;
  readonly limit?: Limit; // heeds the signal
};

export type ClientOptions = {
  readonly fieldManager?: string;
  /** Within which an answer must be complete; watches apart. */
  readonly timeoutMs?: number;
};

const TIMEOUT_MS = 30_000;
const APPLY = "application/apply-patch+yaml"; // JSON is YAML
/** A list that comes in pages is a megabyte a page; one that cannot come so has room for ten thousand pods. */
const ANSWER_BYTES_MAX = 64 << 20;
/** A server that asks for more is asked again all the same. */
const RETRY_AFTER_MS_MAX = 60_000;
const METADATA_OF_ONE = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
const USER_AGENT = "tessellate-operator";

export class KubeClient {
  readonly #access: Access;
  #fence: Fence | undefined;
  /** Name under which fields are owned in server-side apply. */
  readonly fieldManager: string;
  /** Within which an answer must be complete; watches apart. */
  readonly timeoutMs: number;

  constructor(access: Access, { fieldManager = "tessellate-operator", timeoutMs = TIMEOUT_MS }: ClientOptions = {}) {
    this.#access = access;
    this.fieldManager = fieldManager;
    this.timeoutMs = timeoutMs;
  }

  /** From now on every write, leases apart, says in whose epoch it is made. */
  bear(fence: Fence): void {
    this.#fence = fence;
  }

  /** The answer's JSON. Throws {@link ApiError} for any status from 400 on. */
  async request(call: Call): Promise<unknown> {
    const limit = new Limit(this.timeoutMs, call.signal);
    try {
      return parseJson(await textOf(await this.open({ ...call, limit })));
    } catch (error) {
      throw limit.reason ?? error;
    } finally {
      limit.end();
    }
  }

  /** The response of a call that succeeded, its body not yet read. The caller reads or destroys it. */
  async open(call: Call): Promise<IncomingMessage> {
    const fence = call.method === "GET" || call.fence === "none" ? undefined : (call.fence ?? this.#fence);
    const response = await send(this.#access, call, fence === undefined ? {} : fenceHeaders(fence));
    const status = response.statusCode ?? 0;
    if (status < 400) return response;
    throw apiError(`${call.method} ${call.path}`, status, response.headers["retry-after"], await textOf(response));
  }

  async get(resource: Resource, place: Place): Promise<KubeObject> {
    return asKubeObject(await this.request({ method: "GET", path: pathOf(resource, place), ...laneOf(resource) }));
  }

  /** Undefined where there is no such object. */
  async find(resource: Resource, place: Place): Promise<KubeObject | undefined> {
    return this.get(resource, place).catch((error: unknown) => {
      if (isStatus(error, 404)) return undefined;
      throw error;
    });
  }

  /** `answer`: where the caller knows what it has sent, the server need not say it again. */
  async create(resource: Resource, object: KubeObject, answer: "whole" | "metadata" = "whole"): Promise<KubeObject> {
    const path = pathOf(resource, { namespace: object.metadata.namespace });
    const how = answer === "metadata" ? { accept: METADATA_OF_ONE } : {};
    return asKubeObject(
      await this.request({ method: "POST", path, body: withKind(resource, object), ...how, ...laneOf(resource) }),
    );
  }

  /** Replaces an object; throws a 409 where it has changed since `object` was read. */
  async replace(resource: Resource, object: KubeObject): Promise<KubeObject> {
    const { namespace, name } = object.metadata;
    return asKubeObject(
      await this.request({
        method: "PUT",
        path: pathOf(resource, { namespace, name }),
        body: withKind(resource, object),
        ...laneOf(resource),
      }),
    );
  }

  /**
   * Server-side apply: makes the fields in `object` so, takes back those it applied before and no longer names, leaves
   * all others alone. Conflicts are won: whoever edits a field of ours by hand is overruled.
   */
  async apply(resource: Resource, object: KubeObject, subresource?: string): Promise<KubeObject> {
    const { namespace, name } = object.metadata;
    const path = pathOf(resource, { namespace, name, ...(subresource === undefined ? {} : { subresource }) });
    const query = { fieldManager: this.fieldManager, force: true };
    return asKubeObject(
      await this.request({ method: "PATCH", path, query, body: withKind(resource, object), contentType: APPLY }),
    );
  }

  /** Changes the fields in `patch` and no other, whoever owns them (JSON merge patch). */
  async patch(resource: Resource, place: Place, patch: object): Promise<KubeObject> {
    const call = {
      path: pathOf(resource, place),
      body: patch,
      contentType: "application/merge-patch+json",
    };
    return asKubeObject(await this.request({ method: "PATCH", ...call }));
  }

  /** Deletes an object; not finding it is success. With `uid` only that very object, with `resourceVersion` as it was. */
  async delete(
    resource: Resource,
    place: Place,
    options: {
      readonly uid?: string | undefined;
      readonly resourceVersion?: string | undefined;
      readonly graceSeconds?: number;
    } = {},
  ): Promise<void> {
    const { uid, resourceVersion } = options;
    const body = {
      apiVersion: "v1",
      kind: "DeleteOptions",
      propagationPolicy: "Background",
      ...(uid === undefined
        ? {}
        : { preconditions: { uid, ...(resourceVersion === undefined ? {} : { resourceVersion }) } }),
      ...(options.graceSeconds === undefined ? {} : { gracePeriodSeconds: options.graceSeconds }),
    };
    await this.request({ method: "DELETE", path: pathOf(resource, place), body }).catch((error: unknown) => {
      if (!isStatus(error, 404)) throw error;
    });
  }

  close(): void {
    this.#access.close();
  }
}

/** Who leads is what leases say: taking one is no act of the leader before, and waits for nobody. */
const laneOf = (resource: Resource): Pick<Call, "fence" | "lane"> =>
  resource === LEASES ? { fence: "none", lane: "apart" } : {};

const withKind = (resource: Resource, object: KubeObject): KubeObject => ({
  ...object,
  apiVersion: apiVersionOf(resource),
  kind: resource.kind,
});

async function send(access: Access, call: Call, extra: OutgoingHttpHeaders): Promise<IncomingMessage> {
  const options = await access.options(call.lane ?? "work");
  const body = call.body === undefined ? undefined : JSON.stringify(call.body);
  const headers = {
    ...options.headers,
    ...extra,
    accept: call.accept ?? "application/json",
    "user-agent": USER_AGENT,
    ...(body === undefined
      ? {}
      : { "content-type": call.contentType ?? "application/json", "content-length": Buffer.byteLength(body) }),
  };
  const { protocol, hostname, port } = access.server;
  const start = protocol === "https:" ? httpsRequest : httpRequest;
  const where: RequestOptions = {
    hostname: hostname.replace(/^\[|\]$/g, ""), // of an IPv6 address a URL says it with brackets
    ...(port === "" ? {} : { port }),
    path: `${call.path}${searchOf(call.query)}`,
    method: call.method,
    headers,
  };
  return new Promise((resolve, reject) => {
    const signal = call.limit === undefined && call.signal ? { signal: call.signal } : {};
    const outgoing = start({ ...options, ...where, ...signal }, resolve);
    outgoing.once("error", reject);
    call.limit?.watch(outgoing);
    outgoing.end(body);
  });
}

function searchOf(query: Query = {}): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value !== undefined) search.set(name, String(value));
  return search.size === 0 ? "" : `?${search}`;
}

/** Ends one request when its time is over or its caller no longer wants it: a third of what signals of Node's cost. */
class Limit {
  readonly #timer: NodeJS.Timeout;
  readonly #signal: AbortSignal | undefined;
  #outgoing: ClientRequest | undefined;
  /** Why it was ended; undefined where it was not. */
  reason: unknown;

  constructor(timeoutMs: number, signal: AbortSignal | undefined) {
    this.#timer = setTimeout(() => this.#over(new Error(`no answer in ${timeoutMs} ms`)), timeoutMs);
    this.#signal = signal;
    signal?.addEventListener("abort", this.#aborted, { once: true });
    if (signal?.aborted) this.#aborted();
  }

  watch(outgoing: ClientRequest): void {
    this.#outgoing = outgoing;
    if (this.reason !== undefined) this.#over(this.reason);
  }

  end(): void {
    clearTimeout(this.#timer);
    this.#signal?.removeEventListener("abort", this.#aborted);
  }

  #aborted = (): void => this.#over(this.#signal?.reason ?? new Error("no longer wanted"));

  #over(reason: unknown): void {
    this.reason = reason;
    this.#outgoing?.destroy(reason instanceof Error ? reason : new Error(String(reason)));
  }
}

function textOf(response: IncomingMessage): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let byteCount = 0;
    response.on("data", (chunk: Buffer) => {
      chunks.push(chunk);
      byteCount += chunk.length;
      if (byteCount <= ANSWER_BYTES_MAX) return;
      response.destroy(new Error(`the API server's answer is longer than ${ANSWER_BYTES_MAX} bytes`));
    });
    response.once("end", () => resolve(Buffer.concat(chunks).toString("utf8")));
    response.once("error", reject);
    response.once("close", () => reject(new Error("the API server's answer broke off"))); // of no effect after its end
  });
}

function apiError(what: string, status: number, retryAfter: string | undefined, text: string): ApiError {
  const answer = parseJson(text);
  const said = isJsonObject(answer) ? answer : {};
  const reason = typeof said["reason"] === "string" ? said["reason"] : "Unknown";
  const message = typeof said["message"] === "string" ? said["message"] : text.slice(0, 200);
  const seconds = Number(retryAfter);
  const retryAfterMs = seconds > 0 ? Math.min(seconds * 1000, RETRY_AFTER_MS_MAX) : undefined;
  return new ApiError(status, reason, `${what}: ${status} ${message}`, retryAfterMs);
}
