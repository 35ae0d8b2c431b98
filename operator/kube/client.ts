/**
 * Requests to the API server in raw JSON, so that no field is lost on the way. Failures are weather: thrown as ApiError
 * where the server answered, as whatever Node says where it did not.
 */
import { type IncomingMessage, type OutgoingHttpHeaders, request as httpRequest } from "node:http";
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
    const timeout = AbortSignal.timeout(this.timeoutMs);
    const response = await this.open({
      ...call,
      signal: call.signal ? AbortSignal.any([call.signal, timeout]) : timeout,
    });
    return parseJson(await textOf(response));
  }

  /** The response of a call that succeeded, its body not yet read. The caller reads or destroys it. */
  async open(call: Call): Promise<IncomingMessage> {
    const url = new URL(call.path, this.#access.server);
    for (const [name, value] of Object.entries(call.query ?? {}))
      if (value !== undefined) url.searchParams.set(name, String(value));
    const fence = call.method === "GET" || call.fence === "none" ? undefined : (call.fence ?? this.#fence);
    const response = await send(this.#access, url, call, fence === undefined ? {} : fenceHeaders(fence));
    const status = response.statusCode ?? 0;
    if (status < 400) return response;
    throw apiError(`${call.method} ${url.pathname}`, status, response.headers["retry-after"], await textOf(response));
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

  async create(resource: Resource, object: KubeObject): Promise<KubeObject> {
    const path = pathOf(resource, { namespace: object.metadata.namespace });
    return asKubeObject(
      await this.request({ method: "POST", path, body: withKind(resource, object), ...laneOf(resource) }),
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

async function send(access: Access, url: URL, call: Call, extra: OutgoingHttpHeaders): Promise<IncomingMessage> {
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
  const start = url.protocol === "https:" ? httpsRequest : httpRequest;
  return new Promise((resolve, reject) => {
    const outgoing = start(
      url,
      { ...options, method: call.method, headers, ...(call.signal ? { signal: call.signal } : {}) },
      resolve,
    );
    outgoing.once("error", reject);
    outgoing.end(body);
  });
}

async function textOf(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let byteCount = 0;
  for await (const chunk of response) {
    chunks.push(chunk);
    byteCount += chunk.length;
    if (byteCount > ANSWER_BYTES_MAX)
      throw new Error(`the API server's answer is longer than ${ANSWER_BYTES_MAX} bytes`);
  }
  return Buffer.concat(chunks).toString("utf8");
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
