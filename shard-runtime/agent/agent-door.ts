/**
 * What the agent answers, over mTLS: the operator looks at it, agents of other machines measure the way to it, ranks have
 * their receipts signed. It never holds the provider's key: the signer, a process of its own that no network reaches, does.
 */
import type { ServerUnaryCall, UntypedServiceImplementation } from "@grpc/grpc-js";
import { envelopeBytes } from "../../core/dsse.ts";
import type { EchoReply } from "../../core/gen/proto/tessellate/agent/v1/EchoReply.ts";
import type { EchoRequest__Output } from "../../core/gen/proto/tessellate/agent/v1/EchoRequest.ts";
import type { LookReply } from "../../core/gen/proto/tessellate/agent/v1/LookReply.ts";
import type { LookRequest__Output } from "../../core/gen/proto/tessellate/agent/v1/LookRequest.ts";
import type { NodeReport } from "../../core/gen/proto/tessellate/agent/v1/NodeReport.ts";
import type { OfferedNode__Output } from "../../core/gen/proto/tessellate/agent/v1/OfferedNode.ts";
import type { IdentifyRequest__Output } from "../../core/gen/proto/tessellate/signer/v1/IdentifyRequest.ts";
import type { SignReply } from "../../core/gen/proto/tessellate/signer/v1/SignReply.ts";
import type { SignRequest__Output } from "../../core/gen/proto/tessellate/signer/v1/SignRequest.ts";
import type { SignerIdentity } from "../../core/gen/proto/tessellate/signer/v1/SignerIdentity.ts";
import { type Identity, nodeIn } from "../../core/identity.ts";
import { type Result, ok, refuse } from "../../core/result.ts";
import { parseReceipt } from "../../core/statement.ts";
import { answer } from "../../core/wire/peer.ts";
import type { Keys } from "../attest/keys.ts";
import type { FoundDevice } from "./devices.ts";
import type { Measuring, Part } from "./measuring.ts";
import type { OfferBook } from "./offers.ts";

export type AgentOptions = {
  readonly provider: string;
  readonly machine: string;
  readonly keys: Keys;
  readonly offers: OfferBook;
  readonly measuring: Pick<Measuring, "told" | "figuresOf" | "ageMsOf" | "links" | "doing">;
  readonly devices: () => readonly FoundDevice[];
  readonly wallMs: () => number;
  readonly onLook: () => void;
  readonly onSigned: (result: "signed" | "refused") => void;
};

const ECHO_BYTES_MAX = 4 << 20;

export function agentHandlers(options: AgentOptions): UntypedServiceImplementation {
  return {
    Look: answer<LookRequest__Output, LookReply>(
      ({ kind }) => kind === "operator",
      (request) => look(options, request),
    ),
    Echo: answer<EchoRequest__Output, EchoReply>(
      ({ kind }) => kind === "agent",
      ({ payload }) =>
        payload.length <= ECHO_BYTES_MAX
          ? ok({ byteCount: payload.length })
          : refuse("TooLarge", `an echo of ${payload.length} bytes; at most ${ECHO_BYTES_MAX} are answered`),
    ),
  };
}

/** The signer's own service, for ranks of this agent's node alone; their certificates say who and where they are. */
export function signerHandlers({ provider, keys, onSigned }: AgentOptions): UntypedServiceImplementation {
  const isRank = ({ kind }: Identity) => kind === "rank";
  return {
    Identify: answer<IdentifyRequest__Output, SignerIdentity>(isRank, async (_, __, call) => {
      const node = nodeOf(call);
      if (!node.ok) return node;
      const key = await keys.identify();
      if (!key.ok) return key;
      return ok({ provider, node: node.value, publicKey: key.value.spki, keyId: key.value.keyId });
    }),
    Sign: answer<SignRequest__Output, SignReply>(isRank, async ({ payload }, caller, call) => {
      const node = nodeOf(call);
      const may = node.ok ? mayHaveSigned(payload, { provider, node: node.value, rank: caller.name }) : node;
      const signed = may.ok ? await keys.sign(payload) : may;
      onSigned(signed.ok ? "signed" : "refused");
      return signed.ok ? ok({ envelope: Buffer.from(envelopeBytes(signed.value)) }) : signed;
    }),
  };
}

/** Whether a rank may have this signed: a receipt in which it is named itself, on its own node. */
export function mayHaveSigned(
  payload: Uint8Array,
  own: { readonly provider: string; readonly node: string; readonly rank: string },
): Result<undefined> {
  const receipt = parseReceipt(payload);
  if (!receipt.ok) return receipt;
  const { provider, node, rank } = receipt.value;
  // Attacker: a rank that wants another's work, or another's name on its own.
  if (provider === own.provider && node === own.node && rank === own.rank) return ok(undefined);
  return refuse(
    "NotMine",
    `the receipt names ${rank} on ${provider}/${node}, and its sender is ${own.rank} on ${own.provider}/${own.node}`,
  );
}

type Named = Pick<ServerUnaryCall<unknown, unknown>, "getAuthContext">;

function nodeOf(call: Named): Result<string> {
  const node = nodeIn(call.getAuthContext().sslPeerCertificate?.subjectaltname);
  if (node !== undefined) return ok(node);
  return refuse(
    "NotMine",
    "the rank's certificate names no node: it was made before nodes had agents; replace the rank",
  );
}

async function look(options: AgentOptions, { nodes, peers }: LookRequest__Output): Promise<Result<LookReply>> {
  const { provider, machine, measuring, devices } = options;
  options.onLook();
  const own = nodes.filter((node) => node.provider === provider);
  measuring.told(own.map(partOf), peers);
  return ok({
    machine,
    provider,
    nodes: await Promise.all(nodes.map((node) => reportOf(options, node))),
    devices: devices().map(({ kind, name, memoryBytes = 0, freeBytes = 0 }) => ({
      kind,
      name,
      memoryBytes,
      freeBytes,
    })),
    doing: measuring.doing,
  });
}

const partOf = ({ device, threads }: OfferedNode__Output): Part => ({ device, threadCount: threads });

async function reportOf(options: AgentOptions, node: OfferedNode__Output): Promise<NodeReport> {
  const { provider, offers, measuring, wallMs } = options;
  const { name } = node;
  // Attacker: whoever writes ShardNodes names another provider's for this machine; the key here speaks for one only.
  if (node.provider !== provider)
    return {
      name,
      code: "NotMine",
      detail: `this agent is ${provider}'s, and ${name} is said to be ${node.provider}'s`,
    };
  const offer = await offers.of(name);
  const signed = offer.ok ? { offer: offer.value } : { code: offer.code, detail: offer.detail };
  const figures = measuring.figuresOf(partOf(node));
  const links = measuring.links().filter(({ to }) => to !== name);
  if (figures === undefined && links.length === 0) return { name, ...signed };
  const { memoryBytesPerSecond = 0, layerTimes } = figures ?? {};
  const measured = {
    time: new Date(wallMs() - measuring.ageMsOf(partOf(node))).toISOString(),
    memoryBytesPerSecond: Math.round(memoryBytesPerSecond),
    ...(layerTimes === undefined ? {} : { layerTimes: { ...layerTimes, bytes: Math.round(layerTimes.bytes) } }),
    links,
  };
  return { name, ...signed, measured };
}
