/** The OpenAI API over HTTP: routes, limits, keys, and every refusal in OpenAI's shape. */
import type { ServerResponse } from "node:http";
import Fastify, { type FastifyError, type FastifyInstance, type FastifyReply, type FastifyRequest } from "fastify";
import { Bug } from "../../core/assert.ts";
import { type Refusal, RefusalError, type Result, refuse } from "../../core/result.ts";
import { type ModelFacts, type Picture, findModel, modelKey, openChains, readyChains } from "../route/picture.ts";
import { scaledToZero } from "../generate/admission.ts";
import type { ModelCatalog } from "../tokenizer/catalog.ts";
import { apiError, type ApiError, errorBody, fieldError } from "./api-error.ts";
import type { ApiKeys } from "./api-keys.ts";
import { CHAT, COMPLETION, type Shape } from "./documents.ts";
import { prepare, promptParam } from "./prompt.ts";
import { type Desk, type Outcome, awaken, refuseOn, respond, sendJson } from "./respond.ts";
import { EventStream } from "./sse.ts";
import { type Wanted, parseChat, parseCompletion } from "./wanted.ts";

export const BODY_BYTES_MAX = 4 << 20;
const RECEIVE_TIMEOUT_MS = 30_000;
/** Longer than a load balancer's, so that it is never we who close a connection that it is about to use. */
const KEEP_ALIVE_MS = 75_000;

export type Api = {
  readonly desk: Desk;
  readonly catalog: ModelCatalog;
  readonly picture: () => Picture | undefined;
  readonly apiKeys: ApiKeys | undefined; // undefined: anybody may ask
  readonly ending: AbortSignal; // aborted when answers under way must end
  readonly leaving: Leaving;
};

/** How far the gateway is on its way out. Requests that come meanwhile are answered as always. */
export type Leaving = {
  readonly draining: () => boolean; // every answer from now on is the last of its connection
  readonly closing: () => boolean; // connections are to be closed as soon as they are idle
  /** Responses that are yet to be sent, kept here so that the end of their connections can be said in them. */
  readonly unanswered: Set<ServerResponse>;
};

type Ask = { readonly shape: Shape; readonly parse: (body: unknown, header: boolean) => Result<Wanted> };

export function createApp(api: Api): FastifyInstance {
  const app = Fastify({
    logger: false,
    genReqId: () => `req_${Buffer.from(api.desk.house.doors.random(12)).toString("hex")}`,
    bodyLimit: BODY_BYTES_MAX,
    requestTimeout: RECEIVE_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_MS,
    forceCloseConnections: "idle",
    return503OnClosing: false, // what a kept-alive connection still brings is answered as always
    routerOptions: { ignoreTrailingSlash: true },
  });
  app.removeAllContentTypeParsers();
  // Attacker: a web page can post text/plain to a gateway on the reader's own machine without asking; JSON it cannot.
  app.addContentTypeParser("application/json", { parseAs: "string" }, (_request, body, done) => {
    try {
      done(null, JSON.parse(String(body)));
    } catch (error) {
      const refusal = refuse(
        "NotJson",
        `the body is no JSON: ${error instanceof Error ? error.message : "unreadable"}`,
      );
      done(Object.assign(new Error(refusal.detail), { refusal }));
    }
  });
  app.setErrorHandler((error: FastifyError & { readonly refusal?: Refusal }, request, reply) => {
    const refusal = error.refusal ?? refusalOf(error);
    if (refusal.code === "Bug")
      api.desk.house.doors.log("bug", { url: request.url, detail: String(error.stack ?? error) });
    api.desk.metrics.requests.inc({ model: "", code: String(apiError(refusal).status) });
    return send(reply, apiError(refusal));
  });
  app.setNotFoundHandler((request, reply) =>
    send(reply, apiError(refuse("UnknownUrl", `there is nothing at ${request.method} ${request.url.slice(0, 200)}`))),
  );
  app.addHook("onRequest", async (request, reply) => {
    reply.raw.setHeader("x-request-id", request.id);
    const { unanswered, draining } = api.leaving;
    unanswered.add(reply.raw);
    reply.raw.once("close", () => unanswered.delete(reply.raw));
    if (draining()) reply.raw.shouldKeepAlive = false;
    const allowed = api.apiKeys?.allow(request.headers.authorization);
    return allowed?.ok === false ? send(reply.header("www-authenticate", "Bearer"), apiError(allowed)) : undefined;
  });
  ask(app, api, "/v1/chat/completions", { shape: CHAT, parse: parseChat });
  ask(app, api, "/v1/completions", { shape: COMPLETION, parse: parseCompletion });
  models(app, api);
  return app;
}

function ask(app: FastifyInstance, api: Api, url: string, { shape, parse }: Ask): void {
  app.post(url, async (request, reply) => {
    const wantsReceipts = /^(true|1|yes)$/i.test(String(request.headers["x-tessellate-receipts"] ?? ""));
    const wanted = parse(request.body, wantsReceipts);
    if (!wanted.ok) return refused(api, reply, "", fieldError(wanted));
    return serve(api, shape, wanted.value, request, reply);
  });
  app.route({
    method: ["GET", "PUT", "PATCH", "DELETE"],
    url,
    handler: (_request, reply) =>
      send(reply.header("allow", "POST"), apiError(refuse("MethodNotAllowed", `${url} takes POST only`))),
  });
}

async function serve(
  api: Api,
  shape: Shape,
  wanted: Wanted,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const { desk, catalog } = api;
  const { log, clock, unixMs } = desk.house.doors;
  const arrivedMs = clock.monotonicMs();
  const picture = api.picture();
  if (picture === undefined)
    return refused(
      api,
      reply,
      "",
      apiError(refuse("ModelLoading", "this gateway has not heard from the operator yet; try again shortly")),
    );
  const found = findModel(picture, wanted.model);
  if (!found.ok) return refused(api, reply, "", apiError(found, "model"));
  const model = desk.house.admission.facing(found.value);
  const key = modelKey(model);
  const signal = endOf(api, request, reply);
  const stream = new EventStream(reply.raw, clock);
  const no = async (refusal: Refusal, error = apiError(refusal)): Promise<FastifyReply> => {
    if (!reply.sent) return refused(api, reply, key, error);
    const outcome = await refuseOn(reply.raw, stream, refusal, error);
    desk.metrics.requests.inc({ model: key, code: String(outcome.status) });
    return reply;
  };
  // A model without a ready chain cannot be asked for its files either: say what is the matter, not what follows from it.
  if (catalog.peek(model.root) === undefined && readyChains(model).length === 0) {
    if (model.wakeTimeoutMs === 0) return no(model.asleep ? scaledToZero(model) : noChain(model));
    reply.hijack();
    const awake = await awaken(desk, stream, { model, wanted, signal });
    if (!awake.ok) return no(awake);
  }
  const files = await catalog.get(model, desk.house.limits.filesWaitMs, signal);
  if (!files.ok) return no(files);
  const prepared = prepare(wanted, model, files.value, new Date(unixMs()));
  if (!prepared.ok)
    return no(
      prepared,
      prepared.code === "MalformedField" ? fieldError(prepared) : apiError(prepared, promptParam(wanted.prompt)),
    );
  if (!reply.sent) reply.hijack();
  const job = { shape, wanted, prepared: prepared.value, model, files: files.value, signal, arrivedMs, stream };
  const outcome = await respond(desk, job, reply.raw).catch((error: unknown) => brokenOff(api, reply, error));
  desk.metrics.requests.inc({ model: key, code: String(outcome.status) });
  log("answered", {
    request: request.id,
    model: key,
    status: outcome.status,
    code: outcome.refusal?.code,
    detail: outcome.refusal?.detail,
    prompt: prepared.value.tokenIds.length,
    recoveries: outcome.recoveryCount,
    ms: Math.round(clock.monotonicMs() - arrivedMs),
  });
  return reply;
}

/** Something that we never expected: the client gets to know that it was us; a broken promise of ours ends the process. */
function brokenOff(api: Api, reply: FastifyReply, error: unknown): Outcome {
  api.desk.house.doors.log("bug", { detail: String(error instanceof Error ? (error.stack ?? error) : error) });
  const refusal = refuse("Bug", "the gateway made a mistake; its log says which");
  if (reply.raw.headersSent) reply.raw.destroy();
  else sendJson(reply.raw, 500, errorBody(apiError(refusal)));
  if (error instanceof Bug) {
    process.nextTick(() => {
      throw error;
    });
  }
  return { status: 500, refusal };
}

/** Aborted once the client has closed its connection before it had its whole answer, or the gateway must end. */
function endOf(api: Api, request: FastifyRequest, reply: FastifyReply): AbortSignal {
  const end = new AbortController();
  const abort = (): void =>
    end.abort(new RefusalError(refuse("ShuttingDown", "this gateway is shutting down; ask again")));
  api.ending.addEventListener("abort", abort, { once: true });
  reply.raw.once("close", () => {
    api.ending.removeEventListener("abort", abort);
    if (!reply.raw.writableFinished) end.abort();
    if (api.leaving.closing()) setImmediate(() => request.server.server.closeIdleConnections());
  });
  if (request.raw.socket.destroyed) end.abort();
  if (api.ending.aborted) abort();
  return end.signal;
}

const noChain = (model: ModelFacts) =>
  refuse(
    "NoReadyChain",
    `${modelKey(model)} has no complete chain: of ${model.chains.length} planned none has all its ranks ready`,
  );

/** Why a request would not be answered at once; undefined where it would. */
function whyClosed(model: ModelFacts): Refusal | undefined {
  if (openChains(model).length > 0) return undefined;
  if (!model.asleep) return noChain(model);
  if (model.wakeTimeoutMs === 0) return scaledToZero(model);
  return refuse("Asleep", `${modelKey(model)} sleeps; a request wakes it, waits meanwhile and is answered`);
}

function models(app: FastifyInstance, api: Api): void {
  const startedSeconds = Math.floor(api.desk.house.doors.unixMs() / 1000);
  const shown = (picture: Picture, model: ModelFacts): object => {
    const alone = picture.models.filter((other) => other.name === model.name).length === 1;
    const files = api.catalog.peek(model.root);
    const readyCount = readyChains(model).length;
    const refusal = files?.ok === false ? files : whyClosed(model);
    return {
      id: alone ? model.name : modelKey(model),
      object: "model",
      created: startedSeconds,
      owned_by: model.namespace,
      max_model_len: model.contextLength,
      tessellate: {
        root: model.root,
        // One that sleeps answers, only later: whoever looks for a model to ask should find it.
        ready: refusal === undefined || refusal.code === "Asleep",
        reason: refusal?.code ?? "Serving",
        ...(refusal === undefined ? {} : { message: refusal.detail }),
        chains: { ready: readyCount, planned: model.chains.length },
        providers: [...new Set(model.chains.flatMap((chain) => chain.ranks.map((rank) => rank.provider)))].toSorted(),
      },
    };
  };
  app.get("/v1/models", (_request, reply) => {
    const picture = api.picture();
    // Clients that take the first one get one that answers.
    const listed =
      picture?.models.toSorted((a, b) => Math.sign(readyChains(b).length) - Math.sign(readyChains(a).length)) ?? [];
    return reply.send({
      object: "list",
      data: picture === undefined ? [] : listed.map((model) => shown(picture, model)),
    });
  });
  // A full name has a slash in it, so the id is the rest of the path.
  app.get<{ Params: { "*": string } }>("/v1/models/*", (request, reply) => {
    const picture = api.picture();
    const empty: Picture = { fence: 0, models: [], providers: [], ledgerAddress: "" };
    const found = findModel(picture ?? empty, request.params["*"]);
    return found.ok ? reply.send(shown(picture ?? empty, found.value)) : send(reply, apiError(found, "model"));
  });
}

function refused(api: Api, reply: FastifyReply, model: string, error: ApiError): FastifyReply {
  api.desk.metrics.requests.inc({ model, code: String(error.status) });
  return send(reply, error);
}

function send(reply: FastifyReply, error: ApiError): FastifyReply {
  if (error.retryAfterSeconds !== undefined) void reply.header("retry-after", String(error.retryAfterSeconds));
  return reply.code(error.status).send(errorBody(error));
}

/** What the framework refuses, in our codes. */
function refusalOf(error: FastifyError): Refusal {
  switch (error.code) {
    case "FST_ERR_CTP_BODY_TOO_LARGE":
      return refuse("BodyTooLarge", `the body is larger than ${BODY_BYTES_MAX} bytes; send less`);
    case "FST_ERR_CTP_INVALID_MEDIA_TYPE":
      return refuse("UnsupportedMediaType", 'send the body as JSON, with the header "content-type: application/json"');
    case "FST_ERR_CTP_EMPTY_JSON_BODY":
      return refuse("NotJson", "the body is empty; send a JSON object");
    default:
      if (error instanceof Bug || (error.statusCode ?? 500) >= 500)
        return refuse("Bug", "the gateway made a mistake; its log says which");
      return refuse("BadRequest", error.message);
  }
}
