/** The gateway's door to the ranks over gRPC, behind the types of types.ts. */
import type { FileChunk__Output } from "../../core/gen/proto/tessellate/shard/v1/FileChunk.ts";
import type { OpenReply__Output } from "../../core/gen/proto/tessellate/shard/v1/OpenReply.ts";
import { type Result, ok, refuse } from "../../core/result.ts";
import { ask } from "../../core/wire/door.ts";
import { refusalOf } from "../../core/wire/status.ts";
import type { Tls } from "../../core/wire/tls.ts";
import { RankSession, closeRanks } from "./rank-session.ts";
import { Ranks } from "./step-stream.ts";
import type { RankAddress, Session, SessionRequest, Wire } from "./types.ts";

const OPEN_TIMEOUT_MS = 10_000;
const FILE_TIMEOUT_MS = 60_000;
/** Bytes of the largest file that is read from a rank: manifests and tokenizers, never weights. */
const FILE_BYTES_MAX = 64 << 20;

export function createWire(tls: Tls): Wire {
  const ranks = new Ranks(tls);
  return {
    open: (request) => open(ranks, request),
    readFile: (rank, path) => readFile(ranks, rank, path),
    close: async () => ranks.close(),
  };
}

async function open(ranks: Ranks, request: SessionRequest): Promise<Result<Session>> {
  const chain = request.chain.map((segment) => ({ layers: segment.layers, ranks: [...segment.ranks] }));
  const replies = await Promise.all(
    request.chain.flatMap((segment, segmentIndex) =>
      segment.ranks.map(async (rank, rankIndex) => {
        const opened = await ask<OpenReply__Output>(`rank ${rank.name}`, OPEN_TIMEOUT_MS, (options, callback) =>
          ranks.client(rank).Open(
            {
              session: request.id,
              nonce: request.nonce,
              modelRoot: request.modelRoot,
              chain,
              segmentIndex,
              rankIndex,
              sampler: request.sampler,
              maxPositions: request.maxPositions,
              handOffDtype: request.handOffDtype,
              epoch: request.epoch,
            },
            options,
            callback,
          ),
        );
        return { rank, opened };
      }),
    ),
  );
  for (const { rank, opened } of replies) {
    if (opened.ok) continue;
    await closeRanks(
      ranks,
      request,
      "failed",
      0,
      new Set(replies.flatMap(({ rank, opened }) => (mayBeOpen(opened) ? [rank] : []))),
    );
    const detail = opened.detail.includes(rank.name) ? opened.detail : `rank ${rank.name}: ${opened.detail}`;
    return refuse(opened.code, detail);
  }
  return ok(new RankSession(ranks, request));
}

/** Whether a rank may hold the session after this reply: one that refused, or was never reached, does not. */
const mayBeOpen = (opened: Result<unknown>): boolean => opened.ok || opened.code === "TimedOut";

function readFile(ranks: Ranks, rank: RankAddress, path: string): Promise<Result<Uint8Array>> {
  return new Promise((resolve) => {
    const call = ranks.client(rank).ReadFile({ path }, { deadline: Date.now() + FILE_TIMEOUT_MS });
    const parts: Uint8Array[] = [];
    let byteCount = 0;
    call.on("data", ({ data }: FileChunk__Output) => {
      byteCount += data.byteLength;
      if (byteCount <= FILE_BYTES_MAX) {
        parts.push(data);
        return;
      }
      // Attacker: a rank that streams without end would fill the gateway's memory.
      resolve(refuse("TooLarge", `rank ${rank.name}: ${path} is larger than ${FILE_BYTES_MAX} bytes`));
      call.cancel();
    });
    call.on("error", (error) => resolve(refusalOf(error, `rank ${rank.name}`)));
    call.on("end", () => resolve(ok(Buffer.concat(parts))));
  });
}
