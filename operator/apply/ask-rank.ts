/** A rank that starts, in its own words: its pod's status knows only that a probe failed. */
import { parseProgress } from "../../core/read-progress.ts";
import type { RankWords } from "./kube-cluster.ts";

const ASK_TIMEOUT_MS = 1_000;
const ANSWER_LENGTH_MAX = 500;

/**
 * A rank's `/readyz`: one line that says why it is not ready, and how far it has read. Best effort; the pod's status has
 * the word that counts.
 */
export async function askRank(metricsAddress: string): Promise<RankWords | undefined> {
  try {
    const response = await fetch(`http://${metricsAddress}/readyz`, { signal: AbortSignal.timeout(ASK_TIMEOUT_MS) });
    const text = (await response.text()).trim();
    // Attacker: a rank runs on somebody else's machine; what it says is shown to people, cut short and on one line.
    if (response.ok || text === "") return undefined;
    const progress = parseProgress((name) => response.headers.get(name));
    const detail = text.slice(0, ANSWER_LENGTH_MAX).replace(/\p{Cc}+/gu, " ");
    return { detail, ...(progress === undefined ? {} : { progress }) };
  } catch {
    return undefined;
  }
}
