/** What a plan promises in one line, and who is left out of it and why. */
import { formatBytes } from "../../../core/units.ts";
import type { LeftOut, ModelSpec, Placement } from "../types.ts";
import { countOf, formatMillis, formatPrice, formatRate } from "./figures.ts";
import { type Line, wrapPieces, wrapText } from "./lines.ts";
import type { Known } from "./times.ts";
import { countsOf } from "./view.ts";

/** `Qwen3-8B`: what the source calls the model; undefined where that is the ShardedModel's own name. */
export function checkpointName({ source, name }: ModelSpec): string | undefined {
  const whole =
    "path" in source
      ? source.path
      : "url" in source
        ? source.url
        : "huggingFace" in source
          ? source.huggingFace.repo
          : source.persistentVolumeClaim.path;
  const last = (whole ?? "").split(/[/?#]/).filter(Boolean).at(-1);
  return last === undefined || last === name ? undefined : last;
}

/** The pieces of the headline: `assistant`, `Qwen3-8B int4`, `36 layers`, `2 chains`, the estimate, the bottleneck. */
export function headlinePieces({ model, facts }: Known, placement: Placement): readonly string[] {
  const { chainCount } = countsOf(placement);
  return [
    model.name,
    [checkpointName(model), model.quantization].filter(Boolean).join(" "),
    ...(model.kvDtype === "f32" ? [] : [`KV in ${model.kvDtype}`]),
    countOf(facts.config.layerCount, "layer"),
    countOf(chainCount, "chain"),
    ...estimatePieces(placement),
  ];
}

/** `61.3 tok/s, 43 ms/token`, `0.42 credits/h`, `bottleneck: garage-3`. */
export function estimatePieces({ estimate }: Placement): readonly string[] {
  const { tokensPerSecond, millisecondsPerToken, pricePerHour, bottleneck, isEstimated } = estimate;
  const about = isEstimated === true ? "~" : "";
  const time = `${about}${formatMillis(millisecondsPerToken)}/token`;
  const rate = tokensPerSecond === undefined ? "" : `${about}${formatRate(tokensPerSecond)} tok/s, `;
  const price =
    pricePerHour === undefined || pricePerHour === 0n
      ? []
      : [`${formatPrice(pricePerHour)} credits/h${perMillion(pricePerHour, tokensPerSecond)}`];
  return [`${rate}${time}`, ...price, ...(bottleneck === "" ? [] : [`bottleneck: ${bottleneck}`])];
}

function perMillion(pricePerHour: bigint, tokensPerSecond: number | undefined): string {
  if (tokensPerSecond === undefined || tokensPerSecond <= 0) return "";
  return ` = ${formatPrice((Number(pricePerHour) * 1e6) / (3600 * tokensPerSecond))} per million tokens`;
}

export const headlineText = (world: Known, placement: Placement): string =>
  headlinePieces(world, placement).join(" · ");

export function headlineLines(world: Known, placement: Placement, width: number): readonly Line[] {
  const pieces = headlinePieces(world, placement).map(
    (text, index): Line => [index === 0 ? { text, tone: "strong" } : { text }],
  );
  return wrapPieces(pieces, { width, separator: " · ", first: [], rest: "  " });
}

/** `left out  attic-1, attic-2: the node does not answer`: every node once, those of one reason together. */
export function leftOutLines(leftOut: readonly LeftOut[], width: number): readonly Line[] {
  const rest = " ".repeat(LEFT_OUT.length);
  return reasonsOf(leftOut).flatMap(({ nodes, why }, index) =>
    wrapText(`${nodes.join(", ")}: ${why}`, width, [{ text: index === 0 ? LEFT_OUT : rest }], rest),
  );
}

const LEFT_OUT = "left out  ";

/** Left-out nodes by reason, in the order in which the reasons first come. */
export function reasonsOf(leftOut: readonly LeftOut[]) {
  const reasons = new Map<string, { readonly code: string; readonly why: string; readonly nodes: string[] }>();
  for (const { node, code, why } of leftOut) {
    const key = `${code} ${why}`;
    const reason = reasons.get(key);
    if (reason === undefined) reasons.set(key, { code, why, nodes: [node] });
    else reason.nodes.push(node);
  }
  return [...reasons.values()];
}

/** `5 ranks on 4 nodes of 3 providers, 2 chains, 12.4 GiB of weights`. */
export function extentText(placement: Placement): string {
  const { chainCount, rankCount, nodeCount, providerCount, weightBytes } = countsOf(placement);
  const where = `${countOf(rankCount, "rank")} on ${countOf(nodeCount, "node")} of ${countOf(providerCount, "provider")}`;
  return `${where}, ${countOf(chainCount, "chain")}, ${formatBytes(weightBytes)} of weights`;
}
