/**
 * What one submission is worth: a verdict for the usage and one for each receipt, and the session to count where the
 * chain is whole. Pure: the same submission, facts and history always give the same judgement, so anyone can judge again.
 */
import { present } from "../../core/assert.ts";
import { type Blame, NOBODY, SENDER, chainFaults } from "../../core/receipt-chain.ts";
import type { Receipt, Usage } from "../../core/statement.ts";
import { type Facts, type ModelFact, type Period, type RankFact, SLACK_SECONDS, during, periodOf } from "./facts.ts";
import { ACCEPT, type Opened, type OpenedSubmission, type Verdict, ignore, reject } from "./open.ts";
import { type Work, billedPositions, workOf } from "./settle.ts";

/** What was judged before about the same session. */
export type History = {
  /** Payload digest of the usage under which this session was counted, if it was. */
  readonly countedUsage: string | undefined;
  /** Payload digests of the receipts that were counted with it, by {@link placeOf}. */
  readonly receipts: ReadonlyMap<string, string>;
};

export const NO_HISTORY: History = { countedUsage: undefined, receipts: new Map() };

export type JudgedReceipt = {
  readonly digest: string;
  readonly bytes: Uint8Array;
  readonly verdict: Verdict;
  readonly receipt: Receipt | undefined; // undefined: no signature holds
};

/** A session that counts: its fee and who worked for it. */
export type CountedSession = {
  readonly usage: Usage;
  readonly usageDigest: string;
  readonly usageBytes: Uint8Array;
  readonly epochSeconds: number;
  readonly positionCount: number;
  readonly work: readonly (Work & { readonly digest: string })[]; // one per receipt, in chain order
};

/** Two receipts of one rank about the same span that say different things, both signed. */
export type Equivocation = {
  readonly place: string;
  readonly provider: string;
  readonly rank: string;
  readonly epoch: number;
  readonly digests: readonly [string, string]; // ascending
};

export type Judgement = {
  readonly usage: { readonly digest: string; readonly verdict: Verdict };
  readonly receipts: readonly JudgedReceipt[]; // in the order of the submission
  readonly equivocations: readonly (Equivocation & { readonly verdict: Verdict })[]; // the verdict is that of both receipts
  readonly counted: CountedSession | undefined;
};

/**
 * One rank's span of one session, by one provider: it is signed once. Attacker: a provider that writes another one's rank
 * into its receipt must not make that one look as if it had signed twice.
 */
export const placeOf = ({ session, provider, rank, span }: Receipt): string =>
  `${session.id}/${session.nonce}/${provider}/${rank}/${span.start}`;

/** `nowSeconds`: Unix time, only to refuse what lies in the future. */
export function judge(opened: OpenedSubmission, facts: Facts, history: History, nowSeconds: number): Judgement {
  const { usage } = opened;
  const usageVerdict = judgeUsage(usage, facts, history, nowSeconds);
  const gateway = usage.statement.ok ? usage.statement.value.gateway : undefined;
  // A gateway that signed the session twice may have opened it twice, and then an honest rank signs twice.
  const alsoSuspect = usageVerdict.verdict === "reject" && usageVerdict.code === "Equivocation" ? gateway : undefined;
  const equivocations = equivocationsOf(opened.receipts, history).map((found) => ({
    ...found,
    verdict: rejectBoth(found, alsoSuspect),
  }));
  const alone = opened.receipts.map((receipt) =>
    judgeAlone(receipt, usage, usageVerdict, facts, history, equivocations),
  );
  const { verdicts, counted } =
    usageVerdict.verdict === "accept" ? judgeChain(opened, alone, facts) : { verdicts: alone, counted: undefined };
  return {
    usage: { digest: usage.digest, verdict: usageVerdict },
    receipts: opened.receipts.map((receipt, index) => ({
      digest: receipt.digest,
      bytes: receipt.bytes,
      verdict: verdicts[index] ?? ignore("NotJudged", "the judgement ended before this receipt"),
      receipt: receipt.statement.ok ? receipt.statement.value : undefined,
    })),
    equivocations,
    counted,
  };
}

/** Cheapest question first, one line each: this list is the specification. */
function judgeUsage({ statement, digest }: Opened<Usage>, facts: Facts, history: History, nowSeconds: number): Verdict {
  if (!statement.ok) return statement.verdict;
  const usage = statement.value;
  const gateway: Blame = { kind: "signer", names: [`gateway/${usage.gateway}`] };
  if (history.countedUsage === digest) return ignore("AlreadyCounted", "this usage was counted before");
  if (history.countedUsage !== undefined)
    return reject(
      "Equivocation",
      `session ${usage.session.id} was counted under another usage, ${history.countedUsage}`,
      gateway,
    );
  const told = facts.models.filter(({ fact }) => fact.name === usage.model.name && fact.root === usage.model.root);
  if (told.length === 0)
    return reject(
      "UnknownModel",
      `the plan never had a model ${usage.model.name} with root ${usage.model.root}`,
      gateway,
    );
  const model = modelOf(usage, facts);
  if (model === undefined)
    return reject(
      "WrongModelFacts",
      `in epoch ${usage.epoch} the plan had ${usage.model.name} with other layers or another price`,
      gateway,
    );
  const { startSeconds } = periodOf(usage.epoch, model.epochSeconds);
  if (startSeconds > nowSeconds + SLACK_SECONDS)
    return reject("EpochNotYet", `epoch ${usage.epoch} begins ${startSeconds - nowSeconds} s from now`, gateway);
  return ACCEPT;
}

/** The model as it was planned when the session ran, with the price and the layers that the usage names. */
function modelOf(usage: Usage, facts: Facts): ModelFact | undefined {
  const { name, root, layerCount } = usage.model;
  return facts.models
    .filter(({ fact }) => fact.name === name && fact.root === root && fact.layerCount === layerCount)
    .filter(({ fact }) => fact.price === usage.priceMicroCreditsPerMillionTokens)
    .find((sighting) => during([sighting], periodOf(usage.epoch, sighting.fact.epochSeconds)).length > 0)?.fact;
}

/** A receipt by itself, before its neighbours are asked. */
function judgeAlone(
  opened: Opened<Receipt>,
  usage: Opened<Usage>,
  usageVerdict: Verdict,
  facts: Facts,
  history: History,
  equivocations: Judgement["equivocations"],
): Verdict {
  if (!opened.statement.ok) return opened.statement.verdict;
  const receipt = opened.statement.value;
  const signer: Blame = { kind: "signer", names: [`provider/${receipt.provider}`] };
  const equivocation = equivocations.find(({ digests }) => digests.includes(opened.digest));
  if (equivocation !== undefined) return equivocation.verdict;
  if (history.countedUsage !== undefined && history.receipts.get(placeOf(receipt)) === opened.digest)
    return ignore("AlreadyCounted", "this receipt was counted before");
  if (usageVerdict.verdict !== "accept" || !usage.statement.ok)
    return ignore("NoUsage", "no valid usage stands behind this receipt");
  if (!usage.statement.value.receipts.includes(opened.digest))
    return reject("NotListed", "the usage does not list this receipt", SENDER);
  const model = modelOf(usage.statement.value, facts);
  if (model === undefined) return ignore("NoUsage", "the usage's model is not planned");
  const period = periodOf(usage.statement.value.epoch, model.epochSeconds);
  const admitted = during(facts.providers, period).some(({ name, admitted }) => name === receipt.provider && admitted);
  if (!admitted)
    return reject("NotAdmitted", `provider ${receipt.provider} was not admitted in epoch ${receipt.epoch}`, signer);
  return judgePlace(receipt, facts, period);
}

/** What the receipt says it held, against what the plan says it was to hold. */
function judgePlace(receipt: Receipt, facts: Facts, period: Period): Verdict {
  const planned = during(facts.ranks, period).filter(
    ({ name, root }) => name === receipt.rank && root === receipt.model.root,
  );
  // The ledger may have been away while a short-lived plan was told: not knowing a rank convicts nobody.
  if (planned.length === 0)
    return reject("NotPlanned", `no plan of epoch ${receipt.epoch} had the rank ${receipt.rank}`, NOBODY);
  if (planned.some((fact) => fits(receipt, fact))) return ACCEPT;
  const [fact] = planned;
  const said = sayHolding({ ...receipt, ...receipt.shard });
  const blame: Blame = { kind: "signer", names: [`provider/${receipt.provider}`] };
  return reject(
    "WrongShard",
    `${receipt.rank} says ${said}; the plan says ${fact === undefined ? "nothing" : sayHolding(fact)}`,
    blame,
  );
}

const fits = (receipt: Receipt, fact: RankFact): boolean =>
  receipt.provider === fact.provider &&
  receipt.node === fact.node &&
  receipt.shard.layers.start === fact.layers.start &&
  receipt.shard.layers.end === fact.layers.end &&
  receipt.shard.rankIndex === fact.rankIndex &&
  receipt.shard.rankCount === fact.rankCount &&
  receipt.shard.shareMillionths === fact.shareMillionths;

type Holding = Pick<RankFact, "provider" | "node" | "layers" | "rankIndex" | "rankCount" | "shareMillionths">;

const sayHolding = ({ provider, node, layers, rankIndex, rankCount, shareMillionths }: Holding): string =>
  `${provider} on ${node}, layers [${layers.start},${layers.end}), rank ${rankIndex} of ${rankCount}, ${shareMillionths} millionths`;

const rejectBoth = ({ provider, rank, digests }: Equivocation, gateway: string | undefined): Verdict =>
  reject("Equivocation", `${rank} signed two receipts for the same span: ${digests.join(" and ")}`, {
    kind: gateway === undefined ? "signer" : "unclear",
    names: [`provider/${provider}`, ...(gateway === undefined ? [] : [`gateway/${gateway}`])],
  });

/** De-duplicated: the same bytes twice are one receipt. */
function equivocationsOf(receipts: readonly Opened<Receipt>[], history: History): readonly Equivocation[] {
  const seen = new Map(history.receipts);
  const found: Equivocation[] = [];
  for (const { statement, digest } of receipts) {
    if (!statement.ok) continue;
    const { provider, rank, epoch } = statement.value;
    const place = placeOf(statement.value);
    const before = seen.get(place);
    if (before === undefined) seen.set(place, digest);
    else if (before !== digest)
      found.push({ place, provider, rank, epoch, digests: before < digest ? [before, digest] : [digest, before] });
  }
  return found;
}

/** The listed receipts as a chain. One that is convicted already takes part by what the plan says it held, and is not paid. */
function judgeChain(
  opened: OpenedSubmission,
  alone: readonly Verdict[],
  facts: Facts,
): { readonly verdicts: readonly Verdict[]; readonly counted: CountedSession | undefined } {
  const { statement } = opened.usage;
  if (!statement.ok) return { verdicts: alone, counted: undefined };
  const usage = statement.value;
  const incomplete = (why: string) => ({
    verdicts: alone.map((verdict) => (verdict.verdict === "accept" ? ignore("IncompleteChain", why) : verdict)),
    counted: undefined,
  });
  const places = usage.receipts.map((digest) =>
    opened.receipts.findIndex((receipt) => receipt.digest === digest && receipt.statement.ok),
  );
  const missing = places.indexOf(-1);
  if (missing >= 0) return incomplete(`receipt ${missing} that the usage lists is missing or not validly signed`);
  if (new Set(places).size !== places.length) return incomplete("the usage lists one receipt twice");
  const model = present(modelOf(usage, facts), "a usage that was accepted names a planned model");
  const planned = during(facts.ranks, periodOf(usage.epoch, model.epochSeconds));
  const chain = places.flatMap((place) => {
    const found = opened.receipts[place];
    return found?.statement.ok
      ? [{ place, digest: found.digest, receipt: asPlanned(found.statement.value, alone[place], planned) }]
      : [];
  });
  const faults = chainFaults(
    chain.map(({ receipt }) => receipt),
    usage,
  );
  const broken = faults.find(({ code }) => code === "IncompleteChain");
  if (broken !== undefined) return incomplete(broken.detail);
  const verdicts = [...alone];
  chain.forEach(({ place }, index) => {
    const fault = faults.find(({ suspects }) => suspects.includes(index));
    if (fault !== undefined && verdicts[place]?.verdict === "accept")
      verdicts[place] = reject(fault.code, fault.detail, fault.blame);
  });
  const positionCount = billedPositions(usage);
  const work = chain.map(({ place, digest, receipt }) => ({
    ...workOf(receipt, positionCount, verdicts[place]?.verdict === "accept" ? "verified" : "withheld"),
    digest,
  }));
  const { digest: usageDigest, bytes: usageBytes } = opened.usage;
  return {
    verdicts,
    counted: { usage, usageDigest, usageBytes, epochSeconds: model.epochSeconds, positionCount, work },
  };
}

function asPlanned(receipt: Receipt, verdict: Verdict | undefined, planned: readonly RankFact[]): Receipt {
  if (verdict?.verdict !== "reject" || verdict.code !== "WrongShard") return receipt;
  const fact = planned.find(({ name, root }) => name === receipt.rank && root === receipt.model.root);
  if (fact === undefined) return receipt;
  const { layers, rankIndex, rankCount, shareMillionths } = fact;
  return { ...receipt, shard: { ...receipt.shard, layers, rankIndex, rankCount, shareMillionths } };
}
