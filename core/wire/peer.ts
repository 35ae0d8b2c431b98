/**
 * Who calls, and may they? Every handler of ours is wrapped by one of these, so that no request is looked at before its
 * sender is known.
 */
import type {
  ServerDuplexStream,
  ServerUnaryCall,
  ServerWritableStream,
  handleBidiStreamingCall,
  handleServerStreamingCall,
  handleUnaryCall,
} from "@grpc/grpc-js";
import { Bug } from "../assert.ts";
import { type Identity, identityUri, parseIdentity } from "../identity.ts";
import { type Refusal, RefusalError, type Result, ok, refuse } from "../result.ts";
import { refusalStatus } from "./status.ts";
import { uriOf } from "./tls.ts";

type Named = { getAuthContext(): { readonly sslPeerCertificate?: { readonly subjectaltname?: string | undefined } } };
export type Allow = (caller: Identity) => boolean;

/** Who the certificate of a call's sender says it is; the handshake has checked that our CA signed it. */
export function peerIdentity(call: Named): Result<Identity, "UnknownIdentity"> {
  const uri = uriOf(call.getAuthContext().sslPeerCertificate?.subjectaltname);
  if (uri === undefined) return refuse("UnknownIdentity", "the caller's certificate names no single URI identity");
  return parseIdentity(uri);
}

/** The caller, where `allow` says yes; `NotMyNeighbour` where it is somebody of ours who has no business here. */
export function authorize(call: Named, allow: Allow): Result<Identity, "UnknownIdentity" | "NotMyNeighbour"> {
  const caller = peerIdentity(call);
  if (!caller.ok) return caller;
  if (allow(caller.value)) return ok(caller.value);
  return refuse(
    "NotMyNeighbour",
    `${identityUri(caller.value)} has no business with this door; check the plan's neighbours`,
  );
}

/** A unary handler. A refusal becomes the call's status; weather inside becomes `Weather` without its cause. */
export function answer<Request, Reply>(
  allow: Allow,
  handle: (
    request: Request,
    caller: Identity,
    call: ServerUnaryCall<Request, Reply>,
  ) => Promise<Result<Reply>> | Result<Reply>,
): handleUnaryCall<Request, Reply> {
  return (call, callback) => {
    const caller = authorize(call, allow);
    if (!caller.ok) return callback(refusalStatus(caller));
    Promise.resolve()
      .then(() => handle(call.request, caller.value, call))
      .then(
        (result) => (result.ok ? callback(null, result.value) : callback(refusalStatus(result))),
        (error: unknown) => callback(refusalStatus(refusalFrom(error))),
      );
  };
}

/** A server-streaming handler; it writes and ends the call itself, or ends it with {@link endRefused}. */
export function stream<Request, Reply>(
  allow: Allow,
  handle: (call: ServerWritableStream<Request, Reply>, caller: Identity) => void,
): handleServerStreamingCall<Request, Reply> {
  return (call) => {
    call.on("error", () => {}); // a caller that goes away is no error of ours; "cancelled" says the same
    const caller = authorize(call, allow);
    if (!caller.ok) return endRefused(call, caller);
    handle(call, caller.value);
  };
}

/** A bidirectional handler, as {@link stream}. */
export function exchange<Request, Reply>(
  allow: Allow,
  handle: (call: ServerDuplexStream<Request, Reply>, caller: Identity) => void,
): handleBidiStreamingCall<Request, Reply> {
  return (call) => {
    call.on("error", () => {});
    const caller = authorize(call, allow);
    if (!caller.ok) return endRefused(call, caller);
    handle(call, caller.value);
  };
}

/** Ends a stream with a refusal as its status; `rank`: whom it is about, where that is not us. */
export function endRefused(
  call: { emit(event: "error", error: unknown): boolean },
  refusal: Refusal,
  rank?: string,
): void {
  call.emit("error", refusalStatus(refusal, rank));
}

/** A thrown thing as a refusal; a Bug is thrown on, where nothing catches it and the process ends. */
export function refusalFrom(error: unknown): Refusal {
  if (error instanceof RefusalError) return refuse(error.code, error.message);
  if (error instanceof Bug)
    process.nextTick(() => {
      throw error;
    });
  return refuse("Weather", "something this process depends on failed; its log says what");
}
