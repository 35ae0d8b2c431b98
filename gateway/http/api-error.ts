/**
 * Refusals as OpenAI's clients know them: a status, and {error: {message, type, param, code}}. A code of ours keeps its
 * name, written as OpenAI writes codes (QueueFull → queue_full), except where OpenAI has one for the same thing.
 */
import type { Refusal } from "../../core/result.ts";

export type ApiError = {
  readonly status: number;
  readonly type: string;
  readonly code: string;
  readonly param: string | null;
  readonly message: string;
  readonly retryAfterSeconds: number | undefined;
};

type Kind = {
  readonly status: number;
  readonly type: string;
  readonly code?: string;
  readonly retryAfterSeconds?: number;
};

const INVALID = "invalid_request_error";
const UNAVAILABLE: Kind = { status: 503, type: "server_error", retryAfterSeconds: 2 };

const KINDS: Readonly<Record<string, Kind>> = {
  MalformedField: { status: 400, type: INVALID, code: "invalid_value" },
  UnsupportedParameter: { status: 400, type: INVALID },
  NotJson: { status: 400, type: INVALID, code: "invalid_json" },
  TemplateRefused: { status: 400, type: INVALID },
  NoChatTemplate: { status: 400, type: INVALID },
  MalformedTemplate: { status: 400, type: INVALID },
  NoTokenizer: { status: 400, type: INVALID },
  Unencodable: { status: 400, type: INVALID },
  EmptyPrompt: { status: 400, type: INVALID },
  ContextLengthExceeded: { status: 400, type: INVALID },
  AmbiguousModel: { status: 400, type: INVALID },
  BadRequest: { status: 400, type: INVALID },
  TooLong: { status: 400, type: INVALID, code: "context_length_exceeded" },
  InvalidApiKey: { status: 401, type: INVALID },
  ModelNotFound: { status: 404, type: INVALID },
  UnknownUrl: { status: 404, type: INVALID },
  MethodNotAllowed: { status: 405, type: INVALID },
  RequestTimeout: { status: 408, type: INVALID },
  BodyTooLarge: { status: 413, type: INVALID },
  UnsupportedMediaType: { status: 415, type: INVALID },
  QueueFull: { status: 429, type: "rate_limit_error", retryAfterSeconds: 1 },
  NoSlotInTime: { ...UNAVAILABLE },
  NoReadyChain: { ...UNAVAILABLE, retryAfterSeconds: 5 },
  NotAwakeInTime: { ...UNAVAILABLE, retryAfterSeconds: 30 },
  ScaledToZero: { ...UNAVAILABLE, retryAfterSeconds: 60 },
  ChainLost: UNAVAILABLE,
  ModelLoading: UNAVAILABLE,
  ModelChanged: { ...UNAVAILABLE, retryAfterSeconds: 1 },
  ShuttingDown: { ...UNAVAILABLE, retryAfterSeconds: 1 },
  Cancelled: { status: 499, type: "server_error" },
  Bug: { status: 500, type: "server_error", code: "internal_error" },
};

/** `param`: the field of the request that is at fault, where one is. An unknown code is weather: 503, worth another try. */
export function apiError(refusal: Refusal, param: string | null = null): ApiError {
  const kind = KINDS[refusal.code] ?? UNAVAILABLE;
  return {
    status: kind.status,
    type: kind.type,
    code: kind.code ?? snakeCase(refusal.code),
    param,
    message: refusal.detail,
    retryAfterSeconds: kind.retryAfterSeconds,
  };
}

/** The error of a field: core/fields puts the path of the field in front of the detail. */
export const fieldError = (refusal: Refusal): ApiError =>
  apiError(refusal, /^([A-Za-z_][\w.[\]]*): /.exec(refusal.detail)?.[1] ?? null);

export const errorBody = ({ message, type, param, code }: ApiError): object => ({
  error: { message, type, param, code },
});

const snakeCase = (code: string): string => code.replace(/(?<!^)([A-Z])/g, "_$1").toLowerCase();
