/** The Keys door: who signs a rank's receipts. The rank itself never holds the provider's key. */
import { closeClient, credentials } from "@grpc/grpc-js";
import { present } from "../../core/assert.ts";
import { type Envelope, IN_TOTO_PAYLOAD_TYPE, openEnvelope, parseEnvelope, signEnvelope } from "../../core/dsse.ts";
import type { SignReply__Output } from "../../core/gen/proto/tessellate/signer/v1/SignReply.ts";
import type { SignerIdentity__Output } from "../../core/gen/proto/tessellate/signer/v1/SignerIdentity.ts";
import { type PublicKey, type SigningKey, parsePublicKey } from "../../core/keys.ts";
import { AGENT } from "../../core/identity.ts";
import { type Result, ok, refuse } from "../../core/result.ts";
import { ask, dial } from "../../core/wire/door.ts";
import { CHANNEL_OPTIONS } from "../../core/wire/options.ts";
import { type Client, loadService } from "../../core/wire/proto.ts";
import type { Tls } from "../../core/wire/tls.ts";

export interface Keys {
  /** The key that receipts will be signed with; `SignerMismatch` where the signer is another provider's or node's. */
  identify(): Promise<Result<PublicKey>>;
  /** The payload of a receipt in a signed envelope. Refused where the signer refuses, or gives a signature that does not hold. */
  sign(payload: Uint8Array): Promise<Result<Envelope>>;
  close(): void;
}

const TIMEOUT_MS = 5_000;

const AGENT_SCHEME = "mtls:";

/**
 * The node's signer at `unix:/path` or `host:port`, or the node agent that stands before it at `mtls:host:port`, for
 * which `tls` is needed. The socket's file permissions, or the rank's certificate, say who may ask; what is signed is
 * public in any case, and the signer signs nothing that names another provider or node.
 */
export function signerKeys(
  target: string,
  expected: { readonly provider: string; readonly node: string },
  tls?: Tls,
): Keys {
  const client = clientOf(target, tls);
  const who = `the signer at ${target}`;
  let known: PublicKey | undefined;
  const identify = async (): Promise<Result<PublicKey>> => {
    const reply = await ask<SignerIdentity__Output>(who, TIMEOUT_MS, (options, callback) =>
      client.Identify({}, options, callback),
    );
    if (!reply.ok) return reply;
    const { provider, node, publicKey } = reply.value;
    if (provider !== expected.provider || node !== expected.node) {
      return refuse(
        "SignerMismatch",
        `${who} signs for ${provider}/${node}, and this rank is ${expected.provider}/${expected.node}'s`,
      );
    }
    const key = parsePublicKey(publicKey, who);
    if (key.ok) known = key.value;
    return key;
  };
  return {
    identify,
    sign: async (payload) => {
      const key = known === undefined ? await identify() : ok(known);
      if (!key.ok) return key;
      const reply = await ask<SignReply__Output>(who, TIMEOUT_MS, (options, callback) =>
        client.Sign({ payloadType: IN_TOTO_PAYLOAD_TYPE, payload }, options, callback),
      );
      if (!reply.ok) return reply;
      const envelope = parseEnvelope(reply.value.envelope);
      if (!envelope.ok) return envelope;
      const opened = openEnvelope(envelope.value, key.value);
      if (opened.ok && Buffer.compare(opened.value, payload) === 0) return envelope;
      known = undefined; // a signer that was started anew may have another key
      return refuse("BadSignature", `${who} gave a signature that does not hold for what it was asked to sign`);
    },
    close: () => closeClient(client),
  };
}

function clientOf(target: string, tls: Tls | undefined): Client<"Signer"> {
  if (target.startsWith(AGENT_SCHEME)) {
    const own = present(tls, "a signer behind mTLS is asked with certificates");
    return dial("Signer", target.slice(AGENT_SCHEME.length), own, AGENT);
  }
  const Constructor = loadService("Signer");
  return new Constructor(target, credentials.createInsecure(), CHANNEL_OPTIONS);
}

/** Signs with a key at hand: for tests, which have no node agent. */
export const heldKeys = (key: SigningKey): Keys => ({
  identify: () => Promise.resolve(ok(key.publicKey)),
  sign: (payload) => Promise.resolve(ok(signEnvelope(IN_TOTO_PAYLOAD_TYPE, payload, key))),
  close: () => {},
});
