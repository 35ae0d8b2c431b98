/**
 * Refusals on the wire: a gRPC status whose metadata `tessellate-code` holds the code that the same refusal has
 * everywhere else. One table says which status goes with which code, for clients that know gRPC and not us.
 */
import { Metadata, type ServiceError, type StatusObject, status } from "@grpc/grpc-js";
import { type Refusal, refuse } from "../result.ts";

export const CODE_KEY = "tessellate-code";
/** Which rank it is about, where that is not the one that answered. */
export const RANK_KEY = "tessellate-rank";

const STATUSES: Readonly<Record<string, status>> = {
  UnknownIdentity: status.UNAUTHENTICATED,
  NotMyNeighbour: status.PERMISSION_DENIED,
  ForeignSession: status.PERMISSION_DENIED,
  NoSlot: status.RESOURCE_EXHAUSTED,
  Overloaded: status.RESOURCE_EXHAUSTED,
  TooLarge: status.RESOURCE_EXHAUSTED,
  TooLong: status.OUT_OF_RANGE,
  UnknownSession: status.NOT_FOUND,
  UnknownFile: status.NOT_FOUND,
  UnknownModel: status.NOT_FOUND,
  SessionExists: status.ALREADY_EXISTS,
  BadRequest: status.INVALID_ARGUMENT,
  BadPayload: status.INVALID_ARGUMENT,
  BadFrame: status.INVALID_ARGUMENT,
  NotServing: status.UNAVAILABLE,
  Draining: status.UNAVAILABLE,
  Unreachable: status.UNAVAILABLE,
  RankLost: status.UNAVAILABLE,
  TimedOut: status.DEADLINE_EXCEEDED,
  Cancelled: status.CANCELLED,
  Weather: status.INTERNAL,
};

/** The gRPC status of a code; one that the table does not know is a failed precondition: right now, as asked, no. */
export const statusOf = (code: string): status => STATUSES[code] ?? status.FAILED_PRECONDITION;

/** What a handler gives to its callback, or emits as a stream's "error", to end a call with a refusal. */
export function refusalStatus(refusal: Refusal, rank?: string): Partial<StatusObject> & Error {
  const metadata = new Metadata();
  metadata.set(CODE_KEY, refusal.code);
  if (rank !== undefined) metadata.set(RANK_KEY, rank);
  const error = new Error(refusal.detail);
  return Object.assign(error, { code: statusOf(refusal.code), details: refusal.detail, metadata });
}

/**
 * What went wrong with a call: the refusal of the other side where it gave one, else what the transport says, as
 * `Unreachable`, `ExpiredCertificate`, `UnknownIdentity`, `TimedOut`, `Cancelled`, `TooLarge`, `BadFrame` or `Weather`.
 * `who` names the other side, in words, for the detail.
 */
export function refusalOf(error: Partial<ServiceError>, who: string): Refusal {
  const said = error.metadata?.get(CODE_KEY)[0];
  const details = error.details ?? error.message ?? "no details";
  if (typeof said === "string") return refuse(said, details);
  return refuse(transportCode(error.code, details), `${who}: ${details}`);
}

/** The rank that a failed call is about, where the other side said so. */
export function rankOf(error: Partial<ServiceError>): string | undefined {
  const said = error.metadata?.get(RANK_KEY)[0];
  return typeof said === "string" ? said : undefined;
}

function transportCode(code: status | undefined, details: string): string {
  // OpenSSL's words: "certificate has expired" where we checked theirs, "alert certificate expired" where they checked ours.
  if (/certificate (has )?expired|certificate is not yet valid/.test(details)) return "ExpiredCertificate";
  if (
    /self-signed|unable to (get|verify)|certificate required|unknown ca|bad certificate|UnknownIdentity/i.test(details)
  )
    return "UnknownIdentity";
  switch (code) {
    case status.UNAVAILABLE:
      return "Unreachable";
    case status.DEADLINE_EXCEEDED:
      return "TimedOut";
    case status.CANCELLED:
      return "Cancelled";
    case status.RESOURCE_EXHAUSTED:
      return "TooLarge";
    case status.UNAUTHENTICATED:
      return "UnknownIdentity";
    default:
      return /serializ|parsing/.test(details) ? "BadFrame" : "Weather";
  }
}
