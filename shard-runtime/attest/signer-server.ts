/**
 * The node agent's signer, thin: it alone holds the provider's key, on a unix socket of its own, and parses nothing that
 * comes from a network. It signs receipts that name its own provider and node, and that the provider offers that node,
 * and nothing else.
 */
import { chmodSync, chownSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { Server, ServerCredentials, type sendUnaryData, type ServerUnaryCall } from "@grpc/grpc-js";
import { IN_TOTO_PAYLOAD_TYPE, envelopeBytes, signEnvelope } from "../../core/dsse.ts";
import type { IdentifyRequest__Output } from "../../core/gen/proto/tessellate/signer/v1/IdentifyRequest.ts";
import type { SignReply } from "../../core/gen/proto/tessellate/signer/v1/SignReply.ts";
import type { SignRequest__Output } from "../../core/gen/proto/tessellate/signer/v1/SignRequest.ts";
import type { SignerIdentity } from "../../core/gen/proto/tessellate/signer/v1/SignerIdentity.ts";
import type { SigningKey } from "../../core/keys.ts";
import { parseOffer } from "../../core/offer.ts";
import { type Result, ok, refuse } from "../../core/result.ts";
import { parseReceipt } from "../../core/statement.ts";
import { SERVER_OPTIONS } from "../../core/wire/options.ts";
import { loadService } from "../../core/wire/proto.ts";
import { refusalStatus } from "../../core/wire/status.ts";

export type SignerOptions = {
  readonly provider: string;
  readonly node?: string; // left out: any of the provider's, as the one who is let at the socket says
  readonly key: SigningKey;
  readonly target: string; // unix:/path, or host:port on loopback
  readonly groupId?: number; // of the socket; left out, this process' own
};

/** sockaddr_un's path on Linux, less its end; on macOS it is 103. */
const SOCKET_PATH_BYTES_MAX = 107;

export type Signer = { readonly address: string; readonly close: () => Promise<void> };

/** Whether this signer signs the payload, or why not (`WrongPayloadType`, `NotMine`, the codes of parseReceipt). */
export function maySign(
  own: Pick<SignerOptions, "provider" | "node">,
  payloadType: string,
  payload: Uint8Array,
): Result<undefined> {
  if (payloadType !== IN_TOTO_PAYLOAD_TYPE) {
    return refuse(
      "WrongPayloadType",
      `a node's signer signs ${IN_TOTO_PAYLOAD_TYPE} only, not ${JSON.stringify(payloadType)}`,
    );
  }
  const offer = parseOffer(payload);
  const signed = offer.ok ? offer : parseReceipt(payload);
  if (!signed.ok) return signed;
  const { provider, node } = signed.value;
  // Attacker: a rank of one node that wants another's name on what it computed, or on what it did not.
  if (provider === own.provider && (own.node ?? node) === node) return ok(undefined);
  const what = offer.ok ? "offer" : "receipt";
  const mine = own.node === undefined ? own.provider : `${own.provider}/${own.node}`;
  return refuse("NotMine", `the ${what} names ${provider}/${node}; this signer is ${mine}'s`);
}

/** Serves until closed. Throws weather where the target cannot be bound, naming it. */
export async function startSigner(options: SignerOptions): Promise<Signer> {
  const { provider, node, key, target } = options;
  const own = { provider, ...(node === undefined ? {} : { node }) };
  const path = target.startsWith("unix:") ? target.slice("unix:".length) : undefined;
  if (path !== undefined) await clearSocket(path);
  const server = new Server(SERVER_OPTIONS);
  server.addService(loadService("Signer").service, {
    Identify: (_: ServerUnaryCall<IdentifyRequest__Output, SignerIdentity>, callback: sendUnaryData<SignerIdentity>) =>
      callback(null, { ...own, publicKey: key.publicKey.spki, keyId: key.publicKey.keyId }),
    Sign: (call: ServerUnaryCall<SignRequest__Output, SignReply>, callback: sendUnaryData<SignReply>) => {
      const { payloadType, payload } = call.request;
      const may = maySign(own, payloadType, payload);
      if (!may.ok) return callback(refusalStatus(may));
      callback(null, { envelope: Buffer.from(envelopeBytes(signEnvelope(payloadType, payload, key))) });
    },
  });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(target, ServerCredentials.createInsecure(), (error, bound) =>
      error === null
        ? resolve(bound)
        : reject(new Error(`the signer cannot listen on ${target}: ${error.message}`, { cause: error })),
    );
  });
  // Group as well as owner: ranks run as another user than the node agent.
  if (path !== undefined) {
    if (options.groupId !== undefined) chownSync(path, -1, options.groupId);
    chmodSync(path, 0o660);
  }
  return {
    address: path === undefined ? target.replace(/:\d+$/, `:${port}`) : target,
    close: () =>
      new Promise((resolve) => {
        server.tryShutdown(() => {
          if (path !== undefined) rmSync(path, { force: true });
          resolve();
        });
      }),
  };
}

/** Removes what a killed signer left; throws where one still answers, whose ranks would be cut off without a word. */
async function clearSocket(path: string): Promise<void> {
  if (Buffer.byteLength(path) > SOCKET_PATH_BYTES_MAX)
    throw new Error(`the signer cannot listen on ${path}: a socket's path has at most ${SOCKET_PATH_BYTES_MAX} bytes`);
  const answers = await new Promise<boolean>((resolve) => {
    const socket = connect(path, () => resolve(true));
    socket.on("error", () => resolve(false));
    socket.unref();
    socket.on("connect", () => socket.destroy());
  });
  if (answers) throw new Error(`the signer cannot listen on ${path}: another signer is there; stop it first`);
  rmSync(path, { force: true });
}
